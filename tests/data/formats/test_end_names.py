"""Other names of the columns that mark ends, and columns that may mark them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastifo
from data.formats.files import assert_same, ends, episodes, rows_of, write_flat

FILES = pytest.mark.parametrize("file", ["a.npz", "a.hdf5"])


def of(**columns: str) -> dict[str, str]:
    """Column -> what it holds."""
    return columns


def columns_of(names: dict[str, str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Episodes, and the columns of a file with them.

    names: column -> task, clock, done, first, masks, discount, number, length, stop or start.
    """
    parts = episodes(5)
    terminal, timeout = ends(parts)
    last = terminal | timeout
    lengths = np.array([len(part["reward"]) for part in parts])
    values = {
        "task": terminal, "clock": timeout, "done": last, "first": np.roll(last, 1),
        "masks": ~terminal, "discount": 0.99 * ~terminal, "length": lengths,
        "number": np.repeat(np.arange(5), lengths), "stop": lengths.cumsum(),
        "stop_row": lengths.cumsum() - 1, "start": lengths.cumsum() - lengths,
        "start_and_end": np.append(0, lengths.cumsum()),
    }  # fmt: skip
    return parts, rows_of(parts) | {name: values[what] * 1.0 for name, what in names.items()}


@FILES
@pytest.mark.parametrize(
    "names",
    [
        of(is_first="first", is_last="done", is_terminal="task"),
        of(is_first="first", is_terminal="task"),
        of(terminateds="task", truncateds="clock"),
        of(terminateds="task", timeouts="clock"),
        of(is_terminated="task", time_outs="clock"),
        of(Terminals="task", Timeouts="clock"),
        of(DONE="done", TimeLimit_truncated="clock"),
        {"next.terminated": "task", "next.truncated": "clock"},
        {"dones": "done", "TimeLimit.truncated": "clock"},
        of(done="done", time_limit="clock"),
        of(timeouts="clock", discount="masks"),
        of(timeouts="clock", discounts="discount"),
        of(timeouts="clock", not_done="masks"),
        of(timeouts="clock", masks="masks"),
        of(truncations="clock", nonterminals="masks"),
        of(episode_starts="first", discount="discount"),
        of(eps_id="number", terminateds="task"),
        of(traj_idx="number", terminals="task"),
        of(ep_lens="length", terminals="task"),
        of(path_lengths="length", terminals="task"),
        of(traj_ends="stop", terminals="task"),
        of(episode_ends="stop_row", terminals="task"),
        of(traj_starts="start", terminals="task"),
        of(episode_starts="start_and_end", terminals="task"),
    ],
    ids="+".join,
)
def test_ends_under_other_names_are_read(tmp_path: Path, file: str, names: dict[str, str]) -> None:
    parts, columns = columns_of(names)
    dataset = fastifo.load(write_flat(tmp_path / file, columns))
    assert_same(dataset.background, parts)
    assert "notes" not in dataset.info


