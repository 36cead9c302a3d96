"""Plays one episode in every slot of a vector of environments.

A slot is one episode of one policy.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastifo.data.streams import purpose
from fastifo.envs.act import ActorGroup, SamplingStep
from fastifo.envs.vector import EnvStep, VectorEnv
from fastifo.utils.records import Record

SHARED_ROWS = 32  # mean rows per job below which threads wait for Python's lock more than they work


@dataclass(frozen=True)
class RolloutTask:
    """What every pool of a rollout plays."""

    num_episodes: int  # of every policy
    deterministic: bool  # play modes, not samples
    seed: int  # of the environments
    record: bool  # keep every step, not only returns and lengths


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

    @staticmethod
    def empty(count: int) -> "RecordedEpisodes":
        """Episodes that have not begun."""
        zeros = np.zeros
        return RecordedEpisodes(
            zeros(count), zeros(count, np.int64), zeros(count, bool), np.full(count, np.nan),
            zeros(count, bool), [], [], [],
        )  # fmt: skip

    @staticmethod
    def joined(parts: Sequence["RecordedEpisodes"]) -> "RecordedEpisodes":
        """All episodes of several parts, in order."""
        return RecordedEpisodes(
            returns=np.concatenate([part.returns for part in parts]),
            lengths=np.concatenate([part.lengths for part in parts]),
            terminal=np.concatenate([part.terminal for part in parts]),
            success=np.concatenate([part.success for part in parts]),
            lost=np.concatenate([part.lost for part in parts]),
            obs=[obs for part in parts for obs in part.obs],
            actions=[actions for part in parts for actions in part.actions],
            rewards=[rewards for part in parts for rewards in part.rewards],
        )

    def part(self, episodes: slice) -> "RecordedEpisodes":
        """A range of the episodes."""
        columns = {name: value[episodes] for name, value in vars(self).items()}
        return RecordedEpisodes(**columns)


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
        # Neighbouring seeds of EnvPool share start states: evaluation seeds lie a million apart.
        self.seeds = [(10_000 + task.seed * 1_000_000 + e) % (2**31 - 1) for _, e in slots]
        self.low, self.high = vector.info.action_low, vector.info.action_high
        self.played = RecordedEpisodes.empty(len(slots))
        self.num_finished = 0
        self.num_made = 0  # steps of all episodes
        self.num_steps = 0  # steps of the episodes that have not ended

    def play(self, workers: Executor, spent: RolloutTime) -> Iterator[bool]:
        """Plays until no slot is left; leaves the episodes in `played`.

        Yields whenever the environments have begun a step.
        """
        history: list[tuple[EnvStep, NDArray[Any] | None]] = []
        last_action: NDArray[Any] = np.zeros((len(self.owner), len(self.low)))
        self.vector.start(self.seeds)
        while self.num_finished < len(self.owner):
            started = time.perf_counter()
            step = self.vector.recv()
            spent.environment_s += time.perf_counter() - started
            active = step.active
            self._count(step, active)
            if self.task.record:
                history.append((step, last_action[step.slots]))
            if active.any():
                started = time.perf_counter()
                slots, obs = step.slots, step.obs
                if not active.all():
                    slots, obs = slots[active], obs[active]
                action = np.clip(self._act(slots, obs, workers), self.low, self.high)
                if self.task.record:
                    last_action[slots] = action
                self.vector.send(slots, action)
                spent.policy_s += time.perf_counter() - started
            yield True
        if self.task.record:
            self._fill_steps(history)

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

    def _act(
        self, slots: NDArray[np.int64], obs: NDArray[np.float32], workers: Executor
    ) -> NDArray[Any]:
        """Actions of slots, [R, A] float64, each by its own policy.

        Noise is a function of the step in the slot's episode; lanes that started one after the
        other are at different steps.
        """
        steps = self.played.lengths[slots]
        if self.task.deterministic or (steps == steps[0]).all():
            return self._act_at(int(steps[0]), slots, obs, workers)
        action = np.empty((len(slots), len(self.low)))
        for step in np.unique(steps):
            rows = steps == step
            action[rows] = self._act_at(int(step), slots[rows], obs[rows], workers)
        return action

    def _act_at(
        self, step: int, slots: NDArray[np.int64], obs: NDArray[np.float32], workers: Executor
    ) -> NDArray[Any]:
        rows = torch.from_numpy(obs)
        owner, episode = self.owner[slots], self.episode[slots]
        # Noise is drawn for every episode, so that it does not depend on which still go on.
        num_noise_rows = 0 if self.task.deterministic else self.task.num_episodes
        sampling = SamplingStep(self.stream, step, num_noise_rows, self.block)
        jobs: list[Callable[[], Tensor]] = []
        for begin, end, actor in self.groups:
            bounds = np.searchsorted(owner, np.arange(begin, end + 1))
            if bounds[0] < bounds[-1]:
                part = slice(bounds[0], bounds[-1])
                jobs += actor.jobs(rows[part], bounds - bounds[0], episode[part], sampling)
        run = workers.map if len(rows) >= SHARED_ROWS * len(jobs) > SHARED_ROWS else map
        actions = run(lambda job: job().cpu().numpy(), jobs)
        return np.concatenate(list(actions)).astype(np.float64)

    def _fill_steps(self, history: Sequence[tuple[EnvStep, NDArray[Any] | None]]) -> None:
        """Turns the history, one entry per step, into one array per slot."""
        played, width = self.played, len(self.low)
        obs_dim = self.vector.info.obs_dim
        lengths = played.lengths
        played.obs = [np.empty((t + 1, obs_dim), np.float32) for t in lengths]
        played.actions = [np.empty((t, width), np.float32) for t in lengths]
        played.rewards = [np.empty(t, np.float32) for t in lengths]
        time_of = np.zeros(len(lengths), np.int64)
        for step, action in history:
            assert action is not None
            for i, slot in enumerate(step.slots):
                if step.lost[i]:
                    continue
                t = time_of[slot]
                played.obs[slot][t] = step.obs[i]
                if t > 0:
                    played.actions[slot][t - 1] = action[i]
                    played.rewards[slot][t - 1] = step.reward[i]
                time_of[slot] += 1
