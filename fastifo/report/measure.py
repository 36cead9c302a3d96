"""Which number figures show of a task: the return, or success where it is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.envs.returns import MEAN_OF, SUCCESS_OF, Returns
from fastifo.report.summary import RunSummary


@dataclass(frozen=True)
class Measure:
    """The return of episodes, or the rate of their success."""

    is_success: bool

    @property
    def name(self) -> str:
        """For labels."""
        return "success" if self.is_success else "return"

    def members(self, returns: Returns) -> NDArray[np.float64]:
        """The mean of each member, [P]; nan for members that diverged."""
        rates = returns.success_per_member if self.is_success else None
        return returns.per_member if rates is None else rates

    def mean(self, returns: Returns) -> tuple[float, float, float]:
        """The mean over all episodes, and its 95 % interval's low and high end."""
        if self.is_success and returns.success is not None and returns.success_interval is not None:
            return returns.success, *returns.success_interval
        return returns.mean, *returns.interval

    def background(self, run: RunSummary) -> float | None:
        """The mean of the background; None where it is unknown."""
        if self.is_success:
            return run.background_success
        return run.background_mean if run.background_returns else None

    def expert(self, run: RunSummary) -> float | None:
        """The mean of the expert; None where it is unknown."""
        if self.is_success:
            return run.expert_success
        return float(np.mean(run.expert_returns)) if run.expert_returns else None

    def logged_as(self, deterministic: bool) -> str:
        """Its name in metrics.jsonl."""
        return (SUCCESS_OF if self.is_success else MEAN_OF)[deterministic]

    def text(self, value: float) -> str:
        """A value, for ticks."""
        return f"{value:.0%}" if self.is_success else f"{value:.0f}"


def measure_of(runs: Sequence[RunSummary], *, backgrounds: bool = False) -> Measure:
    """Success if it is known of all evaluated runs, otherwise the return.

    backgrounds: require it of their backgrounds too.
    """
    evaluated: list[Any] = [r for run in runs for r in (run.returns, run.deterministic) if r]
    known = bool(evaluated) and all(returns.success is not None for returns in evaluated)
    if backgrounds:
        known = known and all(run.background_success is not None for run in runs)
    return Measure(known)
