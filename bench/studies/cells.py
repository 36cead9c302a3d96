"""The cells of a study and their rows: what was trained and evaluated, and what it returned."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastifo.utils.files import write_bytes
from fastifo.utils.locks import file_lock

KEY = ("task", "set", "method", "variant", "hidden", "updates", "iteration")  # identify a cell
COLUMNS = (
    *KEY, "spec", "seeds", "episodes", "background", "background_low", "background_high", "expert",
    "return", "low", "high", "per_seed", "mode", "mode_low", "mode_high", "mode_per_seed",
    "precision", "engine", "device", "processor", "commit",
)  # fmt: skip
# Updates of two members per second of processor time, measured for bc and vfo_bin at 256 x 2 in
# bf16 on one thread of an EPYC with AVX-512 BF16. The others by their ratios in the table of
# methods in bench/results/README.md. TAILO's includes its discriminators, for 50,000 updates.
SPEED = {
    "bc": 326, "bco": 300, "awr": 183, "vfo_bin": 131, "vfo_disc": 127, "smodice": 113,
    "dilo": 100, "lobsdice": 113, "tailo": 132, "pw_dice": 85, "iql": 127, "seabo": 120,
    "otr": 120, "tge": 115,
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One method on one dataset at one size; all seeds are one population."""

    task: str  # id of the environment
    set: str  # short name of the dataset: weak, middle, strong, expert=200, improve
    spec: str  # the dataset, for `fastifo.load`
    method: str
    hidden: int  # width of both hidden layers
    updates: int
    variant: str = ""  # what distinguishes cells of one method: a preset or a changed field
    fields: Mapping[str, Any] = field(default_factory=dict, hash=False)  # for `fastifo.train`
    seeds: tuple[int, ...] = (0, 1)
    iteration: int = 0  # of self-improvement; 0: trained once on the dataset

    @property
    def key(self) -> tuple[str, ...]:
        """The values of the columns KEY."""
        return tuple(str(getattr(self, name)) for name in KEY)

    @property
    def folder(self) -> Path:
        """Where its run is, relative to the study's folder; shared by numbers of updates."""
        name = "-".join(x for x in (self.method, self.variant, str(self.hidden)) if x)
        parts = (self.task, self.set, name)
        return Path(*parts, str(self.updates)) if self.iteration else Path(*parts)

    @property
    def label(self) -> str:
        """The cell in a few words; `--only` searches them."""
        method = f"{self.method} {self.variant}".strip()
        turn = f", iteration {self.iteration}" if self.iteration else ""
        return f"{self.task} {self.set} {method} {self.hidden}x2 {self.updates:,}{turn}"

    def minutes(self, updates_before: int = 0) -> float:
        """Estimated processor time in minutes on one thread, without data and evaluation.

        updates_before: made by an earlier cell of the same folder.
        """
        per_update: float = (self.hidden / 256) ** 1.6 * len(self.seeds) / 2 / SPEED[self.method]
        return (self.updates - updates_before) * per_update / 60


def updates_before(cell: Cell, cells: Iterable[Cell]) -> int:
    """Updates of the longest shorter cell in the same folder, from which this one continues."""
    same = (c.updates for c in cells if c.folder == cell.folder and c.updates < cell.updates)
    return max(same, default=0)


class Results:
    """A CSV file with a row per finished cell, which several processes add to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[tuple[str, ...], dict[str, str]]:
        """All rows by the values of KEY.

        Raises ValueError if the file has other columns.
        """
        if not self.path.exists():
            return {}
        with self.path.open(newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ValueError(
                    f"{self.path}: expected the columns {', '.join(COLUMNS)}, found "
                    f"{', '.join(reader.fieldnames or ())}; move the file away"
                )
            return {tuple(row[name] for name in KEY): row for row in reader}

    def add(self, cell: Cell, values: Mapping[str, Any]) -> None:
        """Adds the row of a cell, atomically.  values: of the columns that KEY lacks."""
        lock = self.path.with_name(f".{self.path.name}.lock")
        with file_lock(lock, str(self.path), waits=True):
            rows = self.read()
            identity = dict(zip(KEY, cell.key, strict=True))
            rows[cell.key] = {name: str(({**values, **identity})[name]) for name in COLUMNS}
            table = io.StringIO()
            writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows[key] for key in sorted(rows, key=_order))
            write_bytes(self.path, table.getvalue().encode())


def _order(key: tuple[str, ...]) -> tuple[Any, ...]:
    """Sorts numbers by value, so that rows of two machines merge in one order."""
    return tuple((int(x), "") if x.isdigit() else (-1, x) for x in key)
