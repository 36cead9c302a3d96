"""Next observations that are not the episode's own, or contradict the order of the rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastifo
from data.formats.files import ends, episodes, rows_of, write_d4rl, write_flat

FILES = pytest.mark.parametrize("file", ["a.npz", "a.hdf5"])


@pytest.mark.parametrize("ended", ["terminals", "timeouts", "both"])
def test_next_observations_of_the_next_reset_are_dropped_and_counted(
    tmp_path: Path, ended: str
) -> None:
    parts = episodes(6)
    terminal, timeout = ends(parts)
    obs = np.concatenate([p["obs"][:-1] for p in parts])
    next_obs = np.concatenate([p["obs"][1:] for p in parts])
    wrong = {"terminals": terminal, "timeouts": timeout, "both": terminal | timeout}[ended]
    at = np.flatnonzero(wrong[:-1])
    next_obs[at] = obs[at + 1]
    write_d4rl(tmp_path / "a.hdf5", parts, next_observations=next_obs)
    dataset = fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}")
    background = dataset.background
    first = {tuple(p["obs"][0].tolist()) for p in parts}
    after = background.obs[background.rows() + 1].numpy()
    assert not [row for row in after.tolist() if tuple(row) in first]
    dropped = dataset.info["notes"]["next observations dropped that are the next episode's first"]
    assert dropped == len(at) + (ended == "both")  # the last one of the file is not known then
    assert int(background.terminal.sum()) == 3


@pytest.mark.parametrize("rewards", [True, False])
def test_rows_that_only_record_a_reset_are_dropped_and_counted(
    tmp_path: Path, rewards: bool
) -> None:
    rng = np.random.default_rng(0)
    columns: dict[str, list[np.ndarray]] = {}
    starts = rng.normal(size=(9, 2)) * 10
    for e in range(8):
        obs = starts[e] + np.arange(6)[:, None] * 0.1
        part = {
            "observations": np.concatenate([obs[:-1], obs[-1:]]),
            "next_observations": np.concatenate([obs[1:], starts[e + 1 : e + 2]]),
            "actions": rng.uniform(-1, 1, (6, 2)),
            "rewards": np.array([1.0, 2, 3, 4, 5, 0]) * rewards,
            "terminals": np.arange(6) == (4 if e % 2 else 9),
            "timeouts": np.arange(6) == (9 if e % 2 else 4),
        }
        for name, value in part.items():
            columns.setdefault(name, []).append(value)
    spec = write_flat(tmp_path / "a.npz", {k: np.concatenate(v) for k, v in columns.items()})
    dataset = fastifo.load(spec)
    assert dataset.background.lengths.tolist() == [5] * 8
    assert int(dataset.background.terminal.sum()) == 4
    assert dataset.info["notes"]["rows dropped that only record the reset after an episode"] == 8
    row = dataset.background.rows()
    assert float((dataset.background.obs[row + 1] - dataset.background.obs[row]).max()) < 0.2


def columns_of(count: int = 6) -> dict[str, Any]:
    """Rows of episodes that move in every step."""
    parts = episodes(count)
    terminal, timeout = ends(parts)
    return rows_of(parts) | {"terminals": terminal, "timeouts": timeout}


@FILES
@pytest.mark.parametrize("shift", [-1, 0, 2, 3])
@pytest.mark.parametrize("flags", [True, False])
def test_next_observations_of_other_rows_are_refused(
    tmp_path: Path, file: str, shift: int, flags: bool
) -> None:
    columns = columns_of()
    columns["next_observations"] = np.roll(columns["observations"], -shift, 0)
    if not flags:
        del columns["terminals"], columns["timeouts"]
    with pytest.raises(ValueError, match=rf"{file}: next_observations: in \d+ of .*ends=rows"):
        fastifo.load(write_flat(tmp_path / file, columns))


@FILES
@pytest.mark.parametrize("scale", [0.5, 1.01, -1.0])
def test_next_observations_on_another_scale_are_refused(
    tmp_path: Path, file: str, scale: float
) -> None:
    columns = columns_of()
    columns["next_observations"] = columns["next_observations"] * scale
    with pytest.raises(ValueError, match=f"{file}: next_observations: .*on another scale"):
        fastifo.load(write_flat(tmp_path / file, columns))


@FILES
def test_a_shuffled_buffer_is_read_where_the_user_says_so(tmp_path: Path, file: str) -> None:
    columns = columns_of()
    order = np.random.default_rng(0).permutation(len(columns["rewards"]))
    spec = write_flat(tmp_path / file, {name: v[order] for name, v in columns.items()})
    with pytest.raises(ValueError, match="ends=rows"):
        fastifo.load(spec)
    part = fastifo.load(f"{spec},ends=rows").background
    assert part.num_episodes == part.num_transitions == len(order)
    np.testing.assert_array_equal(
        part.obs[part.rows() + 1], columns["next_observations"][order].astype("f4")
    )
    assert part.terminal.tolist() == columns["terminals"][order].tolist()


@FILES
@pytest.mark.parametrize("filler", ["zeros", "nan", "constant", "own"])
def test_fillers_in_place_of_next_observations_are_dropped_and_counted(
    tmp_path: Path, file: str, filler: str
) -> None:
    columns = columns_of()
    last = columns["terminals"] | columns["timeouts"]
    columns["next_observations"][last] = {
        "zeros": 0.0, "nan": np.nan, "constant": 3.25, "own": columns["observations"][last]
    }[filler]  # fmt: skip
    dataset = fastifo.load(write_flat(tmp_path / file, columns))
    part = dataset.background
    count = int(columns["timeouts"].sum())
    assert part.num_transitions == len(last) - count
    assert int(part.terminal.sum()) == int(columns["terminals"].sum())
    notes = dataset.info["notes"]
    assert notes["transitions dropped for lack of a next observation"] == count
    if filler != "nan":
        assert notes["next observations dropped that are fillers"] == int(last.sum())
    own = part.obs[part.rows()][part.terminal]
    assert own.equal(part.obs[part.rows() + 1][part.terminal])


@FILES
def test_ends_that_are_marked_one_row_late_are_refused(tmp_path: Path, file: str) -> None:
    columns = columns_of()
    for name in ("terminals", "timeouts"):
        columns[name] = np.roll(columns[name], 1)
        columns[name][0] = False
    with pytest.raises(ValueError, match=f"{file}: ends of episodes: .*one row later"):
        fastifo.load(write_flat(tmp_path / file, columns))
