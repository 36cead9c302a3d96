"""Where episodes end in a flat file, and which of the ends are ends of the task.

Files name these columns in many ways. What a file says in any of them is used; what it does not say
is asked for by an error.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastifo.data.formats.options import ReadOptions

TASK = ("terminals", "terminations", "terminated", "terminal")  # the task ended with this row
CLOCK = ("timeouts", "truncations", "truncated", "timeout")  # the time limit ended the episode
DONE = ("dones", "done", "dones_float", "is_last")  # either, in general
EVERY = ("episode_terminals", "episode_ends")  # any end, beside a column of TASK
FIRST = ("episode_starts", "is_first")  # the first row of an episode
LENGTHS = ("episode_lengths", "episode_lens", "trajectory_lengths", "traj_lengths")
NUMBERS = (  # the number of the row's episode
    "episode_ids", "episode_id", "episode_index", "trajectory_ids", "trajectory_id", "traj_ids",
    "traj_id",
)  # fmt: skip
MASKS = ("masks",)  # 0 where the task ended, 1 elsewhere (OGBench, jaxrl)
COLUMNS = (*TASK, *CLOCK, *DONE, *EVERY, *FIRST, *LENGTHS, *NUMBERS, *MASKS)
WHOLE_FILE = "file"  # value of the option `ends`: the file is one episode

Bools = NDArray[np.bool_]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Ends:
    """Ends of the episodes of N rows."""

    last: Bools  # [N], whether a row is known to be the last of its episode
    terminal: Bools  # [N], whether the task ended with a row
    notes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Columns:
    """The columns of a file that say where episodes end, and what the user says."""

    path: Path
    values: Mapping[str, Values]
    count: int  # rows, N
    options: ReadOptions
    max_steps: int  # the task's time limit; 0: unknown

    def error(self, reason: str) -> ValueError:
        return ValueError(f"{self.path}: {reason}")

    def flags(self, name: str) -> Bools:
        """A column of zeros and ones, [N].  Raises ValueError for another shape or value."""
        values = self.values[name]
        if values.shape == (self.count, 1):
            values = values[:, 0]
        if values.shape != (self.count,):
            raise self.error(f"{name}: expected ({self.count},), found {self.values[name].shape}")
        wrong = ~np.isin(values, (0.0, 1.0))
        if wrong.any():
            raise self.error(
                f"{name}: expected 0 or 1 in every row, found {values[wrong][0]:g} in row "
                f"{np.flatnonzero(wrong)[0]}"
            )
        return np.asarray(values != 0)

    def union(self, names: Sequence[str], read: Callable[[str], Bools]) -> Bools | None:
        """Rows that any of the columns marks, [N]; None if the file has none of them."""
        marked = [read(name) for name in names if name in self.values]
        return np.logical_or.reduce(marked) if marked else None

    def marks(self, name: str) -> Bools:
        """Last rows, [N], from a column of flags, or from one of positions behind the last rows."""
        values = self.values[name].ravel()
        rising = bool((np.diff(values) > 0).all()) and values.size > 0
        if values.size != self.count and rising and values[0] >= 1 and values[-1] == self.count:
            return self._at(name, values - 1)
        return self.flags(name)

    def before_starts(self, name: str) -> Bools:
        """Last rows, [N], from a column that flags first rows, or lists their positions."""
        values = self.values[name].ravel()
        rising = bool((np.diff(values) > 0).all()) and values.size > 0
        if values.size != self.count and rising and values[0] == 0 and values[-1] < self.count:
            return self._at(name, np.append(values[1:], self.count) - 1)
        marks: Bools = np.ones(self.count, bool)
        marks[:-1] = self.flags(name)[1:]
        return marks

    def after_lengths(self, name: str) -> Bools:
        """Last rows, [N], from the number of rows of each episode."""
        lengths = self.values[name].ravel()
        if not (lengths >= 1).all() or lengths.sum() != self.count:
            raise self.error(
                f"{name}: expected numbers of at least 1 with sum {self.count}, found "
                f"{lengths.tolist()[:5]}... with sum {lengths.sum():g}"
            )
        return self._at(name, lengths.cumsum() - 1)

    def changes(self, name: str) -> Bools:
        """Last rows, [N], where the number of the episode changes."""
        values = self.values[name]
        if values.size != self.count:
            raise self.error(f"{name}: expected ({self.count},), found {values.shape}")
        return np.append(np.diff(values.ravel()) != 0, True)

    def _at(self, name: str, rows: Values) -> Bools:
        if (rows != np.floor(rows)).any():
            raise self.error(f"{name}: expected whole numbers, found {rows[rows % 1 != 0][0] + 1}")
        marks = np.zeros(self.count, dtype=bool)
        marks[rows.astype(np.int64)] = True
        return marks


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

    * Every column in COLUMNS that marks ends is used, and `options.ends`; an episode ends wherever
      one of them says so. Columns that mark no row at all say nothing.
    * A column of TASK, or `masks`, says which ends are the task's. Without one, ends that only
      `dones` marks are the task's or the clock's as `options.dones` says; with a known time limit,
      those before it are the task's. Ends that other columns mark are then counted as time limits.
    * `terminals` alone do not say where the time limit ended an episode: the limit must be known,
      or `options.dones` say that there is none ("terminal"), or that `terminals` mark the end of
      every episode and never of the task ("timeout", as in OGBench).

    path: the file, for errors.
    values: the columns of the file that are in COLUMNS, and `options.ends`.
    max_steps: the task's time limit as far as the file tells; `options.max_steps` replaces it.
    has_next_obs: whether the file has next observations, which show further ends.
    Raises ValueError naming the file, what it has, and the options that help.
    """
    columns = _Columns(path, values, count, options, options.max_steps or max_steps)
    task = columns.union(TASK, columns.flags)
    marks = _full_marks(columns)
    clock = columns.union(CLOCK, columns.flags)
    done = columns.union(DONE, columns.flags)
    notes: dict[str, int] = {}
    if "masks" in values:
        task, done = _with_masks(columns, task, done, _any(count, marks, clock), notes)
    last = _any(count, task, done, marks, clock)
    says_nothing = not (last.any() or has_next_obs)  # every flag is 0
    if (clock is None and marks is None and done is None) or says_nothing:
        return _from_terminals(columns, task, has_next_obs, notes)
    if task is None:
        task = _task_ends(columns, last, done, clock, notes)
    elif options.dones:
        task = last if options.dones == "terminal" else np.zeros_like(last)
    timed = clock is not None and bool(clock.any())
    return Ends(last, task, notes | ({} if timed else _same_length(last, task)))


