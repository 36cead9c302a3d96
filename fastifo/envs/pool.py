"""Plays one episode in every slot of a vector of environments.

A slot is one episode of one policy.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastifo.data.streams import purpose
from fastifo.envs.act import ActorGroup, SamplingStep
from fastifo.envs.recording import RecordedEpisodes, Recorder, RolloutTask, RolloutTime
from fastifo.envs.strip import Strip
from fastifo.envs.vector import EnvStep, VectorEnv

SHARED_ROWS = 32  # mean rows per job below which threads wait for Python's lock more than they work


def start_seed(seed: int, episode: int) -> int:
    """The environment's seed of an episode.  seed: of the rollout."""
    # Neighbouring seeds of EnvPool share start states: evaluation seeds lie a million apart.
    return (10_000 + seed * 1_000_000 + episode) % (2**31 - 1)


class SlotPool:
    """One vector of environments that plays one episode in every slot."""

    def __init__(
        self,
        task: RolloutTask,
        groups: Sequence[ActorGroup],
        slots: Sequence[tuple[int, int]],
        vector: VectorEnv,
        block: int,
    ) -> None:
        """slots: index of the policy and of the episode, sorted.  block: as in `SamplingStep`."""
        self.task = task
        self.groups = groups
        self.owner = np.array([policy for policy, _ in slots])
        self.episode = np.array([episode for _, episode in slots])
        self.vector = vector
        self.block = block
        self.stream = purpose("evaluate", str(task.seed))
        self.seeds = [start_seed(task.seed, e) for _, e in slots]
        self.low, self.high = vector.info.action_low, vector.info.action_high
        self.played = RecordedEpisodes.empty(len(slots))
        # Of the first episode of each policy, by slot.
        self.strips = {slot: Strip() for slot in np.flatnonzero(self.episode == 0).tolist()}
        self.num_finished = 0
        self.num_made = 0  # steps of all episodes
        self.num_steps = 0  # steps of the episodes that have not ended

    def play(self, workers: Executor, spent: RolloutTime) -> Iterator[bool]:
        """Plays until no slot is left; leaves the episodes in `played`.

        Yields whenever the environments have begun a step.
        """
        recorder = (
            Recorder(self.vector.info, len(self.owner), self.task) if self.task.record else None
        )
        last_action: NDArray[Any] = np.zeros((len(self.owner), len(self.low)))
        self.vector.start(self.seeds)
        while self.num_finished < len(self.owner):
            started = time.perf_counter()
            step = self.vector.recv()
            spent.environment_s += time.perf_counter() - started
            active = step.active
            self._count(step, active)
            if step.images:
                self._add_frames(step)
            if recorder is not None:
                recorder.add(step, last_action[step.slots], self.played.lengths[step.slots])
            if active.any():
                started = time.perf_counter()
                action = np.clip(self._act(step, active, workers), self.low, self.high)
                slots = step.slots[active]
                if self.task.record:
                    last_action[slots] = action
                self.vector.send(slots, action)
                spent.policy_s += time.perf_counter() - started
            yield True
        for slot, strip in self.strips.items():
            self.played.strips[slot] = strip.frames()
        if recorder is not None:
            recorder.fill(self.played)

    def _count(self, step: EnvStep, active: NDArray[np.bool_]) -> None:
        """Adds a step to the totals.  Raises ValueError for nan or infinity."""
        played, slots = self.played, step.slots
        if not (np.isfinite(step.obs).all() and np.isfinite(step.reward).all()):
            self._refuse(step)
        played.returns[slots] += step.reward
        made = ~(step.first | step.lost)
        played.lengths[slots] += made
        count = int(np.count_nonzero(made))
        self.num_made += count
        self.num_steps += count
        if not np.isnan(step.success).all():
            played.success[slots] = np.fmax(played.success[slots], step.success)
        if active.all():
            return
        played.terminal[slots] = step.terminated
        done = slots[~active]
        self.num_finished += len(done)
        self.num_steps -= int(played.lengths[done].sum())
        gone = slots[step.lost]
        played.lost[gone], played.returns[gone], played.success[gone] = True, np.nan, np.nan

    def _add_frames(self, step: EnvStep) -> None:
        for row, slot in enumerate(step.slots.tolist()):
            if slot in self.strips and not step.lost[row]:
                self.strips[slot].add({camera: view[row] for camera, view in step.images.items()})

    def _refuse(self, step: EnvStep) -> None:
        """Raises ValueError naming the first value that is not finite."""
        for i, slot in enumerate(step.slots):
            bad = np.flatnonzero(~np.isfinite(step.obs[i]))
            if len(bad) or not np.isfinite(step.reward[i]):
                what = f"observation {bad[0]} is {step.obs[i, bad[0]]}" if len(bad) else (
                    f"the reward is {step.reward[i]}"
                )  # fmt: skip
                raise ValueError(
                    f"{self.vector.info.name}: expected finite observations and rewards, but after "
                    f"step {self.played.lengths[slot] + (not step.first[i])} of episode "
                    f"{self.episode[slot]} (start seed {self.seeds[slot]}) {what}; the simulation "
                    "has diverged or the environment is wrong"
                )

    def _act(self, step: EnvStep, active: NDArray[np.bool_], workers: Executor) -> NDArray[Any]:
        """Actions of the active rows, [R, A] float64, each by its own policy.

        Noise is a function of the step in the slot's episode; lanes that started one after the
        other are at different steps.
        """
        slots, obs, images = step.slots, torch.from_numpy(step.obs), step.images
        views = {camera: torch.from_numpy(image) for camera, image in images.items()}
        if not active.all():
            rows = torch.from_numpy(active)
            slots, obs = slots[active], obs[rows]
            views = {camera: view[rows] for camera, view in views.items()}
        times = self.played.lengths[slots]
        if self.task.deterministic or (times == times[0]).all():
            return self._act_at(int(times[0]), slots, obs, views, workers)
        action = np.empty((len(slots), len(self.low)))
        for time_ in np.unique(times):
            here = times == time_
            rows = torch.from_numpy(here)
            part = {camera: view[rows] for camera, view in views.items()}
            action[here] = self._act_at(int(time_), slots[here], obs[rows], part, workers)
        return action

    def _act_at(
        self,
        step: int,
        slots: NDArray[np.int64],
        obs: Tensor,
        images: dict[str, Tensor],
        workers: Executor,
    ) -> NDArray[Any]:
        owner, episode = self.owner[slots], self.episode[slots]
        # Noise is drawn for every episode, so that it does not depend on which still go on.
        num_noise_rows = 0 if self.task.deterministic else self.task.num_episodes
        sampling = SamplingStep(self.stream, step, num_noise_rows, self.block)
        jobs: list[Callable[[], Tensor]] = []
        for begin, end, actor in self.groups:
            bounds = np.searchsorted(owner, np.arange(begin, end + 1))
            if bounds[0] < bounds[-1]:
                part = slice(bounds[0], bounds[-1])
                views = {camera: image[part] for camera, image in images.items()}
                jobs += actor.jobs(obs[part], bounds - bounds[0], episode[part], sampling, views)
        run = workers.map if len(obs) >= SHARED_ROWS * len(jobs) > SHARED_ROWS else map
        actions = run(lambda job: job().cpu().numpy(), jobs)
        return np.concatenate(list(actions)).astype(np.float64)
