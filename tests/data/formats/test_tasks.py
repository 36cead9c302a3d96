"""D4RL's tasks by the names of their files and datasets."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import fastifo
from data.formats.files import episodes, write_minari
from fastifo.data import d4rl
from fastifo.data.formats.tasks import task_of


@pytest.mark.parametrize(
    ("stem", "env_id", "max_steps"),
    [
        ("hopper_medium", "Hopper-v4", 1000),
        ("hopper_mixed", "Hopper-v4", 1000),
        ("hopper_medium_replay-v2", "Hopper-v4", 1000),
        ("hopper-medium-expert-v2", "Hopper-v4", 1000),
        ("walker_mixed", "Walker2d-v4", 1000),
        ("walker2d_full_replay-v2", "Walker2d-v4", 1000),
        ("ant_random_expert", "Ant-v3", 1000),
        ("pen-human-v1", "AdroitHandPen-v1", 100),
        ("pen-v0_demos_clipped", "AdroitHandPen-v1", 100),
        ("door-demos-v0-bc-combined", "AdroitHandDoor-v1", 200),
        ("hammer-v0_expert_clipped", "AdroitHandHammer-v1", 200),
        ("relocate-cloned-v1", "AdroitHandRelocate-v1", 200),
        ("maze2d-umaze-sparse", None, 150),
        ("maze2d-umaze-sparse-v1", None, 300),
        ("maze2d-eval-medium-dense-v1", None, 600),
        ("maze2d-large-v1", None, 800),
        ("antmaze-umaze-diverse-v2", None, 700),
        ("Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse", None, 700),
        ("Ant_maze_hardest-maze_noisy_multistart_True_multigoal_True_sparse_fixed", None, 1000),
        ("kitchen-partial-v0", None, 280),
        ("mini_kitchen_microwave_kettle_light_slider-v0", None, 280),
        ("hopper-mine-v1", "Hopper-v4", 0),  # not D4RL's: its time limit is unknown
        ("hopper", None, 0),
        ("a", None, 0),
    ],
)
def test_a_name_tells_the_environment_and_the_time_limit(
    stem: str, env_id: str | None, max_steps: int
) -> None:
    assert task_of(stem) == (env_id, max_steps)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("hopper-medium-v0", "gym_mujoco/hopper_medium"),
        ("hopper-medium-replay-v0", "gym_mujoco/hopper_mixed"),
        ("walker2d-medium-replay-v0", "gym_mujoco/walker_mixed"),
        ("walker2d-medium-expert-v0", "gym_mujoco/walker2d_medium_expert"),
        ("ant-random-expert-v0", "gym_mujoco/ant_random_expert"),
        ("hopper-full-replay-v2", "gym_mujoco_v2/hopper_full_replay-v2"),
        ("halfcheetah-random-v1", "gym_mujoco_v1/halfcheetah_random-v1"),
        ("pen-human-v0", "hand_dapg/pen-v0_demos_clipped"),
        ("door-cloned-v0", "hand_dapg/door-demos-v0-bc-combined"),
        ("relocate-expert-v0", "hand_dapg/relocate-v0_expert_clipped"),
        ("hammer-cloned-v1", "hand_dapg_v1/hammer-cloned-v1"),
        ("maze2d-open-v0", "maze2d/maze2d-open-sparse"),
        ("maze2d-eval-large-dense-v1", "maze2d/maze2d-eval-large-dense-v1"),
        (
            "antmaze-medium-play-v0",
            "ant_maze_new/Ant_maze_big-maze_noisy_multistart_True_multigoal_False_sparse",
        ),
        (
            "antmaze-umaze-v2",
            "ant_maze_v2/Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed",
        ),
        ("kitchen-complete-v0", "kitchen/mini_kitchen_microwave_kettle_light_slider-v0"),
    ],
)
def test_addresses_are_those_of_d4rl(name: str, path: str) -> None:
    assert d4rl.address(name) == f"{d4rl.HOST}/{path}.hdf5"


@pytest.mark.parametrize(
    "name",
    ["hopper-good-v2", "hopper-full-replay-v0", "pen-partial-v0", "antmaze-umaze-play-v0",
     "maze2d-umaze-v3", "kitchen-partial-v1", "humanoid-medium-v2", "hopper"],
)  # fmt: skip
def test_names_that_d4rl_does_not_have_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected a file, or a name such as hopper-medium-v2"):
        d4rl.address(name)


def flat_file(path: Path, steps: int, width: int = 45, actions: int = 24) -> str:
    count = 4 * steps
    with h5py.File(path, "w") as file:
        file["observations"] = np.random.default_rng(0).normal(size=(count, width))
        file["actions"] = np.zeros((count, actions))
        file["rewards"], file["terminals"] = np.ones(count), np.zeros(count)
    return f"d4rl:{path}"


def test_the_time_limit_of_a_known_task_is_the_environments_too(tmp_path: Path) -> None:
    dataset = fastifo.load(flat_file(tmp_path / "pen-cloned-v0.hdf5", 100))
    assert dataset.background.lengths.tolist() == [99] * 4
    assert dataset.env_kwargs == {"max_episode_steps": 100}
    assert dataset.notes()[0] == "steps after which the time limit ends an episode: 100"
    other = fastifo.load(flat_file(tmp_path / "pen-cloned-v0.hdf5", 100) + ",max_steps=50")
    assert other.background.lengths.tolist() == [49] * 8
    assert other.env_kwargs == {"max_episode_steps": 50}
    mine = flat_file(tmp_path / "pen-mine-v0.hdf5", 100)
    with pytest.raises(ValueError, match="terminals alone"):
        fastifo.load(mine)
    dataset.save(tmp_path / "a.fastifo")
    assert fastifo.load(tmp_path / "a.fastifo") == dataset


def metadata(**changes: Any) -> str:
    spec = {"id": "HalfCheetah-v5", "max_episode_steps": 50, "kwargs": {"ctrl_cost_weight": 0.2}}
    content = {"env_spec": spec, "ref_min_score": -3.0, "ref_max_score": 97} | changes
    return json.dumps({k: json.dumps(v) if isinstance(v, dict) else v for k, v in content.items()})


@pytest.mark.parametrize(
    ("changes", "env_id", "env_kwargs", "reference"),
    [
        (
            {}, "HalfCheetah-v5", {"ctrl_cost_weight": 0.2, "max_episode_steps": 50}, (-3.0, 97.0),
        ),
        (
            {"eval_env_spec": {"id": "HalfCheetah-v4", "max_episode_steps": 20}},
            "HalfCheetah-v4", {"max_episode_steps": 20}, (-3.0, 97.0),
        ),
        (
            {"env_spec": {"id": "HalfCheetah-v5", "max_episode_steps": None, "kwargs": None},
             "ref_max_score": None},
            "HalfCheetah-v5", {}, None,
        ),
        ({"env_spec": None, "ref_min_score": "low"}, None, {}, None),
        ({"env_spec": "not JSON", "ref_min_score": float("inf")}, None, {}, None),
    ],
)  # fmt: skip
def test_the_environment_of_minari_comes_with_its_settings(
    tmp_path: Path, changes: dict[str, Any], env_id: str | None, env_kwargs: dict[str, Any],
    reference: tuple[float, float] | None,
) -> None:  # fmt: skip
    write_minari(tmp_path / "a", episodes())
    (tmp_path / "a/data/metadata.json").write_text(metadata(**changes))
    dataset = fastifo.load(f"minari:{tmp_path / 'a'}")
    assert (dataset.env_id, dict(dataset.env_kwargs)) == (env_id, env_kwargs)
    assert dataset.reference_returns == reference


def test_wrappers_of_a_minari_environment_are_counted(tmp_path: Path) -> None:
    write_minari(tmp_path / "a", episodes())
    spec = {"id": "Hopper-v5", "additional_wrappers": [{"name": "x"}, {"name": "y"}]}
    (tmp_path / "a/data/metadata.json").write_text(metadata(env_spec=spec))
    notes = fastifo.load(f"minari:{tmp_path / 'a'}").notes()
    assert notes == ["wrappers of the environment that are not used: 2"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"max_episode_steps": "30"}, r"max_episode_steps: expected .*,max_steps=<n>"),
        ({"max_episode_steps": 0}, "max_episode_steps: expected an integer of at least 1"),
        ({"max_episode_steps": 30.5}, "max_episode_steps: expected an integer of at least 1"),
        ({"max_episode_steps": True}, "max_episode_steps: expected an integer of at least 1"),
        ({"max_episode_steps": [30]}, "max_episode_steps: expected an integer of at least 1"),
        ({"kwargs": [1]}, "kwargs: expected an object"),
        ({"kwargs": "ctrl_cost_weight"}, "kwargs: expected an object"),
    ],
)
def test_settings_of_another_kind_are_refused(
    tmp_path: Path, spec: dict[str, Any], message: str
) -> None:
    write_minari(tmp_path / "a", episodes())
    metadata = tmp_path / "a/data/metadata.json"
    metadata.write_text(json.dumps({"env_spec": json.dumps({"id": "Hopper-v5"} | spec)}))
    with pytest.raises(ValueError, match=rf"metadata.json: env_spec\.{message}"):
        fastifo.load(f"minari:{tmp_path / 'a'}")
    if "kwargs" not in spec:
        dataset = fastifo.load(f"minari:{tmp_path / 'a'},max_steps=20")
        assert dataset.env_kwargs == {"max_episode_steps": 20}


@pytest.mark.parametrize("steps", [None, -1])
def test_an_environment_without_a_limit_has_none(tmp_path: Path, steps: int | None) -> None:
    write_minari(tmp_path / "a", episodes())
    metadata = tmp_path / "a/data/metadata.json"
    metadata.write_text(json.dumps({"env_spec": {"id": "Hopper-v5", "max_episode_steps": steps}}))
    assert fastifo.load(f"minari:{tmp_path / 'a'}").env_kwargs == {}
