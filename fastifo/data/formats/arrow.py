"""Parquet and Arrow files that may be damaged, read by pyarrow in a separate process.

`reader_host.py` is that process; it says why and within which limits. It runs `arrow_reader.py`.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.data.formats.limits import read_limit
from fastifo.data.formats.reader_process import Growing, ReaderProcess
from fastifo.utils.files import check_regular

READER = Path(__file__).with_name("arrow_reader.py")
ITEM_BYTES = 8  # of a value that the process sends


class Table:
    """A table that one file, or several with the same columns, hold.

    Fields of structures are columns of their own, as in "observations/state".
    Raises FileNotFoundError; ValueError naming the file if it cannot be read; ImportError.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        columns: Sequence[str] | None = None,
        flag: tuple[str, str] | None = None,
    ) -> None:
        """paths: one or more files.  columns: those to read; None: all.

        flag: a column of lists of JSON texts, and a key in their last one; see `flags`.
        """
        if importlib.util.find_spec("pyarrow") is None:
            raise ImportError(
                "Parquet and Arrow files need the package pyarrow: pip install 'fastifo[lerobot]'"
            )
        self.path = paths[0]
        for path in paths:
            check_regular(path)
        limit = sum(read_limit(path, "Parquet or Arrow") for path in paths)
        values = Growing(ITEM_BYTES * limit // 4)  # the limit is for float32
        request = {
            "paths": [str(path.absolute()) for path in paths],
            "columns": None if columns is None else list(columns),
            "flag": flag,
            "memory": 4 * limit + (256 << 20),
        }
        reply = _READER.ask(request, values)
        if "error" in reply:
            raise self.error(f"not a valid Parquet or Arrow file: {reply['error']}")
        result = reply["result"]
        self.rows: int = result["rows"]
        self.columns: dict[str, dict[str, Any]] = result["columns"]
        self.flags: list[bool | None] | None = result["flags"]  # of each row; None: no such column
        self.values: dict[str, NDArray[np.float64]] = {}
        flat = np.frombuffer(values.content, np.float64)
        for name, entry in self.columns.items():
            if "shape" in entry:
                count = int(np.prod(entry["shape"]))
                self.values[name], flat = flat[:count].reshape(entry["shape"]), flat[count:]
        self.names = list(self.columns)
        self.kinds = {n: str(e["kind"]) for n, e in self.columns.items() if "kind" in e}

    def error(self, reason: str) -> ValueError:
        """An error that names the first file, to be raised."""
        return ValueError(f"{self.path}: {reason}")

    def fields(self, name: str) -> list[str]:
        """The fields of a column of structures; none for another column."""
        return [n.removeprefix(f"{name}/") for n in self.names if n.startswith(f"{name}/")]

    def numbers(self, name: str, dtype: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
        """A column of numbers, [N], or of lists of numbers of one length, [N, width].

        Missing numbers are NaN.  Raises ValueError naming the file and the column for other values.
        """
        entry = self._entry(name)
        if "lengths" in entry:
            lengths = entry["lengths"]
            if self.values[name].ndim == 2:
                raise self.error(f"{name}: expected numbers or lists, found {entry['type']}")
            raise self.error(
                f"{name}: expected lists of one length, found {min(lengths)} to {max(lengths)}"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            return self.values[name].astype(dtype)

    def lists(self, name: str) -> list[NDArray[np.float32]]:
        """A column of lists, a row each: of numbers, [T], or of lists of one length, [T, width]."""
        entry = self._entry(name)
        values = self.values[name].astype(np.float32)
        if "lengths" not in entry:  # all have one length
            if values.ndim != 2:
                raise self.error(f"{name}: expected lists of numbers, found {entry['type']}")
            return list(values)
        return np.split(values, np.cumsum(entry["lengths"])[:-1])

    def _entry(self, name: str) -> dict[str, Any]:
        if name not in self.columns:
            found = ", ".join(self.names[:12]) or "none"
            raise self.error(f"expected a column {name!r}, found {found}")
        entry = self.columns[name]
        if name not in self.values:
            raise self.error(f"{name}: expected numbers, found {entry['type']}")
        return entry


_READER = ReaderProcess(READER, "Arrow")
