"""The interface between rollouts and simulators.

A slot is one episode to play, identified by its index; its start state is a function of its seed
alone. A lane is one environment object that plays slots, one after the other. Rollouts use
`VectorEnv`. A backend implements it directly, as EnvPool's does, or implements `SingleEnv`, which
`fastifo.envs.lanes` turns into a `VectorEnv` in this process or in worker processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastifo.envs.render import Render
from fastifo.envs.spec import EnvInfo, EnvSpec

SUCCESS_KEYS = ("success", "is_success")  # of a step's `info`


@dataclass
class EnvStep:
    """Results of one step, a row for each slot that made it; R rows."""

    slots: NDArray[np.int64]  # [R], ascending
    obs: NDArray[np.float32]  # [R, D], after the step, or the first of an episode
    reward: NDArray[np.float64]  # [R], 0 in the first row of an episode
    terminated: NDArray[np.bool_]  # [R], the task ended
    truncated: NDArray[np.bool_]  # [R], the time limit ended the episode
    success: NDArray[np.float64]  # [R], 1 or 0; nan where the environment does not say
    first: NDArray[np.bool_]  # [R], the row starts the slot's episode
    lost: NDArray[np.bool_]  # [R], the episode ended because its process died; obs are not defined
    images: dict[str, NDArray[np.uint8]] = field(default_factory=dict)  # by camera, [R, H, W, C];
    # with the observations; empty without cameras

    @property
    def active(self) -> NDArray[np.bool_]:
        """Rows whose episode goes on, [R]; they need an action."""
        return ~(self.terminated | self.truncated | self.lost)


class VectorEnv(Protocol):
    """Plays exactly one episode in every slot.

    `start`, and then in turns `recv`, and `send` for the rows of it that are `active`, until every
    slot's episode has ended. A `recv` may return the rows of some slots only, and none that need an
    action; it returns at least one row while an episode goes on.
    """

    info: EnvInfo  # `info.images` says which cameras there are

    def start(self, seeds: Sequence[int]) -> None:
        """Starts over: slot i plays one episode, from the start state of seeds[i]."""

    def send(self, slots: NDArray[np.int64], actions: NDArray[np.float64]) -> None:
        """Begins a step.  slots: [R], ascending.  actions: [R, A], within the bounds."""

    def recv(self) -> EnvStep:
        """Waits for steps that were begun, or for episodes that start."""

    def close(self) -> None:
        """Frees the environments and ends their processes."""


class SingleEnv(Protocol):
    """One environment, as a backend without a vector of its own implements it.

    Two episodes from the same seed and with the same actions must be equal, whatever was played
    before. Nothing outside the object may change the result.
    """

    info: EnvInfo

    def reset(self, seed: int) -> NDArray[np.float32]:
        """Starts an episode and returns its first observation, [D]."""

    def step(
        self, action: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], float, bool, bool, float]:
        """Makes one step.  action: [A].

        Returns the observation [D], the reward, whether the task ended, whether the time limit
        ended the episode, and whether the task has succeeded: 1.0, 0.0, or nan if it has no such
        measure.
        """

    def images(self) -> dict[str, NDArray[np.uint8]]:
        """The images of the current state, by camera, [H, W, C]; empty without cameras."""

    def close(self) -> None:
        """Frees the environment."""


class FilmedEnv(SingleEnv, Protocol):
    """One environment with cameras that can be opened at any time."""

    @property
    def steps_per_s(self) -> float:
        """Steps in a second of simulated time."""

    def cameras(self) -> list[str]:
        """Names of its cameras."""

    def open_cameras(self, render: Render) -> Any:
        """An `ImageStack` of some of its cameras.  Raises ValueError for one that it lacks."""


class Backend(Protocol):
    """A library of environments.  An object of it can be sent to other processes."""

    has_async_steps: bool  # steps go on between `send` and `recv`, in threads
    max_slots: int  # of one `start`; further episodes follow in later ones

    def knows(self, env_id: str) -> bool:
        """Whether this library has the environment."""

    def ids(self) -> list[str]:
        """All its environments; empty if the library is not installed."""

    def describe(self, spec: EnvSpec) -> EnvInfo:
        """What is known about an environment, without playing it.

        Raises ValueError for one that does not exist or has unsuitable spaces or settings;
        ImportError naming the extra to install.
        """

    def make(self, spec: EnvSpec, num_slots: int, *, threads: int, workers: int) -> VectorEnv:
        """The environments of a rollout.

        num_slots: most slots of one `start`.  threads: that this process may use.  workers:
        processes to step in; 0: the backend's choice.
        Raises as `describe`.
        """


def empty_step(slots: Sequence[int], obs: Any) -> EnvStep:
    """A step with these observations in which nothing else has happened."""
    count = len(slots)

    def flags() -> NDArray[np.bool_]:
        return np.zeros(count, bool)

    return EnvStep(
        np.asarray(slots, np.int64), np.asarray(obs, np.float32), np.zeros(count),
        flags(), flags(), np.full(count, np.nan), flags(), flags(),
    )  # fmt: skip
