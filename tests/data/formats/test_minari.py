"""The Minari reader, on files written here and by the package itself."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import fastifo
from data.formats.files import ACTION_DIM, OBS_DIM, assert_same, episodes, write_minari


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
    with h5py.File(tmp_path / "a/data/main_data.hdf5", "a") as file:
        for name in file:
            file.move(f"{name}/observations/goal", f"{name}/observations/nested/goal")
    with pytest.raises(ValueError, match=r"keys: expected some of observation, .*, found nested"):
        fastifo.load(f"minari:{tmp_path / 'a'},keys=nested")


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