def _with_masks(
    columns: _Columns, task: Bools | None, done: Bools | None, others: Bools, notes: dict[str, int]
) -> tuple[Bools, Bools | None]:
    """Ends of the task by `masks`, and rows that mark the end of an episode of any kind.

    `masks` are 0 at the goal of a trajectory that may go on; `terminals` beside them that differ
    mark the ends of trajectories.  others: rows that further columns mark as last.
    """
    reached = ~columns.flags("masks")
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


def _full_marks(columns: _Columns) -> Bools | None:
    """Rows that are marked as last by a column that marks every end; None without one."""
    given = columns.options.ends
    readers = (
        (EVERY, columns.marks), (FIRST, columns.before_starts), (LENGTHS, columns.after_lengths),
        (NUMBERS, columns.changes),
    )  # fmt: skip
    parts = [columns.union(names, read) for names, read in readers]
    if given == WHOLE_FILE:
        parts.append(np.arange(columns.count) == columns.count - 1)
    elif given:
        known = {name: read for names, read in readers for name in names}
        parts.append(known.get(given, columns.marks)(given))
    marked = [part for part in parts if part is not None]
    return np.logical_or.reduce(marked) if marked else None


def _from_terminals(
    columns: _Columns, task: Bools | None, has_next_obs: bool, notes: dict[str, int]
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
    found = ", ".join(columns.values) or "none of them"
    if found and not terminal.any() and len(columns.values) > 1:
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
    columns: _Columns, last: Bools, done: Bools | None, clock: Bools | None, notes: dict[str, int]
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
    names = ", ".join(name for name in DONE if name in columns.values)
    raise columns.error(
        f"{names}: does not say whether the task or the time limit ended an episode. Say "
        ",dones=terminal or ,dones=timeout, or the time limit with ,max_steps=<n>"
    )


def _marked(columns: _Columns) -> bool:
    """Whether a column marks every end, so that `dones` may mark the task's only."""
    names = (*EVERY, *FIRST, *LENGTHS, *NUMBERS)
    return bool(columns.options.ends) or any(name in columns.values for name in names)


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
