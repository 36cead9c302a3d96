"""`metrics.jsonl` of a run folder: what the training loop and callbacks log."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.utils.files import check_regular

RESERVED = {"stage", "update", "member"}  # names in the rows that are no metrics


class MetricsFile:
    """Appends to `metrics.jsonl`: one JSON object per line, for one member and interval."""

    def __init__(self, path: Path | None, keep_bytes: int) -> None:
        """path: the file; None keeps the rows in memory, in `rows`.

        keep_bytes: size at the last checkpoint. Later rows are cut off, as a resumed run writes
            them again.
        """
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path is not None and path.exists():
            os.truncate(path, min(keep_bytes, path.stat().st_size))

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Appends rows.  Raises OSError if they cannot be written."""
        if self.path is None:
            self.rows += map(dict, rows)
        elif rows:
            text = "".join(json.dumps(row) + "\n" for row in rows)
            try:
                with open(self.path, "a") as file:
                    file.write(text)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"{self.path}: could not be written ({error.strerror}); the last checkpoint "
                    "is kept. Free some space and run again",
                ) from error

    def size_bytes(self) -> int:
        """Size of the file; 0 if there is none."""
        return self.path.stat().st_size if self.path is not None and self.path.exists() else 0


class MetricsHash:
    """SHA-256 of the first bytes of a metrics file, computed piece by piece as the file grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digest = hashlib.sha256()
        self.done = 0  # bytes in `digest`

    def of(self, size_bytes: int) -> str:
        """The hash of the first `size_bytes` bytes, which are written to the disk first.

        Raises OSError; ValueError naming the file if it has fewer bytes.
        """
        if size_bytes < self.done:
            self.digest, self.done = hashlib.sha256(), 0
        if size_bytes > self.done:
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
                file.seek(self.done)
                content = file.read(size_bytes - self.done)
            self.digest.update(content)
            self.done += len(content)
        if self.done != size_bytes:
            raise ValueError(f"{self.path}: expected {size_bytes} bytes, found {self.done}")
        return self.digest.hexdigest()


def check_metrics(path: Path, size_bytes: int, sha256: str | None) -> None:
    """Raises ValueError unless the file begins with the rows of the last checkpoint.

    size_bytes, sha256: of those rows; None: the hash is not known.
    """
    remedy = "restore it from a copy, or train in another folder"
    if path.is_symlink():  # it could lead to a file that is not the run's
        raise ValueError(f"{path}: expected a file, found a link; {remedy}")
    found = 0
    if path.exists():
        check_regular(path)
        found = path.stat().st_size
    if found < size_bytes:
        what = f"{found} bytes" if path.exists() else "nothing there"
        raise ValueError(
            f"{path}: damaged: expected {size_bytes} bytes or more, found {what}; {remedy}"
        )
    if sha256 is not None and MetricsHash(path).of(size_bytes) != sha256:
        raise ValueError(
            f"{path}: damaged: its rows differ from those at the last checkpoint; {remedy}"
        )


def read_metrics(path: Path, begin: int = 0, end: int | None = None) -> list[dict[str, Any]]:
    """Rows of a metrics file; none if it does not exist.

    begin, end: bytes at which the first row begins and after which none is read; default: all.
    Raises ValueError naming file and line of a row that is not a JSON object.
    """
    if not path.exists():
        return []
    check_regular(path)
    rows = []
    with open(path, "rb") as file:
        file.seek(begin)
        content = file.read() if end is None else file.read(end - begin)
    for number, line in enumerate(content.splitlines()):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: line {number + 1} is not JSON ({error})") from None
        if not isinstance(row, dict) or not isinstance(row.get("update"), int):
            raise ValueError(
                f"{path}: line {number + 1}: expected an object with an integer 'update', found "
                f"{str(row)[:60]}"
            )
        rows.append(row)
    return rows


def metric_columns(
    rows: Sequence[Mapping[str, Any]], seeds: Sequence[int], stage: str | None
) -> dict[str, NDArray[Any]]:
    """Rows of a metrics file as columns; see `Run.metrics`.  seeds: of the run's members.

    Raises ValueError for a stage that logged nothing.
    """
    chosen = [row for row in rows if stage is None or row.get("stage") == stage]
    if rows and not chosen:
        known = ", ".join(dict.fromkeys(str(row.get("stage")) for row in rows))
        raise ValueError(f"stage: expected None or one of {known}, found {stage!r}")
    names = dict.fromkeys(name for row in chosen for name in row)
    members = [row.get("member", 0) for row in chosen]
    columns: dict[str, NDArray[Any]] = {
        "update": np.array([row["update"] for row in chosen], np.int64),
        "member": np.array(members, np.int64),
        "seed": np.array([seeds[member] for member in members], np.int64),
        "stage": np.array([str(row.get("stage")) for row in chosen]),
    }
    for name in names:
        if name not in columns:
            values = [row.get(name) for row in chosen]
            columns[name] = np.array([np.nan if v is None else v for v in values], np.float64)
    return columns
