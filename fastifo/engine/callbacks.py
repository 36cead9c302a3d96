"""Things to do every so many updates of a run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastifo.envs.envpool import check_env
from fastifo.envs.returns import MEAN_OF


@dataclass(frozen=True)
class EvaluateEvery:
    """Plays a few episodes while training; the mean returns become rows of `metrics.jsonl`.

    `Run.evaluate(protocol="last_tenth")` averages those of the last tenth of training.
    """

    every: int
    num_episodes: int = 20
    deterministic: bool = False

    def __post_init__(self) -> None:
        for name in ("every", "num_episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, found {getattr(self, name)}")

    def check(self, run: Any) -> None:
        """Raises ValueError where the run names no environment, or one that is not there."""
        check_env(run.require_env())

    def __call__(
        self, run: Any, update: int, members: Sequence[int]
    ) -> dict[str, list[float | None]]:
        """One mean return per member, None for one that broke."""
        returns = run.evaluate(
            self.num_episodes, self.deterministic, members=members, progress=False
        )
        return {
            MEAN_OF[self.deterministic]: [None if math.isnan(m) else m for m in returns.per_member]
        }
