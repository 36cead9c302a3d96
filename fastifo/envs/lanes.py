"""A `VectorEnv` of single environments: each lane plays one slot after the other."""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastifo.envs.spec import EnvInfo
from fastifo.envs.vector import EnvStep, SingleEnv, empty_step
from fastifo.utils.progress import warn

Images = dict[str, NDArray[np.uint8]]  # by camera, [H, W, C]
Row = tuple[  # lane, as `EnvStep`, first, images
    int, NDArray[np.float32], float, bool, bool, float, bool, Images
]  # fmt: skip
COLUMNS = [field.name for field in dataclasses.fields(EnvStep) if field.name != "images"]
RESET: Any = None  # in place of an action: start an episode


class Lanes(Protocol):
    """Environments that play side by side, in this process or in others."""

    count: int
    info: EnvInfo
    refills: bool  # a lane starts its next slot at once; False: all lanes start together

    def reset(self, lane: int, seed: int) -> None:
        """Begins an episode."""

    def step(self, lane: int, action: NDArray[np.float64]) -> None:
        """Begins a step."""

    def recv(self) -> tuple[list[Row], list[int], str]:
        """Waits for what was begun.  Returns its rows, lanes that were lost, and the reason."""

    def close(self) -> None:
        """Frees the environments."""


class LocalLanes:
    """Environments of this process, which are stepped one after the other."""

    refills = False  # lanes that take turns lose no time if one of them waits

    def __init__(self, make: Callable[[], SingleEnv], count: int) -> None:
        """make: makes one environment."""
        self.count = count
        self.make = make
        self.envs = [make()]
        self.info = self.envs[0].info
        self.pending: list[tuple[int, Any, int]] = []

    def reset(self, lane: int, seed: int) -> None:
        """Begins an episode."""
        self.pending.append((lane, RESET, seed))

    def step(self, lane: int, action: NDArray[np.float64]) -> None:
        """Begins a step."""
        self.pending.append((lane, action, 0))

    def recv(self) -> tuple[list[Row], list[int], str]:
        """Makes the steps."""
        pending, self.pending = self.pending, []
        while len(self.envs) <= max((lane for lane, _, _ in pending), default=0):
            self.envs.append(self.make())
        return [play_row(self.envs[lane], *command) for lane, *command in _keyed(pending)], [], ""

    def close(self) -> None:
        """Frees the environments."""
        for env in self.envs:
            env.close()


def _keyed(pending: Sequence[tuple[int, Any, int]]) -> list[tuple[int, int, Any, int]]:
    return [(lane, lane, action, seed) for lane, action, seed in pending]


def play_row(env: SingleEnv, lane: int, action: Any, seed: int) -> Row:
    """Resets an environment, or makes a step; the row that results."""
    if action is RESET:
        return lane, env.reset(seed), 0.0, False, False, np.nan, True, env.images()
    return (lane, *env.step(action), False, env.images())


class LaneVector:
    """A `VectorEnv` of lanes; slots start in order."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.info = lanes.info
        self.waiting: collections.deque[int] = collections.deque()
        self.slot_of: dict[int, int] = {}  # by lane
        self.lane_of: dict[int, int] = {}  # by slot
        self.seeds: Sequence[int] = ()

    def start(self, seeds: Sequence[int]) -> None:
        """Starts as many slots as there are lanes."""
        self.seeds = seeds
        self.waiting = collections.deque(range(len(seeds)))
        self.slot_of, self.lane_of = {}, {}
        self._fill()

    def _fill(self) -> None:
        """Starts waiting slots in free lanes."""
        if self.slot_of and not self.lanes.refills:
            return
        for lane in range(self.lanes.count):
            if lane not in self.slot_of and self.waiting:
                slot = self.waiting.popleft()
                self.slot_of[lane], self.lane_of[slot] = slot, lane
                self.lanes.reset(lane, self.seeds[slot])

    def send(self, slots: NDArray[np.int64], actions: NDArray[np.float64]) -> None:
        """Begins a step."""
        for slot, action in zip(slots.tolist(), actions, strict=True):
            self.lanes.step(self.lane_of[slot], action)

    def recv(self) -> EnvStep:
        """Waits for steps; frees the lanes whose episodes have ended."""
        rows, lost, reason = self.lanes.recv()
        slots = [self.slot_of[row[0]] for row in rows]
        order = np.argsort(slots, kind="stable")
        gone = np.array([self.slot_of[lane] for lane in lost], np.int64)
        step = self._step([rows[i] for i in order], np.array(slots, np.int64)[order], gone)
        if lost:
            seeds = ", ".join(str(self.seeds[slot]) for slot in gone)
            warn(
                f"{self.info.name}: {reason}; its episodes (start seeds {seeds}) are lost, the "
                "others continue"
            )
        for slot in step.slots[~step.active].tolist():
            del self.slot_of[self.lane_of.pop(slot)]
        self._fill()
        return step

    def _step(
        self, rows: Sequence[Row], slots: NDArray[np.int64], gone: NDArray[np.int64]
    ) -> EnvStep:
        """The rows of lanes, and those of lost slots, as a step."""
        if not len(gone):
            _, obs, reward, terminated, truncated, success, first, views = zip(*rows, strict=True)
            return EnvStep(
                slots, np.stack(obs), np.array(reward, np.float64), np.array(terminated, bool),
                np.array(truncated, bool), np.array(success, np.float64), np.array(first, bool),
                np.zeros(len(rows), bool),
                {camera: np.stack([view[camera] for view in views]) for camera in views[0]},
            )  # fmt: skip
        parts = [self._step(rows, slots, gone[:0])] if rows else []
        ended = empty_step(gone.tolist(), np.zeros((len(gone), self.info.obs_dim)))
        ended.lost[:] = True
        ended.images = {
            camera: np.zeros((len(gone), *shape), np.uint8) for camera, *shape in self.info.images
        }
        parts.append(ended)
        columns = {k: np.concatenate([getattr(p, k) for p in parts]) for k in COLUMNS}
        order = np.argsort(columns["slots"])
        images = {
            camera: np.concatenate([part.images[camera] for part in parts])[order]
            for camera in ended.images
        }
        return EnvStep(**{k: column[order] for k, column in columns.items()}, images=images)

    def close(self) -> None:
        """Frees the environments."""
        self.lanes.close()
