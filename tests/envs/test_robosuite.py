"""robosuite's tasks: observations, episodes and scripted experts in the simulator itself.

They need the extra `robosuite` and robosuite itself; see README.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastifo.data.formats.robosuite import DEFAULTS
from fastifo.envs.backends import robosuite as backend
from fastifo.envs.backends.robosuite_env import RobosuiteEnv, is_installed
from fastifo.envs.experts import load_expert
from fastifo.envs.registry import describe
from fastifo.envs.rollout import rollout
from fastifo.envs.spec import EnvSpec, as_spec

pytestmark = [
    pytest.mark.skipif(not is_installed(), reason="needs robosuite, which is optional"),
    pytest.mark.filterwarnings("default"),
]

TASKS = {"Lift": "cube", "PickPlaceCan": "Can", "NutAssemblySquare": "SquareNut"}  # and objects
NEAR_POSITION = [0.05, -0.1, 0.9]
QUARTER_TURN = [np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)]  # MuJoCo's order, w first; about z


def spec(task: str, **settings: Any) -> EnvSpec:
    return as_spec(f"robosuite/{task}", kwargs=settings)


@pytest.fixture(scope="module")
def envs() -> Iterator[dict[str, RobosuiteEnv]]:
    """One environment of each task, which several tests use: building one takes a second."""
    made = {task: RobosuiteEnv(spec(task)) for task in TASKS}
    yield made
    for env in made.values():
        env.close()


def state_with_object(env: RobosuiteEnv, task: str) -> NDArray[np.float64]:
    """A state in which the object is at NEAR_POSITION, turned by a quarter about z."""
    env.reset(3)
    sim = env.env.sim
    sim.data.set_joint_qpos(f"{TASKS[task]}_joint0", np.array(NEAR_POSITION + QUARTER_TURN))
    return np.asarray(sim.get_state().flatten())


def gripper_pose(env: RobosuiteEnv) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Position of the gripper's site and rotation matrix of its body, from MuJoCo."""
    robot, sim = env.env.robots[0], env.env.sim
    position = np.array(sim.data.site_xpos[robot.eef_site_id["right"]])
    body = robot.robot_model.eef_name["right"]
    return position, np.array(sim.data.get_body_xmat(body)).reshape(3, 3)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_observations_of_both_layouts_in_a_state_set_by_hand(
    task: str, envs: dict[str, RobosuiteEnv]
) -> None:
    env = envs[task]
    obs, success = env.set_state(state_with_object(env, task))
    assert obs.dtype == np.float32
    assert success == (task == "Lift")  # the cube is above the table
    width = 10 if task == "Lift" else 14
    pose = np.array([*NEAR_POSITION, 0, 0, np.sqrt(0.5), np.sqrt(0.5)])  # (x, y, z, w)
    position, matrix = gripper_pose(env)
    np.testing.assert_allclose(obs[width : width + 3], position, atol=1e-6)
    between = np.array(NEAR_POSITION) - position
    if task == "Lift":
        new = np.concatenate([pose, between])
        old = np.concatenate([pose, -between])
    else:
        inside = matrix.T @ between  # of the gripper's frame
        np.testing.assert_allclose(obs[:3], inside, atol=1e-6)
        new = np.concatenate([inside, obs[3:7], pose])
        old = np.concatenate([pose, inside, obs[3:7]])
        assert np.linalg.norm(obs[3:7]) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(obs[:width], new, atol=1e-6)
    env.layout = "1.4"
    try:
        np.testing.assert_allclose(
            env.set_state(state_with_object(env, task))[0][:width], old, atol=1e-6
        )
    finally:
        env.layout = "1.5"


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_first_observation_knows_the_object_in_the_gripper(
    task: str, envs: dict[str, RobosuiteEnv]
) -> None:
    env = envs[task]
    obs = env.reset(5)
    width = 10 if task == "Lift" else 14
    relative = obs[7:10] if task == "Lift" else obs[:7]
    assert (np.abs(relative) > 0).all()
    still, _ = env.set_state(np.asarray(env.env.sim.get_state().flatten()))
    np.testing.assert_allclose(obs, still, atol=1e-6)
    assert len(obs) == width + 9


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_an_episode_is_a_function_of_its_seed(task: str, envs: dict[str, RobosuiteEnv]) -> None:
    env, rng = envs[task], np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (4, 7))

    def play(seed: int) -> NDArray[np.float32]:
        return np.stack([env.reset(seed), *(env.step(action)[0] for action in actions)])

    first = play(11)
    assert not np.array_equal(play(12)[0], first[0])
    np.testing.assert_array_equal(play(11), first)
    other = RobosuiteEnv(spec(task))
    np.testing.assert_array_equal(other.reset(11), first[0])
    other.close()


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_what_is_known_without_building_is_what_is_built(
    task: str, envs: dict[str, RobosuiteEnv]
) -> None:
    assert str(describe(spec(task))) == str(envs[task].info)


