"""Columns of a flat file that mark episode ends, as the last row of each episode."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastifo.data.formats.end_names import role_of
from fastifo.data.formats.options import ReadOptions
from fastifo.data.formats.source import Bools

Values = NDArray[np.float64]


@dataclass(frozen=True)
class EndColumns:
    """The columns of a file that say, or may say, where episodes end, and what the user says."""

    path: Path
    values: Mapping[str, Values]
    count: int  # rows, N
    options: ReadOptions
    max_steps: int  # the task's time limit; 0: unknown

    def error(self, reason: str) -> ValueError:
        """An error that names the file, to be raised."""
        return ValueError(f"{self.path}: {reason}")

    def role(self, name: str) -> str | None:
        """What a column says: as the user says, or by its name."""
        return "task" if name == self.options.terminals else role_of(name)

    def named(self, role: str) -> list[str]:
        """The columns with a role."""
        return [name for name in self.values if self.role(name) == role]

    @property
    def known(self) -> list[str]:
        """The columns that have a role."""
        chosen = {self.options.ends, self.options.terminals}
        return [name for name in self.values if self.role(name) or name in chosen]

    def flags(self, name: str) -> Bools:
        """A column of zeros and ones, [N].  Raises ValueError for another shape or value."""
        return np.asarray(self._column(name, 1.0) != 0)

    def zeros(self, name: str) -> Bools:
        """Rows, [N], at which a column is 0, which elsewhere is one other number.

        Raises ValueError for another shape or further values.
        """
        values = self.values[name].ravel()
        return np.asarray(self._column(name, float(values.max(initial=0.0)) or 1.0) == 0)

    def _column(self, name: str, other: float) -> Values:
        """A column, [N], of zeros and another number."""
        values = self.values[name]
        if values.shape == (self.count, 1):
            values = values[:, 0]
        if values.shape != (self.count,):
            raise self.error(f"{name}: expected ({self.count},), found {self.values[name].shape}")
        wrong = ~np.isin(values, (0.0, other))
        if wrong.any():
            raise self.error(
                f"{name}: expected 0 or {other:g} in every row, found {values[wrong][0]:g} in row "
                f"{np.flatnonzero(wrong)[0]}"
            )
        return values

    def may_be_flags(self, name: str) -> bool:
        """Whether a column is one of zeros and another number, not all the same."""
        try:
            zeros = self.zeros(name)
        except ValueError:
            return False
        return bool(zeros.any() and not zeros.all())

    def union(self, role: str, read: Callable[[str], Bools]) -> Bools | None:
        """Rows that any column with a role marks, [N]; None if the file has none."""
        marked = [read(name) for name in self.named(role)]
        return np.logical_or.reduce(marked) if marked else None

    def marks(self, name: str) -> Bools:
        """Last rows, [N], from flags, positions of or behind the last rows, or lengths."""
        values = self.values[name].ravel()
        if values.size in (self.count, 0):
            return self.flags(name)
        rising = bool((np.diff(values) > 0).all())
        if rising and values[0] >= 1 and values[-1] == self.count:
            return self._at(name, values - 1)
        if rising and values[0] >= 0 and values[-1] == self.count - 1:
            return self._at(name, values)
        if values.min() >= 1 and values.sum() == self.count:
            return self._at(name, values.cumsum() - 1)
        return self.flags(name)

    def before_starts(self, name: str) -> Bools:
        """Last rows, [N], from a column that flags first rows, or lists their positions."""
        values = self.values[name].ravel()
        rising = bool((np.diff(values) > 0).all()) and values.size > 0
        if values.size != self.count and rising and values[0] == 0 and values[-1] <= self.count:
            ends = np.append(values[1:], self.count)
            return self._at(name, np.unique(ends) - 1)  # the last one may be the number of rows
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
        values = values.ravel()
        if len(missing := np.flatnonzero(np.isnan(values))):
            raise self.error(
                f"{name}: expected the number of an episode in every row, found none in row "
                f"{missing[0]}"
            )
        last = np.append(np.diff(values) != 0, True)
        pieces, numbers = int(last.sum()), len(np.unique(values))
        single = int((last & np.append(True, last[:-1])).sum())  # pieces of one row
        if pieces > numbers and 2 * single > pieces and not self.options.ends:
            raise self.error(
                f"{name}: expected the rows of an episode together, found {numbers} episodes in "
                f"{pieces} pieces, most of them of one row; sort the rows, or say ,ends=rows: each "
                "row is then an episode of its own"
            )
        return last

    def _at(self, name: str, rows: Values) -> Bools:
        if (rows != np.floor(rows)).any():
            raise self.error(f"{name}: expected whole numbers, found {rows[rows % 1 != 0][0] + 1}")
        marks = np.zeros(self.count, dtype=bool)
        marks[rows.astype(np.int64)] = True
        return marks
