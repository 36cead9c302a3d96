"""What a rollout keeps of the episodes that it plays."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastifo.data.frames import Frames, FrameStore, new_frames
from fastifo.envs.spec import EnvInfo
from fastifo.envs.vector import EnvStep
from fastifo.utils.records import Record


@dataclass(frozen=True)
class RolloutTask:
    """What every pool of a rollout plays."""

    num_episodes: int  # of every policy
    deterministic: bool  # play modes, not samples
    seed: int  # of the environments
    record: bool  # keep every step, not only returns and lengths
    record_images: bool = False  # and the images of every step


@dataclass
class RolloutTime:
    """Where the time of a rollout went, in seconds."""

    total_s: float = 0.0  # from start to end
    environment_s: float = 0.0  # waiting for environments to step
    policy_s: float = 0.0  # computing actions


@dataclass(eq=False, repr=False)
class RecordedEpisodes(Record):
    """Episodes of one policy: totals always, steps only where they were recorded."""

    returns: NDArray[np.float64]  # [E]
    lengths: NDArray[np.int64]  # [E]
    terminal: NDArray[np.bool_]  # [E], ended by the task and not by the time limit
    success: NDArray[np.float64]  # [E], 1 if the task succeeded at any step, else 0; nan: unknown
    lost: NDArray[np.bool_]  # [E], the process that played it died
    obs: list[NDArray[np.float32]]  # [T + 1, D] each
    actions: list[NDArray[np.float32]]  # [T, A] each
    rewards: list[NDArray[np.float32]]  # [T] each
    images: dict[str, Frames]  # by camera, those of several episodes and rows of no meaning
    first_image: NDArray[np.int64]  # [E], row of an episode's first image; T more follow it
    strips: list[list[NDArray[np.uint8]]]  # [E], some frames of an episode; none of most episodes

    @staticmethod
    def empty(count: int) -> "RecordedEpisodes":
        """Episodes that have not begun."""
        zeros = np.zeros
        return RecordedEpisodes(
            zeros(count), zeros(count, np.int64), zeros(count, bool), np.full(count, np.nan),
            zeros(count, bool), [], [], [], {}, zeros(count, np.int64), [[]] * count,
        )  # fmt: skip

    @staticmethod
    def joined(parts: Sequence["RecordedEpisodes"]) -> "RecordedEpisodes":
        """All episodes of several parts, in order."""
        num_rows = [max(map(len, part.images.values()), default=0) for part in parts]
        before = np.cumsum([0, *num_rows[:-1]])
        return RecordedEpisodes(
            returns=np.concatenate([part.returns for part in parts]),
            lengths=np.concatenate([part.lengths for part in parts]),
            terminal=np.concatenate([part.terminal for part in parts]),
            success=np.concatenate([part.success for part in parts]),
            lost=np.concatenate([part.lost for part in parts]),
            obs=[obs for part in parts for obs in part.obs],
            actions=[actions for part in parts for actions in part.actions],
            rewards=[rewards for part in parts for rewards in part.rewards],
            images={
                camera: Frames.joined([part.images[camera] for part in parts])
                for camera in parts[0].images
            },
            first_image=np.concatenate(
                [part.first_image + begin for part, begin in zip(parts, before, strict=True)]
            ),
            strips=[strip for part in parts for strip in part.strips],
        )

    def part(self, episodes: slice) -> "RecordedEpisodes":
        """A range of the episodes."""
        others = {name: value for name, value in vars(self).items() if name != "images"}
        columns = {name: value[episodes] for name, value in others.items()}
        return RecordedEpisodes(**columns, images=self.images)

    def images_of(self, episodes: Sequence[int]) -> dict[str, Frames]:
        """The images of some episodes, one after the other, [T + 1, H, W, C] each."""
        spans = [self.first_image[i] + np.arange(self.lengths[i] + 1) for i in episodes]
        rows = torch.from_numpy(np.concatenate(spans))
        return {camera: frames.take(rows) for camera, frames in self.images.items()}


class Recorder:
    """Collects the steps of a pool.  Images are put in their place at once, steps at the end."""

    def __init__(self, info: EnvInfo, num_slots: int, task: RolloutTask) -> None:
        self.info = info
        self.history: list[tuple[EnvStep, NDArray[Any]]] = []
        self.rows = info.max_episode_steps + 1  # room for the images of a slot
        # Many images are in a temporary file, which takes no room where nothing is written.
        self.stores: dict[str, FrameStore] = {
            camera: new_frames((num_slots * self.rows, *size))
            for camera, *size in (info.images if task.record_images else ())
        }

    def add(self, step: EnvStep, action: NDArray[Any], times: NDArray[np.int64]) -> None:
        """Adds a step.

        action: that led to it, [R, A].  times: steps that its slots have made so far, [R].
        """
        rows = step.slots * self.rows + times
        for camera, store in self.stores.items():
            store.write(rows, step.images[camera])
        self.history.append((dataclasses.replace(step, images={}), action))

    def fill(self, played: RecordedEpisodes) -> None:
        """Turns the history into one array per slot."""
        lengths, width = played.lengths, len(self.info.action_low)
        played.obs = [np.empty((t + 1, self.info.obs_dim), np.float32) for t in lengths]
        played.actions = [np.empty((t, width), np.float32) for t in lengths]
        played.rewards = [np.empty(t, np.float32) for t in lengths]
        played.images = {camera: Frames([store]) for camera, store in self.stores.items()}
        played.first_image = np.arange(len(lengths)) * self.rows
        time_of = np.zeros(len(lengths), np.int64)
        for step, action in self.history:
            for i, slot in enumerate(step.slots):
                if step.lost[i]:
                    continue
                t = time_of[slot]
                played.obs[slot][t] = step.obs[i]
                if t > 0:
                    played.actions[slot][t - 1] = action[i]
                    played.rewards[slot][t - 1] = step.reward[i]
                time_of[slot] += 1
