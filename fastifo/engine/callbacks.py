"""Callbacks of a run: the protocol, and evaluation during training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fastifo.engine.run import Run
from fastifo.envs.envpool import check_env
from fastifo.envs.returns import MEAN_OF


class Callback(Protocol):
    """What `fastifo.train(callbacks=...)` takes: a callable with an attribute `every`.

    It is called after updates `every`, 2 * `every`, ... and after the last update of each
    population. It may also have a method `check(run)`, which is called once before training and
    raises ValueError if the callback cannot work. Ctrl-C during a call abandons the call; the run
    makes it again when it resumes.
    """

    @property
    def every(self) -> int:
        """Updates between two calls."""

    def __call__(
        self, run: Run, update: int, members: Sequence[int]
    ) -> dict[str, list[float | None]] | None:
        """Called between two updates.

        run: the run, with the weights after `update`.
        update: updates made so far.
        members: indices into `run.members` of the population that is training.

        Returns values to log in `metrics.jsonl`, one per member for each name; or None.
        """


@dataclass(frozen=True)
class EvaluateEvery:
    """Callback that plays a few episodes during training and logs each member's mean return.

    The means are logged in `metrics.jsonl` as `return_mean` (samples) or `return_mode`
    (deterministic). `Run.evaluate(protocol="last_tenth")` averages those of the last tenth of
    training.
    """

    every: int  # updates between evaluations
    num_episodes: int = 20  # per member and evaluation
    deterministic: bool = False  # play the policy's mode; False plays samples

    def __post_init__(self) -> None:
        """Raises ValueError for a count below 1."""
        for name in ("every", "num_episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, found {getattr(self, name)}")

    def check(self, run: Run) -> None:
        """Raises ValueError if the run names no environment, or one that EnvPool lacks."""
        check_env(run.require_env())

    def __call__(
        self, run: Run, update: int, members: Sequence[int]
    ) -> dict[str, list[float | None]]:
        """Returns each member's mean return; None for members that diverged."""
        returns = run.evaluate(
            self.num_episodes, self.deterministic, members=members, progress=False
        )
        means = [None if math.isnan(mean) else mean for mean in returns.per_member]
        return {MEAN_OF[self.deterministic]: means}
