"""The Minari reader, on files written here and by the package itself."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import fastifo
import own_envs
from data.formats.files import ACTION_DIM, OBS_DIM, assert_same, episodes, write_minari
from fastifo.envs.flatten import Flattener


def test_a_dataset_is_read_by_id_and_by_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = episodes(12)
    write_minari(tmp_path / "mujoco/hopper/expert-v0", parts)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    folder = tmp_path / "mujoco/hopper/expert-v0"
    for name in ("mujoco/hopper/expert-v0", folder, folder / "data"):
        dataset = fastifo.load(f"minari:{name}")
        assert_same(dataset.background, parts)
        assert dataset.env_id == "Hopper-v5"
    with pytest.raises(FileNotFoundError, match="download it there with Minari"):
        fastifo.load("minari:mujoco/ant/expert-v0")


def test_dictionary_observations_need_keys(tmp_path: Path) -> None:
    parts = episodes()
    write_minari(tmp_path / "a", parts, keyed=True)
    with pytest.raises(
        ValueError, match=r"dictionary of goal, observation; choose some with ,keys"
    ):
        fastifo.load(f"minari:{tmp_path / 'a'}")
    assert_same(fastifo.load(f"minari:{tmp_path / 'a'},keys=observation+goal").background, parts)
    with pytest.raises(ValueError, match=r"keys: expected some of goal, observation, .*, found x"):
        fastifo.load(f"minari:{tmp_path / 'a'},keys=x")


def test_a_nested_dictionary_is_joined_as_its_environment_joins_it(tmp_path: Path) -> None:
    folder, env = tmp_path / "a", own_envs.Goal()
    write_minari(folder, episodes())
    observed: list[list[Any]] = []
    with h5py.File(folder / "data/main_data.hdf5", "a") as file:
        for name, group in file.items():
            del group["observations"]
            seeds = range(100 * len(observed), 100 * len(observed) + len(group["actions"]) + 1)
            obs = [env.reset(seed=seed)[0] for seed in seeds]
            observed.append(obs)
            group["observations/point"] = [o["point"] for o in obs]
            for key in ("y", "x"):
                group[f"observations/goal/{key}"] = [o["goal"][key] for o in obs]
            assert name == f"episode_{len(observed) - 1}"
    for keys in (("goal", "point"), ("point", "goal/y"), ("goal/y", "goal/x")):
        dataset = fastifo.load(f"minari:{folder},keys={'+'.join(keys)}")
        flattener = Flattener("Goal", env.observation_space, dataset.obs_keys)
        expected = [flattener.one(o) for obs in observed for o in obs]
        assert np.array_equal(dataset.background.obs, np.array(expected)), keys
    with pytest.raises(ValueError, match="dictionary of goal/x, goal/y, point; choose some with"):
        fastifo.load(f"minari:{folder}")
    with pytest.raises(
        ValueError, match=r"keys: expected each observation once, found goal\+goal/x"
    ):
        fastifo.load(f"minari:{folder},keys=goal+goal/x")


@pytest.mark.filterwarnings("ignore")  # minari warns about a missing author and code link
def test_a_dataset_written_by_minari_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gymnasium
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    buffers = []
    for i, part in enumerate(episodes()):
        last = np.arange(len(part["action"])) == len(part["action"]) - 1
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                id=i, observations=part["obs"], actions=part["action"],
                rewards=part["reward"].tolist(), terminations=(last & part["terminal"]).tolist(),
                truncations=(last & (not part["terminal"])).tolist(),
            )
        )  # fmt: skip
    box = gymnasium.spaces.Box
    minari.create_dataset_from_buffers(
        "test/own-v0", buffers,
        observation_space=box(-np.inf, np.inf, (OBS_DIM,), np.float32),
        action_space=box(-1, 1, (ACTION_DIM,), np.float32),
    )  # fmt: skip
    assert_same(fastifo.load("minari:test/own-v0").background, episodes())
