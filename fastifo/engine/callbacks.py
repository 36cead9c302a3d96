"""Callbacks of a run: the protocol, and evaluation during training."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fastifo.engine.metrics import RESERVED
from fastifo.engine.run import Run
from fastifo.envs.registry import describe
from fastifo.envs.returns import MEAN_OF, SUCCESS_OF
from fastifo.envs.rollout import MAX_EPISODES
from fastifo.utils.arguments import as_count, as_flag

Values = Mapping[str, Sequence[float | None]]  # name -> one number per member, to log


class Callback(Protocol):
    """A callback of `fastifo.train`: a function or another callable.

    It is called between updates: after updates `every`, 2 * `every`, ... and after the last update
    of each population, where `every` is an integer attribute of the callback. Without this
    attribute, it is called every `log_every` updates. Optional methods: `check(run)` is called once
    before training and raises ValueError if the callback cannot work; `start(run)` is called when
    training starts, and `finish(run)` when it ends, even after an error or Ctrl-C.

    Arguments of a call:

    run: the run, with the weights after `update`; `run.policy(member)` and `run.evaluate` work.
    update: number of updates so far.
    members: indices into `run.members` of the population that is training.

    It returns None; or numbers to log in `metrics.jsonl`, a dict with one number per entry of
    `members` for each name (None for a missing one); or False, which stops the population's
    training with a checkpoint. The run is then returned as if it were finished; repeating the call
    resumes it. After resuming, callbacks are called for new updates only. Ctrl-C abandons a running
    call, which is repeated when the run resumes. An error in a call ends training.

    >>> def stop_early(run, update, members):
    ...     return False if update >= 1000 else None
    >>> fastifo.train("bc", dataset, callbacks=[stop_early])
    """

    def __call__(self, run: Run, update: int, members: Sequence[int], /) -> Values | bool | None:
        """Called between two updates."""


class PeriodicCallback(Callback, Protocol):
    """A callback as the training loop calls it; see `_Periodic`."""

    @property
    def every(self) -> int:
        """Updates between two calls."""


@dataclass(frozen=True)
class EvaluateEvery:
    """Callback that plays a few episodes during training and logs each member's mean return.

    The means are logged in `metrics.jsonl` as `return_mean` (sampled actions) or `return_mode`
    (deterministic). Success rates, if the environment reports success, are logged as `success_mean`
    or `success_mode`. `Run.evaluate(protocol="last_tenth")`, or `"last_half"`, averages the means
    of that part of training.
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
        """Returns each member's mean return, and rate of success; None for diverged members."""
        returns = run.evaluate(
            self.num_episodes, self.deterministic, members=members, progress=False
        )
        logged = {MEAN_OF[self.deterministic]: returns.per_member}
        if (rates := returns.success_per_member) is not None:
            logged[SUCCESS_OF[self.deterministic]] = rates
        return {
            name: [None if math.isnan(value) else value for value in values.tolist()]
            for name, values in logged.items()
        }


@dataclass(frozen=True)
class _Periodic:
    """A callback as the loop calls it, with `every` as an integer."""

    function: Callable[..., Any]
    every: int

    def check(self, run: Run) -> None:
        """The callback's own `check`, if it has one."""
        getattr(self.function, "check", lambda run: None)(run)

    def start(self, run: Run) -> None:
        """The callback's own `start`, if it has one."""
        getattr(self.function, "start", lambda run: None)(run)

    def finish(self, run: Run) -> None:
        """The callback's own `finish`, if it has one."""
        getattr(self.function, "finish", lambda run: None)(run)

    def __call__(self, run: Run, update: int, members: Sequence[int]) -> Any:
        """Calls the function."""
        return self.function(run, update, members)


@contextlib.contextmanager
def started(callbacks: Iterable[Any], run: Run) -> Iterator[None]:
    """Calls `start` of all callbacks, and `finish` of those that started, whatever happens."""
    with contextlib.ExitStack() as stack:
        for callback in callbacks:
            callback.start(run)
            stack.callback(callback.finish, run)
        yield


def check_callbacks(callbacks: Any, log_every: int) -> tuple[PeriodicCallback, ...]:
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


def logged_values(callback: Any, result: Any, num_members: int) -> dict[str, list[float | None]]:
    """The numbers that a callback returned; empty for None, True and False.

    nan and infinity become None, as JSON has neither.
    Raises TypeError naming the callback for a result of another form.
    """
    if result is None or isinstance(result, bool | np.bool_):
        return {}
    try:
        values = {
            name: [None if x is None or not math.isfinite(x) else float(x) for x in column]
            for name, column in result.items()
        }
        valid = all(isinstance(n, str) and len(v) == num_members for n, v in values.items())
    except (TypeError, ValueError, AttributeError):
        valid = False
    if not valid or values.keys() & RESERVED:
        function = getattr(callback, "function", callback)
        raise TypeError(
            f"callback {getattr(function, '__name__', type(function).__name__)}: expected None, "
            f"False, or a dict of lists with {num_members} numbers, one per member, under names "
            f"other than {', '.join(sorted(RESERVED))}; found {result!r}"
        )
    return values
