"""The result of self-improvement and of DAgger."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from fastifo.utils.records import Record
from fastifo.utils.text import decimals_for

FORMAT = "fastifo-improve"


@dataclass(frozen=True, repr=False)
class Improvement(Record):
    """What `improve` returns: return and success after each iteration, by seed.

    They are those of the iteration's data, episodes of the policy's sampled actions. With `dagger`
    and a beta above 0 they are those of other episodes, in which the policy acts alone. Returns
    are undiscounted means. Values are nan from the iteration on in which a seed diverged.
    """

    algorithm: str  # name of the method
    env_id: str  # the environment
    seeds: tuple[int, ...]  # one sequence of policies each
    returns: list[list[float]]  # [seeds][iterations + 1]; the first is that of the first data
    success: list[list[float]] | None = None  # rates, as `returns`; None where they are unknown

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
        for cells in table[1:]:  # data that were played have returns
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
