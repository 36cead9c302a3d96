"""CSV and Parquet files with a row per step; columns are found by name.

Columns obs_0, obs_1, ... (or obs.0, obs[0], counted from 0 or 1) are one column, `obs`, as are the
entries of lists in Parquet. `flat.py` has the names that are known.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.data.formats.arrow import Table
from fastifo.data.formats.flat import Columns, read_columns
from fastifo.data.formats.limits import read_limit
from fastifo.data.formats.options import DEFAULTS, ReadOptions
from fastifo.data.formats.source import ReadResult
from fastifo.utils.files import check_regular

NUMBERED = re.compile(r"(.*?)[._\[ ]?(\d{1,6})\]?")
EPISODE = ("episode", "trajectory", "traj")  # of the row, where no other name says it
BLOCK_ROWS = 20_000  # of a CSV file, converted together
WORDS = {"true": "1", "false": "0", "": "nan", "none": "nan", "null": "nan", "na": "nan"}


class CSV:
    """The columns of a CSV file with a header, separated by commas, semicolons or tabs.

    Raises FileNotFoundError, or ValueError naming the file and the line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        check_regular(path)
        self.limit = read_limit(path, "CSV")
        self.kinds: dict[str, str] = {}
        self.texts: dict[str, str] = {}  # column -> its first value that is no number
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                header = file.readline()
                separator = max(",;\t", key=header.count)
                self.names = [
                    n.strip() for n in next(csv.reader([header], delimiter=separator), [])
                ]
                parts = self._parts(csv.reader(file, delimiter=separator))
        except (UnicodeDecodeError, csv.Error) as error:
            raise self.error(f"not a valid CSV file ({error})") from None
        self.values = {name: np.concatenate(parts[name]) for name in self.names if parts[name]}

    def error(self, reason: str) -> ValueError:
        """An error that names the file, to be raised."""
        return ValueError(f"{self.path}: {reason}")

    def _parts(self, reader: Any) -> dict[str, list[NDArray[np.float64]]]:
        """The numbers of each column, in blocks of rows."""
        if not self.names or len({*self.names}) != len(self.names) or not all(self.names):
            remedy = "; pandas writes no index with index=False" if "" in self.names else ""
            raise self.error(
                f"expected a header of different names, found {self.names[:12]}{remedy}"
            )
        parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self.names}
        block: list[list[str]] = []
        for row in reader:
            if len(row) != len(self.names):
                if not row:
                    continue
                count = len(self.names)
                line = reader.line_num + 1  # after the header
                raise self.error(f"line {line}: expected {count} values, found {len(row)}")
            block.append(row)
            if len(block) == BLOCK_ROWS:
                self._convert(block, parts)
                block = []
        if block:
            self._convert(block, parts)
        return parts

    def _convert(self, block: list[list[str]], parts: dict[str, list[NDArray[np.float64]]]) -> None:
        for name, column in zip(self.names, zip(*block, strict=True), strict=True):
            if name in self.texts:
                continue
            try:
                parts[name].append(np.array(column, np.float64))
            except ValueError:
                words = [WORDS.get(word.strip().lower(), word) for word in column]
                if text := next((word for word in words if not _is_number(word)), ""):
                    self.texts[name], parts[name] = text, []
                else:
                    parts[name].append(np.array(words, np.float64))

    def numbers(self, name: str, dtype: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
        """A column, [N].  Raises ValueError naming the file if it does not hold numbers."""
        if name not in self.values:
            found = f"{self.texts[name][:30]!r}" if name in self.texts else "no rows"
            raise self.error(f"{name}: expected numbers, found {found}")
        self.kinds[name] = "f"
        with np.errstate(over="ignore"):
            return self.values[name].astype(dtype)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


class Grouped:
    """The columns of a file, and those that numbered columns form together."""

    def __init__(self, file: Columns) -> None:
        self.file, self.path, self.kinds = file, file.path, file.kinds
        self.groups = numbered(file.names)
        self.names = [*file.names, *self.groups]

    def error(self, reason: str) -> ValueError:
        """An error that names the file, to be raised."""
        return self.file.error(reason)

    def numbers(self, name: str, dtype: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
        """A column, [N] or [N, width].  Raises ValueError naming the file."""
        if name not in self.groups:
            return self.file.numbers(name, dtype)
        parts = [self.file.numbers(column, dtype) for column in self.groups[name]]
        kinds = {self.kinds[column] for column in self.groups[name]}
        self.kinds[name] = "f" if "f" in kinds else min(kinds)
        if any(part.ndim != 1 for part in parts):
            raise self.error(f"{name}: expected numbers in its numbered columns, found lists")
        return np.stack(parts, 1)


def numbered(names: list[str]) -> dict[str, list[str]]:
    """Names of numbered columns without their number -> these columns, in their order."""
    found: dict[str, dict[int, str]] = {}
    for name in names:
        match = NUMBERED.fullmatch(name)
        if match and match[1]:
            found.setdefault(match[1], {})[int(match[2])] = name
    return {
        stem: [columns[index] for index in sorted(columns)]
        for stem, columns in found.items()
        if stem not in names and sorted(columns) == list(range(min(columns), max(columns) + 1))
        and min(columns) <= 1
    }  # fmt: skip


def read_csv(path: Path, options: ReadOptions = DEFAULTS) -> ReadResult:
    """The episodes of a CSV file; see `read_columns`.

    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.
    """
    return _read(CSV(path), options)


def read_parquet(path: Path, options: ReadOptions = DEFAULTS) -> ReadResult:
    """The episodes of a Parquet (or Arrow) file; see `read_columns`.

    Raises FileNotFoundError; ValueError naming the file and what is wrong; ImportError.
    """
    return _read(Table([path]), options)


def _read(file: Columns, options: ReadOptions) -> ReadResult:
    columns = Grouped(file)
    name = next((n for n in columns.names if n.lower() in EPISODE), None)
    if name is not None and not options.ends:
        check_together(columns.error, name, columns.numbers(name, np.float64))
        columns = _renamed(columns, {name: "episode_id"})
    return read_columns(columns, options)


def _renamed(columns: Grouped, names: Mapping[str, str]) -> Grouped:
    """The columns, some of them also under another name, unless it is taken."""
    for name, other in names.items():
        if other not in columns.names:
            columns.groups[other] = columns.groups.get(name, [name])
            columns.names.append(other)
    return columns


def check_together(error: Any, name: str, numbers: NDArray[Any]) -> None:
    """Raises ValueError unless the rows of every episode lie together.

    error: makes the error.  name: of the column.  numbers: of each row's episode.
    """
    flat = numbers.ravel()
    runs = 1 + int((np.diff(flat) != 0).sum())
    if len(flat) and runs != len(np.unique(flat)):
        raise error(
            f"{name}: expected the rows of an episode together, found {len(np.unique(flat))} "
            f"episodes in {runs} pieces; sort the rows, or split the file and pass several"
        )