@FILES
@pytest.mark.parametrize(
    ("names", "unknown"),
    [
        (of(timeouts="clock", terms="task"), "terms"),
        (of(timeouts="clock", absorbing="task"), "absorbing"),
        (of(timeouts="clock", has_fallen="task", rest="clock"), "has_fallen"),
        (of(truncations="clock", termination_flags="task"), "termination_flags"),
        (of(truncations="clock", episode_over_last="done"), "episode_over_last"),
        (of(timeouts="clock", resets="first"), "resets"),
        (of(episode_starts="first", failed="task"), "failed"),
        (of(episode_ids="number", crashed="task"), "crashed"),
        (of(episode_lengths="length", alive="masks"), "alive"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else value,
)
def test_a_column_that_may_mark_ends_is_asked_about(
    tmp_path: Path, file: str, names: dict[str, str], unknown: str
) -> None:
    parts, columns = columns_of(names)
    spec = write_flat(tmp_path / file, columns)
    with pytest.raises(ValueError, match=f"{file}: {unknown}: may mark ends.*,terminals={unknown}"):
        fastifo.load(spec)
    if names[unknown] == "task":
        assert_same(fastifo.load(f"{spec},terminals={unknown}").background, parts)
    read = fastifo.load(f"{spec},dones=timeout").background
    assert not read.terminal.any()


@FILES
def test_columns_that_mark_nothing_are_not_asked_about(tmp_path: Path, file: str) -> None:
    parts, columns = columns_of(of(timeouts="done"))
    count = len(columns["rewards"])
    columns |= {"last_action": np.zeros((count, 3)), "final_score": np.arange(count) * 0.5}
    columns |= {"failed": np.zeros(count), "success": np.arange(count) % 3 == 0}
    part = fastifo.load(write_flat(tmp_path / file, columns)).background
    assert part.lengths.tolist() == [len(p["reward"]) for p in parts]


@FILES
@pytest.mark.parametrize(
    ("option", "count"), [("", 0), (",dones=timeout", 2), (",dones=terminal", 5)]
)
def test_ends_that_are_marked_as_both_are_asked_about(
    tmp_path: Path, file: str, option: str, count: int
) -> None:
    parts, columns = columns_of(of(terminals="done", timeouts="clock"))
    spec = write_flat(tmp_path / file, columns)
    if not option:
        with pytest.raises(ValueError, match=f"{file}: terminals, timeouts: every end by the time"):
            fastifo.load(spec)
        return
    part = fastifo.load(spec + option).background
    assert part.lengths.tolist() == [len(p["reward"]) for p in parts]
    expected = sum(bool(p["terminal"]) for p in parts) if count == 2 else 5
    assert int(part.terminal.sum()) == expected


@FILES
def test_an_end_of_the_task_in_the_step_of_the_time_limit_is_the_tasks(
    tmp_path: Path, file: str
) -> None:
    parts, columns = columns_of(of(terminals="task", timeouts="clock"))
    both = np.flatnonzero(columns["terminals"])[0]
    columns["timeouts"][both] = 1
    assert_same(fastifo.load(write_flat(tmp_path / file, columns)).background, parts)


@FILES
def test_the_column_that_the_user_names_marks_ends_of_the_task_whatever_its_name(
    tmp_path: Path, file: str
) -> None:
    parts, columns = columns_of(of(timeouts="clock", goal="task"))
    dataset = fastifo.load(write_flat(tmp_path / file, columns) + ",terminals=goal")
    assert_same(dataset.background, parts)


@FILES
@pytest.mark.parametrize("next_obs", [True, False])
def test_rows_of_mixed_episodes_and_rows_of_none_are_refused(
    tmp_path: Path, file: str, next_obs: bool
) -> None:
    parts, columns = columns_of(of(timeouts="clock", terminals="task", episode_ids="number"))
    if not next_obs:
        del columns["next_observations"]
    count = len(columns["rewards"])
    step = np.concatenate([np.arange(len(part["reward"])) for part in parts])
    order = np.argsort(-step, kind="stable")
    mixed = {name: column[order] for name, column in columns.items()}
    spec = write_flat(tmp_path / file, mixed)
    with pytest.raises(ValueError, match=rf"{file}: episode_ids: .* 5 episodes in \d+ pieces"):
        fastifo.load(spec)
    if next_obs:
        assert fastifo.load(f"{spec},ends=rows").background.lengths.tolist() == [1] * count
    columns["episode_ids"][1] = np.nan
    with pytest.raises(ValueError, match=r"episode_ids: .* in every row, found none in row 1"):
        fastifo.load(write_flat(tmp_path / file, columns))


@FILES
def test_an_unknown_terminals_column_is_refused(tmp_path: Path, file: str) -> None:
    spec = write_flat(tmp_path / file, columns_of(of(dones="done"))[1])
    with pytest.raises(ValueError, match=rf"{file}: terminals: .*dones.*, found nothing"):
        fastifo.load(f"{spec},terminals=nothing")


@FILES
@pytest.mark.parametrize("what", ["done", "stop", "stop_row", "length"])
def test_the_column_that_the_user_names_may_hold_flags_positions_or_lengths(
    tmp_path: Path, file: str, what: str
) -> None:
    parts, columns = columns_of(of(terminals="task", chapters=what))
    dataset = fastifo.load(write_flat(tmp_path / file, columns) + ",ends=chapters")
    assert_same(dataset.background, parts)
