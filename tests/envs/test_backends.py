"""The same task through EnvPool and Gymnasium, in one process and in several."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import fastifo
import own_envs
from fastifo.envs.backends.gymnasium import GymnasiumEnv
from fastifo.envs.evaluate import evaluate_policies
from fastifo.envs.experts import load_expert
from fastifo.envs.registry import describe, find_backend
from fastifo.envs.returns import Returns
from fastifo.envs.rollout import rollout
from fastifo.envs.spec import as_spec
from support import LinearPolicy

MUJOCO = ("gymnasium/InvertedDoublePendulum-v5", "gymnasium/Hopper-v5")


def play(env: Any, num_episodes: int = 4, deterministic: bool = False, **k: Any) -> Returns:
    spec = as_spec(env, kwargs=k.pop("kwargs", None), obs_keys=k.pop("obs_keys", ()))
    info = describe(spec)
    policy = LinearPolicy(0, 0.3, info.obs_dim, info.action_dim)
    return evaluate_policies([policy], spec, num_episodes, deterministic, progress=False, **k)


@pytest.mark.parametrize(
    ("env_id", "library"),
    [
        ("Hopper-v4", "EnvPool"), ("envpool/Hopper-v4", "EnvPool"), ("gymnasium/Hopper-v5", "Gym"),
        ("Humanoid-v5", "EnvPool"), ("MountainCarContinuous-v0", "EnvPool"),
        ("BipedalWalker-v3", "EnvPool"), ("AntMaze_UMaze-v4", "Gym"),
        ("own_envs:Line", "Gym"), ("FetchReach-v4", "EnvPool"),
    ],
)  # fmt: skip
def test_envpool_plays_what_it_has_and_gymnasium_the_rest(env_id: str, library: str) -> None:
    assert type(find_backend(as_spec(env_id))).__name__.startswith(library)


def test_first_steps_are_equal_in_envpool_and_gymnasium() -> None:
    policy = LinearPolicy(0, 0.3, 17, 6)
    short = as_spec("HalfCheetah-v4", settings={"max_episode_steps": 10})
    (pool,) = rollout([policy], short, 3, True, seed=0, record=True, progress=False).episodes
    env = GymnasiumEnv(as_spec("gymnasium/HalfCheetah-v4"))
    for obs, actions, rewards in zip(pool.obs, pool.actions, pool.rewards, strict=True):
        env.reset(0)
        inner = env.env.unwrapped
        inner.set_state(np.concatenate([[0.0], obs[0, :8]]), obs[0, 8:].astype(np.float64))
        for t, action in enumerate(actions):
            row, reward, *ended = env.step(action.astype(np.float64))
            # The start state went through float32, whose rounding grows by contacts.
            np.testing.assert_allclose(row, obs[t + 1], atol=2e-4)
            assert reward == pytest.approx(rewards[t], abs=2e-4)
            assert ended[:2] == [False, False]


@pytest.mark.slow
def test_returns_have_equal_distributions_in_envpool_and_gymnasium() -> None:
    expert = load_expert("HalfCheetah-v4")
    settings = {"max_episode_steps": 300}
    parts = [
        evaluate_policies([expert], as_spec(env_id, settings=settings), 40, True, progress=False)
        for env_id in ("HalfCheetah-v4", "gymnasium/HalfCheetah-v4")
    ]
    a, b = (part.returns[0] for part in parts)
    error = np.sqrt((a.var() + b.var()) / 40)
    assert abs(a.mean() - b.mean()) < 4 * error  # four standard errors: one run in 16,000
    assert 0.4 < a.std() / b.std() < 2.5


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "Hopper-v5", "FetchReach-v4"])
def test_widths_bounds_and_limits_agree_between_envpool_and_gymnasium(env_id: str) -> None:
    a, b = describe(as_spec(env_id)), describe(as_spec(f"gymnasium/{env_id}"))
    assert (a.obs_dim, a.obs_parts, a.max_episode_steps) == (
        b.obs_dim, b.obs_parts, b.max_episode_steps,
    )  # fmt: skip
    np.testing.assert_array_equal(a.action_low, b.action_low)
    np.testing.assert_array_equal(a.action_high, b.action_high)


@pytest.mark.parametrize("env_id", MUJOCO)
def test_a_mujoco_episode_depends_on_its_seed_alone(
    monkeypatch: pytest.MonkeyPatch, env_id: str
) -> None:
    together = play(env_id, 5)
    monkeypatch.setattr("fastifo.envs.backends.gymnasium.LANES", 2)
    assert np.array_equal(play(env_id, 5).returns, together.returns)
    assert set(together.versions) == {"gymnasium", "mujoco"}


@pytest.mark.slow
@pytest.mark.parametrize("env_id", [*MUJOCO, "gymnasium/FetchReach-v4", "own_envs:Walk"])
def test_returns_do_not_depend_on_the_number_of_worker_processes(env_id: str) -> None:
    alone = play(env_id, 7, kwargs={"max_episode_steps": 25})
    for workers in (1, 2, 3):
        shared = play(env_id, 7, kwargs={"max_episode_steps": 25}, num_workers=workers)
        assert np.array_equal(shared.returns, alone.returns)
        assert np.array_equal(shared.lengths, alone.lengths)


@pytest.mark.parametrize("env_id", ["FetchReach-v4", "gymnasium/FetchReach-v4"])
def test_a_dict_observation_is_joined_in_the_order_of_its_keys(env_id: str) -> None:
    info = describe(as_spec(env_id))
    assert info.obs_parts == (("achieved_goal", 3), ("desired_goal", 3), ("observation", 10))
    keys = ("observation", "desired_goal")
    part = describe(as_spec(env_id, obs_keys=keys))
    assert (part.obs_dim, part.obs_text) == (13, "13 wide (observation 10 + desired_goal 3)")
    policy = LinearPolicy(0, 0.3, 13, 4)
    (played,) = rollout([policy], as_spec(env_id, obs_keys=keys), 2, True, seed=0, record=True,
                        progress=False).episodes  # fmt: skip
    (whole,) = rollout([LinearPolicy(0, 0.0, 16, 4)], env_id, 2, True, seed=0, record=True,
                       progress=False).episodes  # fmt: skip
    assert np.array_equal(played.obs[0][0], np.r_[whole.obs[0][0][6:], whole.obs[0][0][3:6]])
    assert set(played.success) <= {0.0, 1.0}
    with pytest.raises(ValueError, match=r"obs_keys: expected some of achieved_goal, .*'goal'"):
        describe(as_spec(env_id, obs_keys=("goal",)))


def test_a_nested_dict_is_joined_by_paths() -> None:
    info = describe(as_spec(own_envs.Goal))
    assert info.obs_parts == (("goal/x", 1), ("goal/y", 1), ("point", 2))
    assert describe(as_spec(own_envs.Goal, obs_keys=("point", "goal/y"))).obs_dim == 3
    env = GymnasiumEnv(as_spec(own_envs.Goal, kwargs={"goal": 0.5}, obs_keys=("goal", "point")))
    assert env.reset(0)[:2].tolist() == [0.5, 7.0]


@pytest.mark.slow
def test_a_dict_task_is_recorded_trained_and_evaluated_with_its_keys(tmp_path: Path) -> None:
    keys = ("observation", "desired_goal")
    env = gymnasium.make("FetchReach-v4")
    episodes = []
    for seed in range(30):
        obs, actions = [env.reset(seed=seed)[0]], []
        for _ in range(50):
            to_goal = obs[-1]["desired_goal"] - obs[-1]["achieved_goal"]
            actions.append(np.clip(np.r_[10 * to_goal, 0], -1, 1))
            obs.append(env.step(actions[-1])[0])
        episodes.append({"obs": [np.r_[o[keys[0]], o[keys[1]]] for o in obs], "action": actions})
    dataset = fastifo.Dataset.from_episodes(episodes, env_id="FetchReach-v4", obs_keys=keys)
    dataset.save(tmp_path / "reach.fastifo")
    dataset = fastifo.load(tmp_path / "reach.fastifo")
    assert dataset.obs_keys == keys
    run = fastifo.train(
        "bc", dataset, num_updates=2000, hidden_sizes=(64, 64), learning_rate=1e-3,
        standardize_obs=True, out=tmp_path / "run", progress=False,
    )  # fmt: skip
    assert run.evaluate(1, progress=False).returns.shape == (1, 1)
    again = fastifo.open_run(tmp_path / "run")
    assert again.obs_keys == keys
    returns = again.evaluate(20, deterministic=True, progress=False)
    assert returns.success is not None
    assert returns.success > 0.1
    through_gymnasium = again.evaluate(
        20, deterministic=True, env="gymnasium/FetchReach-v4", progress=False
    )
    assert through_gymnasium.success is not None
    assert through_gymnasium.success > 0.1


@pytest.mark.parametrize(
    ("env_id", "kwargs", "text"),
    [
        ("Hopper-v5", {"frame_skp": 2}, "no setting frame_skp=2; did you mean 'frame_skip'"),
        ("Hopper-v5", {"frame_skip": 0}, "frame_skip: expected a value like 4, found 0"),
        ("metaworld/Reach", {"partially_observable": "x"}, "expected a value like True, found 'x'"),
        ("gymnasium/Hopper-v5", {"frame_skp": 2}, "no setting 'frame_skp'; did you mean"),
        ("gymnasium/Hopper-v5", {"frame_skip": "x"}, "could not create it"),
    ],
)  # fmt: skip
def test_a_setting_of_the_user_that_is_unknown_is_refused(
    env_id: str, kwargs: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        describe(as_spec(env_id, kwargs=kwargs))


def test_a_file_cannot_choose_files_or_windows_for_gymnasium() -> None:
    settings = {"xml_file": "/etc/passwd", "render_mode": "human", "reset_noise_scale": 0.0}
    info = describe(as_spec("gymnasium/Hopper-v5", settings=settings | {"unheard_of": 1}))
    assert info.unused == ("xml_file", "render_mode", "unheard_of")
    env = GymnasiumEnv(as_spec("gymnasium/Hopper-v5", settings=settings))
    assert np.array_equal(env.reset(0), env.reset(1))  # without noise
