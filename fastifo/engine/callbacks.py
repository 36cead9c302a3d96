"""Callbacks of a run: the protocol, and evaluation during training."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastifo.engine.run import Run
from fastifo.envs.registry import describe
from fastifo.envs.returns import MEAN_OF
from fastifo.envs.rollout import MAX_EPISODES
from fastifo.utils.arguments import as_count, as_flag


class Callback(Protocol):
    """What `fastifo.train(callbacks=...)` takes: a callable, usually with an attribute `every`.

    It is called after updates `every`, 2 * `every`, ... and after the last update of each
    population; `every` is `log_every` if it has no such attribute. It may also have a method
    `check(run)`, which is called once before training and raises ValueError if the callback cannot
    work. Ctrl-C during a call abandons the call; the run makes it again when it resumes.
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
        object.__setattr__(self, "every", as_count("every", self.every))
        count = as_count("num_episodes", self.num_episodes, high=MAX_EPISODES)
        object.__setattr__(self, "num_episodes", count)
        object.__setattr__(self, "deterministic", as_flag("deterministic", self.deterministic))

    def check(self, run: Run) -> None:
        """Raises ValueError or ImportError if the run's environment is missing or unknown."""
        describe(run.require_env())

    def __call__(
        self, run: Run, update: int, members: Sequence[int]
    ) -> dict[str, list[float | None]]:
        """Returns each member's mean return; None for members that diverged."""
        returns = run.evaluate(
            self.num_episodes, self.deterministic, members=members, progress=False
        )
        means = [None if math.isnan(mean) else mean for mean in returns.per_member.tolist()]
        return {MEAN_OF[self.deterministic]: means}


@dataclass(frozen=True)
class _Periodic:
    """A callback as the loop calls it, with `every` as an integer."""

    function: Callable[..., Any]
    every: int

    def check(self, run: Run) -> None:
        """The callback's own `check`, if it has one."""
        getattr(self.function, "check", lambda run: None)(run)

    def __call__(self, run: Run, update: int, members: Sequence[int]) -> Any:
        """Calls the function."""
        return self.function(run, update, members)


def check_callbacks(callbacks: Any, log_every: int) -> tuple[Callback, ...]:
    """Callbacks that all have a valid `every`; it is `log_every` for those without one.

    Raises TypeError for something that cannot be called, ValueError for a wrong `every`.
    """
    if callable(callbacks):
        raise TypeError(f"callbacks: expected a list of callables, found {callbacks!r}")
    checked = []
    for callback in callbacks:
        if not callable(callback):
            raise TypeError(f"callbacks: expected callables, found {callback!r}")
        every = as_count("callbacks: every", getattr(callback, "every", log_every))
        checked.append(_Periodic(callback, every))
    return tuple(checked)
