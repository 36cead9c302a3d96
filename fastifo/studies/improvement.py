"""The result of self-improvement and of DAgger."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from fastifo.utils.files import read_json, write_json
from fastifo.utils.records import Record
from fastifo.utils.text import decimals_for

FORMAT = "fastifo-improve"
FILE = "improve.json"
REMEDY = "run it again"


@dataclass(frozen=True, repr=False)
class Improvement(Record):
    """What `improve` returns: return and success after each iteration, by seed.

    They are those of the iteration's data, episodes of the policy's sampled actions. With `dagger`
    and a beta above 0 they are those of other episodes, in which the policy acts alone. Returns
    are undiscounted means. A seed's values are nan from the iteration in which it diverged.
    """

    algorithm: str  # name of the method
    env_id: str  # the environment
    seeds: tuple[int, ...]  # one sequence of policies each
    returns: list[list[float]]  # [seeds][iterations + 1]; the first is that of the first data
    success: list[list[float]] | None = None  # rates, as `returns`; None where they are unknown

    def save(self, folder: Path) -> None:
        """Writes `improve.json`, atomically; nan becomes null."""
        content: dict[str, Any] = {"format": FORMAT, **dataclasses.asdict(self)}
        for name in ("returns", "success"):
            rows = content.pop(name)
            if rows is not None:
                content[name] = [[None if math.isnan(x) else x for x in row] for row in rows]
        write_json(folder / FILE, content)

    @staticmethod
    def load(path: Path) -> "Improvement | None":
        """Reads an `improve.json`; None if another program wrote it.

        Raises ValueError naming a damaged file.
        """
        content = read_json(path, REMEDY)
        try:
            if content.pop("format") != FORMAT:
                return None
            for name in ("returns", "success"):
                if content.get(name) is not None:
                    rows = [[math.nan if x is None else x for x in row] for row in content[name]]
                    content[name] = rows
            return Improvement(**content | {"seeds": tuple(content["seeds"])})
        except (AttributeError, KeyError, TypeError):
            raise ValueError(
                f"{path}: expected a self-improvement's results, found something else; {REMEDY}"
            ) from None

    @property
    def measure(self) -> str:
        """What tables and figures show: success where it is known, otherwise return."""
        return "return" if self.success is None else "success"

    @property
    def measured(self) -> list[list[float]]:
        """Its values, [seeds][iterations + 1]."""
        return self.returns if self.success is None else self.success

    @property
    def digits(self) -> int:
        """Decimals of `measured` in tables."""
        return decimals_for(np.ravel(self.returns)) if self.success is None else 2

    @property
    def columns(self) -> list[str]:
        """Titles of the table's columns."""
        return ["iteration", *(f"seed {seed}" for seed in self.seeds), "mean"]

    @property
    def rows(self) -> list[list[str]]:
        """Cells of a table: for each iteration the value of each seed, and their mean.

        The mean is that of the seeds that have not diverged.
        """
        values = np.array(self.measured).T  # [iterations + 1, seeds]
        table = [[f"{value:.{self.digits}f}" for value in (*row, _mean(row))] for row in values]
        for cells in table[1:]:  # in row 0, nan means that the first data have no returns
            cells[:] = ["diverged" if cell == "nan" else cell for cell in cells]
        return [[str(index), *cells] for index, cells in enumerate(table)]

    def __str__(self) -> str:
        title = f"{self.env_id}: {self.algorithm}, {self.measure} after each iteration"
        table = Table(title=title)
        for column in self.columns:
            table.add_column(column, justify="right")
        for row in self.rows:
            table.add_row(*row)
        console = Console(width=30 + 14 * len(self.seeds))
        with console.capture() as captured:
            console.print(table)
        return captured.get().rstrip()


def _mean(values: NDArray[np.float64]) -> float:
    """The mean of those that are not nan; nan if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
