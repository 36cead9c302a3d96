"""Where episodes end in a flat file, and which of the ends are ends of the task.

Files name these columns in many ways. What a file says in any of them is used; what it does not say
is asked for by an error.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastifo.data.formats.end_columns import EndColumns, Values
from fastifo.data.formats.end_names import (
    CLOCK,
    DONE,
    EVERY,
    FIRST,
    LENGTHS,
    MASKS,
    NUMBERS,
    TASK,
    may_end_episode,
    may_end_task,
)
from fastifo.data.formats.options import ReadOptions
from fastifo.data.formats.source import Bools

WHOLE_FILE = "file"  # value of the option `ends`: the file is one episode
EACH_ROW = "rows"  # value of the option `ends`: each row is an episode, as in a shuffled buffer


@dataclass(frozen=True)
class Ends:
    """Ends of the episodes of N rows."""

    last: Bools  # [N], whether a row is known to be the last of its episode
    terminal: Bools  # [N], whether the task ended with a row
    notes: dict[str, int] = field(default_factory=dict)


def named_columns(
    options: ReadOptions, known: Sequence[str], error: Callable[[str], ValueError]
) -> list[str]:
    """The columns that the options `ends` and `terminals` name.

    known: the columns of the file.  error: makes the error for one that the file lacks.
    """
    names = []
    for option in ("ends", "terminals"):
        name = getattr(options, option)
        if name in ("", WHOLE_FILE, EACH_ROW):
            continue
        if name not in known:
            raise error(f"{option}: expected one of {', '.join(known)}, found {name}")
        names.append(name)
    return names


def find_ends(
    path: Path,
    values: Mapping[str, Values],
    count: int,
    options: ReadOptions,
    *,
    max_steps: int = 0,
    has_next_obs: bool = False,
) -> Ends:
    """The ends of the episodes of a flat file with `count` rows, by these rules:

    * Every column that marks ends is used (`end_names` has their names), and `options.ends`; an
      episode ends wherever one of them says so. Columns that mark no row at all say nothing.
    * A column of TASK or MASKS, or `options.terminals`, says which ends are the task's. Without
      one, ends that only `dones` marks are the task's or the clock's as `options.dones` says; with
      a known time limit, those before it are the task's. Ends that other columns mark are then
      counted as time limits, unless the file has a column that may mark ends of the task.
    * `terminals` alone do not say where the time limit ended an episode: the limit must be known,
      or `options.dones` say that there is none ("terminal"), or that `terminals` mark the end of
      every episode and never of the task ("timeout", as in OGBench).
    * If `terminals` mark every end that `timeouts` mark, they may mark all ends; `options.dones`
      says whose the ends are that both mark.

    path: the file, for errors.
    values: the columns of the file that `end_names.in_order` lists, `options.ends` and
        `options.terminals`.
    max_steps: the task's time limit as far as the file tells; `options.max_steps` replaces it.
    has_next_obs: whether the file has next observations, which show further ends.
    Raises ValueError naming the file, what it has, and the options that help.
    """
    columns = EndColumns(path, values, count, options, options.max_steps or max_steps)
    task = columns.union(TASK, columns.flags)
    marks = _full_marks(columns)
    clock = columns.union(CLOCK, columns.flags)
    done = columns.union(DONE, columns.flags)
    notes: dict[str, int] = {}
    if columns.named(MASKS):
        if task is None and done is None and marks is None:  # nothing else marks ends of the task
            task = columns.union(MASKS, columns.zeros)
        else:
            task, done = _with_masks(columns, task, done, _any(count, marks, clock), notes)
    last = _any(count, task, done, marks, clock)
    says_nothing = not (last.any() or has_next_obs)  # every flag is 0
    if (clock is None and marks is None and done is None) or says_nothing:
        return _from_terminals(columns, task, has_next_obs, notes)
    if task is None:
        _refuse_unknown(columns, only_clock=marks is None and done is None)
        task = _task_ends(columns, last, done, clock, notes)
    elif clock is not None and bool((task & clock).any()):
        task = _without_clock(columns, task, clock)
    elif options.dones:
        task = last if options.dones == "terminal" else np.zeros_like(last)
    timed = clock is not None and bool(clock.any())
    return Ends(last, task, notes | ({} if timed else _same_length(last, task)))


def _refuse_unknown(columns: EndColumns, *, only_clock: bool) -> None:
    """Raises ValueError for a column that may mark ends under a name that is not known.

    only_clock: whether the file marks time limits only.
    """
    if columns.options.dones:
        return  # says what the ends are
    matches = may_end_episode if only_clock else may_end_task
    names = [name for name in columns.values if name not in columns.known and matches(name)]
    name = next(filter(columns.may_be_flags, names), None)
    if name is not None:
        raise columns.error(
            f"{name}: may mark ends of the task or of episodes; its name is not known. Say "
            f",terminals={name} if it marks ends of the task, ,ends={name} if it marks the last "
            "row of every episode, or ,dones=timeout if the time limit ended every episode"
        )


def _without_clock(columns: EndColumns, task: Bools, clock: Bools) -> Bools:
    """Ends of the task, where some rows are marked as ends by the time limit too."""
    both = task & clock
    if columns.options.dones:
        return task if columns.options.dones == "terminal" else task & ~clock
    if both.sum() < clock.sum():
        return task  # the task ended in the very step of the time limit
    names = columns.named(TASK) + columns.named(CLOCK)
    raise columns.error(
        f"{', '.join(names)}: every end by the time limit is marked as an end of the task too: "
        f"{int(both.sum())} of {int(task.sum())}. Say ,dones=timeout if the time limit ended these "
        "episodes, or ,dones=terminal if the task did"
    )


def _with_masks(
    columns: EndColumns,
    task: Bools | None,
    done: Bools | None,
    others: Bools,
    notes: dict[str, int],
) -> tuple[Bools, Bools | None]:
    """Ends of the task by `masks`, and rows that mark the end of an episode of any kind.

    `masks` are 0 at the goal of a trajectory that may go on; `terminals` beside them that differ
    mark the ends of trajectories.  others: rows that further columns mark as last.
    """
    reached = columns.union(MASKS, columns.zeros)
    assert reached is not None
    if task is not None and bool((task != reached).any()):
        done = _any(columns.count, task, done)
    last = _any(columns.count, done, others)
    if not last.any():
        return reached, done
    inside = int((reached & ~last).sum())
    if inside:
        notes["ends of the task inside an episode that goes on, not used"] = inside
    return reached & last, done


def _any(count: int, *columns: Bools | None) -> Bools:
    marked = np.zeros(count, bool)
    for column in columns:
        if column is not None:
            marked |= column
    return marked


def _full_marks(columns: EndColumns) -> Bools | None:
    """Rows that are marked as last by a column that marks every end; None without one."""
    given = columns.options.ends
    readers = {
        EVERY: columns.marks, FIRST: columns.before_starts, LENGTHS: columns.after_lengths,
        NUMBERS: columns.changes,
    }  # fmt: skip
    parts = [columns.union(role, read) for role, read in readers.items()]
    if given == WHOLE_FILE:
        parts.append(np.arange(columns.count) == columns.count - 1)
    elif given == EACH_ROW:
        parts.append(np.ones(columns.count, bool))
    elif given:
        parts.append(readers.get(columns.role(given) or "", columns.marks)(given))
    marked = [part for part in parts if part is not None]
    return np.logical_or.reduce(marked) if marked else None


def _from_terminals(
    columns: EndColumns, task: Bools | None, has_next_obs: bool, notes: dict[str, int]
) -> Ends:
    """Ends where at most the ends of the task are marked."""
    terminal = np.zeros(columns.count, bool) if task is None else task
    dones, steps = columns.options.dones, columns.max_steps
    if task is not None and dones:
        kept = terminal if dones == "terminal" else np.zeros_like(terminal)
        return Ends(terminal, kept, notes)
    if steps:
        notes["steps after which the time limit ends an episode"] = steps
        return Ends(terminal | _time_limits(terminal, steps), terminal, notes)
    if has_next_obs and not _same_length(terminal, terminal):
        return Ends(terminal, terminal, notes)
    found = ", ".join(columns.known) or "none of them"
    if not terminal.any() and len(columns.known) > 1:
        raise columns.error(
            f"{found}: expected the last row of each episode to be marked, found no marked row. "
            "Say ,max_steps=<n> for a fixed length, or ,ends=file for one episode"
        )
    if task is None:
        raise columns.error(
            "expected a column that says where episodes end, such as terminals and timeouts, "
            f"dones, episode_starts or episode_lengths; found {found}. Name the column with "
            ",ends=<name>, a fixed length with ,max_steps=<n>, or say ,ends=file for one episode"
        )
    raise columns.error(
        f"{found} alone: ends by a time limit are not marked, or every episode's end is marked as "
        "the task's. Say ,max_steps=<n>, the time limit; ,dones=terminal if every episode ends "
        "with the task; or ,dones=timeout if these are ends of episodes and not of the task, as in "
        "OGBench"
    )


def _task_ends(
    columns: EndColumns, last: Bools, done: Bools | None, clock: Bools | None, notes: dict[str, int]
) -> Bools:
    """Which ends are the task's, where no column of TASK says so."""
    unknown = last if clock is None else last & ~clock
    if columns.options.dones:
        return unknown if columns.options.dones == "terminal" else np.zeros_like(last)
    if done is not None and clock is not None:
        return done & unknown
    if done is None:
        note = "ends of episodes counted as time limits, since the file has no terminals"
        notes[note] = int(last.sum())
        return np.zeros_like(last)
    if columns.max_steps:
        ends = np.flatnonzero(last)
        length = np.diff(ends, prepend=-1)
        ended = np.zeros_like(last)
        ended[ends[length < columns.max_steps]] = True
        return ended & done
    if bool((last & ~done)[:-1].any()) and _marked(columns):
        return done  # every end is marked apart, and some ends inside the file are not `dones`
    names = ", ".join(columns.named(DONE))
    raise columns.error(
        f"{names}: does not say whether the task or the time limit ended an episode. Say "
        ",dones=terminal or ,dones=timeout, or the time limit with ,max_steps=<n>"
    )


def _marked(columns: EndColumns) -> bool:
    """Whether a column marks every end, so that `dones` may mark the task's only."""
    roles = (EVERY, FIRST, LENGTHS, NUMBERS)
    return bool(columns.options.ends) or any(columns.named(role) for role in roles)


def _same_length(last: Bools, task: Bools) -> dict[str, int]:
    """A note if all episodes end with the task after the same number of steps, as clocks do."""
    ends = np.flatnonzero(last)
    length = np.diff(ends, prepend=-1)
    if len(ends) < 2 or not task[ends].all() or (length != length[0]).any():
        return {}
    return {"episodes that all end with the task, each after the same number of steps": len(ends)}


def _time_limits(terminal: Bools, steps: int) -> Bools:
    """[N], every `steps`-th row after a terminal or the start of the file."""
    ends = np.flatnonzero(terminal)
    first = np.concatenate([[0], ends + 1])
    row = np.arange(len(terminal))
    step = row - first[np.searchsorted(ends, row)]
    return np.asarray((step + 1) % steps == 0)
