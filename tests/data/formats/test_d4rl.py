"""The D4RL reader and the rules that all flat layouts share: read back what was written."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import fastifo
from data.formats.files import ACTION_DIM, OBS_DIM, assert_same, episodes, write_d4rl


def test_a_file_reads_back_as_the_episodes_in_it(tmp_path: Path) -> None:
    parts = episodes()
    write_d4rl(tmp_path / "hopper_medium-v2.hdf5", parts)
    dataset = fastifo.load(f"d4rl:{tmp_path / 'hopper_medium-v2.hdf5'}")
    assert_same(dataset.background, parts)
    assert dataset.env_id == "Hopper-v4"
    assert "notes" not in dataset.info


def test_without_next_observations_the_step_before_a_timeout_is_dropped_and_counted(
    tmp_path: Path,
) -> None:
    parts = episodes()
    write_d4rl(tmp_path / "a.hdf5", parts, next_observations=None)
    dataset = fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}")
    for part in parts:
        if part["terminal"]:  # nothing bootstraps from its next observation
            part["obs"][-1] = part["obs"][-2]
        else:
            part["obs"], part["action"] = part["obs"][:-1], part["action"][:-1]
            part["reward"] = part["reward"][:-1]
    assert_same(dataset.background, parts)
    assert dataset.info["notes"] == {
        "transitions dropped for lack of a next observation": 2,
        "terminal transitions with the observation repeated as the next": 3,
    }
    assert "transitions dropped for lack of a next observation: 2" in dataset.summary()


def test_old_files_of_known_tasks_have_columns_of_width_1_and_no_timeouts(tmp_path: Path) -> None:
    count = 2500
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((count, OBS_DIM)).astype(np.float32)
    terminal = np.zeros((count, 1), np.float32)
    terminal[300] = 1
    with h5py.File(tmp_path / "hopper_medium.hdf5", "w") as file:
        file["observations"], file["actions"] = rows, np.zeros((count, ACTION_DIM), np.float32)
        file["rewards"], file["terminals"] = np.zeros((count, 1), np.float32), terminal
    dataset = fastifo.load(f"d4rl:{tmp_path / 'hopper_medium.hdf5'}")
    assert dataset.background.lengths.tolist() == [301, 999, 999, 198]
    assert dataset.info["notes"]["steps after which the time limit ends an episode"] == 1000
    assert dataset.info["notes"]["episodes cut by the end of the file"] == 1


def test_a_terminal_is_never_paired_with_the_next_episode(tmp_path: Path) -> None:
    parts = episodes()
    for changes in ({}, {"next_observations": None}):
        write_d4rl(tmp_path / "a.hdf5", parts, **changes)
        background = fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}").background
        first_obs = np.stack([part["obs"][0] for part in parts])
        next_obs = background.obs[background.rows() + 1].numpy()
        assert not (next_obs[:, None] == first_obs[None]).all(-1).any()


def test_an_episode_is_cut_where_successive_rows_do_not_connect(tmp_path: Path) -> None:
    parts = episodes(1)
    next_obs = parts[0]["obs"][1:].copy()
    next_obs[0] += 1  # as in a replay buffer that wrapped around
    write_d4rl(tmp_path / "a.hdf5", parts, next_observations=next_obs)
    dataset = fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}")
    assert dataset.background.lengths.tolist() == [1, 2]
    assert dataset.background.timeout.tolist() == [True, False, False]
    assert dataset.info["notes"] == {
        "episodes cut where the next observation differs from the next row's": 1
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": np.full((25, OBS_DIM), np.nan)}, "obs: expected finite numbers"),
        (
            {"observations": np.full((25, OBS_DIM), 1e30)},
            "obs: expected finite numbers of at most 1e",
        ),
        (
            {"actions": np.full((25, ACTION_DIM), 11.0)},
            "action: expected finite numbers of at most 10",
        ),
        (
            {"actions": np.zeros((24, ACTION_DIM))},
            r"actions: expected \(25, width\), found \(24, 2\)",
        ),
        ({"rewards": np.zeros(3)}, r"rewards: expected \(25,\), found \(3,\)"),
        ({"terminals": np.zeros(24)}, r"terminals: expected \(25,\), found \(24,\)"),
        (
            {"observations": np.zeros((0, OBS_DIM))},
            "expected one or more rows of observations, found",
        ),
        ({"observations": None}, "expected a dataset 'observations', found actions"),
        ({"rewards": np.array([b"x"] * 25)}, "'rewards': expected numbers, found kind 'S'"),
        ({"next_observations": np.zeros((25, 1))}, r"next_observations: expected \(25, 4\)"),
    ],
)
def test_unsuitable_columns_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_d4rl(tmp_path / "a.hdf5", episodes(), **changes)
    with pytest.raises(ValueError, match=message) as caught:
        fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}")
    assert "a.hdf5" in str(caught.value)


def test_actions_out_of_bounds_are_refused_or_clipped_and_counted(tmp_path: Path) -> None:
    parts = episodes()
    parts[0]["action"][1, 0] = 1.7
    write_d4rl(tmp_path / "a.hdf5", parts)
    with pytest.raises(ValueError, match=r"1 of 25 are outside \[-1, 1\].*action_low.*clip=true"):
        fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}")
    dataset = fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'},clip=true")
    assert dataset.info["notes"] == {"actions clipped to [-1, 1]": 1}
    assert dataset.background.action is not None
    assert float(dataset.background.action.max()) == 1.0
