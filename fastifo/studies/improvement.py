"""The result of self-improvement and of DAgger."""

from dataclasses import dataclass

import numpy as np
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
    are undiscounted means.
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

    def __str__(self) -> str:
        title = f"{self.env_id}: {self.algorithm}, {self.measure} after each iteration"
        table = Table(title=title)
        table.add_column("iteration", justify="right")
        for seed in self.seeds:
            table.add_column(f"seed {seed}", justify="right")
        table.add_column("mean", justify="right")
        for iteration, row in enumerate(np.array(self.measured).T):
            cells = [f"{value:.{self.digits}f}" for value in (*row, row.mean())]
            table.add_row(str(iteration), *cells)
        console = Console(width=30 + 14 * len(self.seeds))
        with console.capture() as captured:
            console.print(table)
        return captured.get().rstrip()