@pytest.mark.slow
def test_the_controller_of_both_forms_is_the_same_as_robosuites(
    envs: dict[str, RobosuiteEnv],
) -> None:
    arm = envs["Lift"].env.robots[0].part_controllers["right"]
    assert arm.input_type == "delta"
    assert arm.input_ref_frame == "world"
    np.testing.assert_allclose(arm.kp, 150)
    np.testing.assert_allclose(arm.kd, 2 * np.sqrt(150))  # critically damped: ratio 1
    old = DEFAULTS["controller_configs"]["body_parts"]["right"]
    flat = {k: v for k, v in old.items() if k not in ("gripper", "input_ref_frame", "input_type")}
    flat |= {"damping": 2, "control_delta": False}
    del flat["damping_ratio"]
    env = RobosuiteEnv(spec("Lift", controller_configs=flat))
    arm = env.env.robots[0].part_controllers["right"]
    np.testing.assert_allclose(arm.kd, 2 * np.sqrt(150) * 2)
    assert arm.input_type == "absolute"
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [True, False])
def test_success_ends_an_episode_as_the_task_or_as_the_clock(
    terminal: bool, envs: dict[str, RobosuiteEnv]
) -> None:
    env = envs["Lift"]
    env.set_state(state_with_object(env, "Lift"))
    env.success_terminal = terminal
    try:
        _, reward, terminated, truncated, success = env.step(np.zeros(7))
    finally:
        env.success_terminal = True
    assert (reward, success) == (1.0, 1.0)
    assert (terminated, truncated) == (terminal, not terminal)


@pytest.mark.slow
def test_the_time_limit_cuts_an_episode(envs: dict[str, RobosuiteEnv]) -> None:
    env = envs["PickPlaceCan"]
    limit, env.limit = env.limit, 3
    try:
        env.reset(0)
        ends = [env.step(np.zeros(7))[2:] for _ in range(3)]
    finally:
        env.limit = limit
    assert ends == [(False, False, 0.0), (False, False, 0.0), (False, True, 0.0)]
    assert limit == 400


@pytest.mark.slow
def test_episodes_do_not_depend_on_the_number_of_processes() -> None:
    expert = load_expert("robosuite/Lift")
    expert.noise_scale = 0.2
    played = [
        rollout(
            [expert], "robosuite/Lift", 3, False, seed=4, record=True,
            num_workers=workers, progress=False,
        ).episodes[0]
        for workers in (1, 2)
    ]  # fmt: skip
    assert played[0].success.tolist() == [1.0, 1.0, 1.0]
    assert played[0].terminal.all()
    np.testing.assert_array_equal(played[0].returns, [1.0, 1.0, 1.0])
    for one, two in zip(played[0].obs, played[1].obs, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("Lifts", {}, r"no environment 'Lifts'; did you mean 'robosuite/Lift'\?"),
        ("Lift", {"frequency": 10}, r"env_kwargs: no setting 'frequency'"),
        ("Lift", {"horizon": 10}, r"env_kwargs: no setting 'horizon'"),
        ("Lift", {"success_terminal": 1}, r"success_terminal: expected True or False, found 1"),
        ("Lift", {"object_layout": "1.3"}, r"object_layout: expected '1\.5' or '1\.4', found"),
        ("Lift", {"controller_configs": "OSC"}, r"controller_configs: expected a mapping"),
        ("Lift", {"robots": ["Pandas"]}, r"robosuite rejects these settings: {'robots'.*'Pandas'"),
        ("Lift", {"control_freq": -5, "robots": "Panda"}, r"rejects .*Control frequency -5"),
    ],
)
@pytest.mark.slow
def test_an_unknown_task_or_setting_is_named(
    task: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        describe(spec(task, **settings))


@pytest.mark.slow
def test_an_unknown_key_is_named() -> None:
    with pytest.raises(ValueError, match="obs_keys: no observation 'robot0_eef'; did you mean"):
        describe(as_spec("robosuite/Lift", obs_keys=("object", "robot0_eef")))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"mujoco": "3.10.0"}, r"expected mujoco from 3\.3 to before 3\.10, found 3\.10\.0; pip"),
        ({"mujoco": "4.0.0"}, r"found 4\.0\.0"),
        ({"mujoco": "2.3.7"}, r"found 2\.3\.7"),
        ({"robosuite": "1.4.1"}, r"expected robosuite from 1\.5 to before 1\.6, found 1\.4\.1"),
    ],
)
def test_versions_that_do_not_work_together_are_named(
    found: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastifo.envs.backends import robosuite_env

    versions = {"robosuite": "1.5.2", "mujoco": "3.9.1"}
    monkeypatch.setattr(robosuite_env, "versions", lambda: versions)
    robosuite_env.check_installed("robosuite/Lift")
    monkeypatch.setattr(robosuite_env, "versions", lambda: versions | found)
    with pytest.raises(ImportError, match=message):
        robosuite_env.check_installed("robosuite/Lift")


def test_a_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastifo.envs.backends import robosuite_env

    monkeypatch.setattr(robosuite_env, "NEEDED", ("robosuite", "no_such_package"))
    with pytest.raises(ImportError, match=r"no package no_such_package; pip install 'fastifo\["):
        backend.RobosuiteBackend().describe(spec("Lift"))
