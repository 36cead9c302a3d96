"""Where episodes end in flat files: what columns say, what is asked for, what contradicts them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastifo
from data.formats.files import assert_same, ends, episodes, rows_of, write_flat

COUNT = 25  # rows of five episodes of 3, 4, ... steps


@pytest.mark.parametrize("file", ["a.npz", "a.hdf5"])
@pytest.mark.parametrize("shape", [(COUNT,), (COUNT, 1)])
@pytest.mark.parametrize(
    ("task", "clock"),
    [
        ("terminals", "timeouts"),
        ("terminations", "truncations"),
        ("terminated", "truncated"),
        ("terminals", "episode_terminals"),
        ("terminals", "episode_ends"),
        ("terminals", "dones"),
        ("masks", "dones"),
        ("dones", "timeouts"),
        ("dones", "truncations"),
    ],
)
def test_columns_under_other_names_are_read(
    tmp_path: Path, file: str, task: str, clock: str, shape: tuple[int, ...]
) -> None:
    parts = episodes()
    terminal, timeout = ends(parts)
    every = {"episode_terminals", "episode_ends", "dones"}
    columns = {
        task: 1 - terminal.astype("f4") if task == "masks" else terminal | timeout
        if task == "dones" else terminal,
        clock: terminal | timeout if clock in every else timeout,
    }  # fmt: skip
    flags = {name: np.asarray(flag, np.float32).reshape(shape) for name, flag in columns.items()}
    dataset = fastifo.load(write_flat(tmp_path / file, rows_of(parts) | flags))
    assert_same(dataset.background, parts)
    assert "notes" not in dataset.info


@pytest.mark.parametrize("file", ["a.npz", "a.hdf5"])
@pytest.mark.parametrize(
    "column",
    [
        {"episode_starts": [0, 3, 7, 12, 18]},
        {"is_first": np.isin(np.arange(COUNT), [0, 3, 7, 12, 18])},
        {"episode_ends": [3, 7, 12, 18, 25]},
        {"episode_lengths": [3, 4, 5, 6, 7]},
        {"traj_lengths": np.array([[3], [4], [5], [6], [7]])},
        {"episode_ids": np.repeat([9, 4, 2**24, 2**24 + 1, 0], [3, 4, 5, 6, 7])},
        {"trajectory_id": np.repeat([0, 1, 0, 1, 0], [3, 4, 5, 6, 7]).reshape(COUNT, 1)},
    ],
    ids=lambda column: next(iter(column)),
)
def test_positions_lengths_and_numbers_of_episodes_are_read(
    tmp_path: Path, file: str, column: dict[str, Any]
) -> None:
    parts = episodes()
    columns = rows_of(parts) | column
    assert_same(
        fastifo.load(
            write_flat(tmp_path / file, columns | {"terminals": ends(parts)[0]})
        ).background,
        parts,
    )
    dataset = fastifo.load(write_flat(tmp_path / file, columns))
    assert dataset.background.lengths.tolist() == [3, 4, 5, 6, 7]
    assert not dataset.background.terminal.any()
    note = "ends of episodes counted as time limits, since the file has no terminals"
    assert dataset.info["notes"] == {note: 5}


@pytest.mark.parametrize("file", ["a.npz", "a.hdf5"])
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, r"says where episodes end.*found none of them.*,max_steps=.*,ends=file"),
        ({"last": np.zeros(COUNT)}, "found none of them.*,ends=<name>"),
        ({"terminals": np.zeros(COUNT)}, "terminals alone.*,max_steps=<n>.*,dones=terminal"),
        ({"terminals": np.arange(COUNT) % 5 == 4}, "terminals alone.*,dones=timeout.*OGBench"),
        ({"masks": np.arange(COUNT) % 5 != 4}, "masks alone"),
        ({"dones": np.arange(COUNT) % 5 == 4}, "dones: does not say whether the task or the time"),
        ({"is_last": np.arange(COUNT) % 5 == 4}, "is_last: does not say whether the task or"),
        ({"dones": np.full(COUNT, 2)}, "dones: expected 0 or 1 in every row, found 2 in row 0"),
        (
            {"terminals": np.zeros(COUNT), "timeouts": np.zeros(COUNT)},
            "terminals, timeouts: .*found no marked row.*,ends=file",
        ),
        ({"masks": np.ones(COUNT), "dones": np.zeros(COUNT)}, "dones, masks: .*no marked row"),
        ({"timeouts": np.full(COUNT, np.nan)}, "timeouts: expected 0 or 1 in every row"),
        ({"truncations": np.zeros(COUNT - 1)}, r"truncations: expected \(25,\), found \(24,\)"),
        (
            {"episode_lengths": [3, 4]},
            "episode_lengths: expected numbers of at least 1 with sum",
        ),
        ({"episode_ids": np.zeros(3)}, r"episode_ids: expected \(25,\), found \(3,\)"),
        ({"episode_ends": [3, 2, 25]}, r"episode_ends: expected \(25,\), found \(3,\)"),
        ({"episode_starts": [0, 2.5, 7]}, "episode_starts: expected whole numbers, found 2.5"),
    ],
)
def test_a_file_that_leaves_its_ends_open_is_refused(
    tmp_path: Path, file: str, columns: dict[str, Any], message: str
) -> None:
    spec = write_flat(tmp_path / file, rows_of(episodes(), next_obs=False) | columns)
    with pytest.raises(ValueError, match=message) as caught:
        fastifo.load(spec)
    assert file in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "option", "lengths", "terminals"),
    [
        ({}, "ends=file", [24], 0),
        ({}, "max_steps=5", [4] * 5, 0),
        ({"terminals": np.arange(COUNT) == 6}, "max_steps=10", [7, 9, 7], 1),
        ({"terminals": np.zeros(COUNT), "timeouts": np.zeros(COUNT)}, "max_steps=5", [4] * 5, 0),
        ({"terminations": np.zeros(COUNT), "truncations": np.zeros(COUNT)}, "ends=file", [24], 0),
        ({"terminals": np.arange(COUNT) % 5 == 4}, "dones=terminal", [5] * 5, 5),
        ({"terminals": np.arange(COUNT) % 5 == 4}, "dones=timeout", [4] * 5, 0),
        ({"terminals": np.arange(COUNT) % 5 == 4}, "max_steps=9", [5] * 5, 5),
        ({"dones": np.isin(np.arange(COUNT), [3, 13, 24])}, "max_steps=10", [4, 9, 10], 1),
        ({"cut": np.isin(np.arange(COUNT), [3, 24])}, "ends=cut", [3, 20], 0),
        ({"cut": [4, 25]}, "ends=cut", [3, 20], 0),
        ({"cut": [4, 25]}, "ends=cut,dones=terminal", [4, 21], 2),
        ({"masks": np.arange(COUNT) != 6}, "max_steps=10", [7, 9, 7], 1),
    ],
)
def test_options_say_what_a_file_does_not(
    tmp_path: Path, columns: dict[str, Any], option: str, lengths: list[int], terminals: int
) -> None:
    for file in ("a.npz", "a.hdf5"):
        spec = write_flat(tmp_path / file, rows_of(episodes(), next_obs=False) | columns)
        dataset = fastifo.load(f"{spec},{option}")
        assert dataset.background.lengths.tolist() == lengths
        assert int(dataset.background.terminal.sum()) == terminals
        assert fastifo.load(f"{spec},{option},episodes=1").background.num_episodes == 1


def test_a_missing_end_column_is_refused(tmp_path: Path) -> None:
    for file in ("a.npz", "a.hdf5"):
        spec = write_flat(tmp_path / file, rows_of(episodes()))
        with pytest.raises(ValueError, match=rf"{file}: .*nothing"):
            fastifo.load(f"{spec},ends=nothing")


@pytest.mark.parametrize("file", ["a.npz", "a.hdf5"])
def test_terminals_of_equal_episodes_are_asked_about_even_with_next_observations(
    tmp_path: Path, file: str
) -> None:
    parts = [episodes(1)[0] for _ in range(4)]
    for part in parts:
        part["obs"] = part["obs"] + np.random.default_rng(len(part)).normal(size=4)
    columns = rows_of(parts) | {"terminals": np.arange(12) % 3 == 2}
    spec = write_flat(tmp_path / file, columns)
    with pytest.raises(ValueError, match="as in OGBench"):
        fastifo.load(spec)
    noted = fastifo.load(write_flat(tmp_path / file, columns | {"timeouts": np.zeros(12)}))
    note = "episodes that all end with the task, each after the same number of steps"
    assert noted.info["notes"][note] == 4
