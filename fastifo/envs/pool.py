"""One EnvPool that plays one episode in every slot.

A slot is one environment of the pool, with the policy and the episode that it plays.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastifo.data.sampler import purpose
from fastifo.envs.act import Actor, ActorGroup, SamplingStep
from fastifo.envs.envpool import check_fits, check_spaces
from fastifo.utils.records import Record

SHARED_ROWS = 32  # mean rows per job below which threads wait for Python's lock more than they work


@dataclass(frozen=True)
class RolloutTask:
    """What every pool of a rollout plays."""

    env_id: str  # EnvPool name of the environment
    num_episodes: int  # of every policy
    deterministic: bool  # play modes, not samples
    seed: int  # of the environments
    record: bool  # keep every step, not only returns and lengths
    threads: int  # that step the environments
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the environment, as EnvPool's


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
    obs: list[NDArray[np.float32]]  # [T + 1, D] each
    actions: list[NDArray[np.float32]]  # [T, A] each
    rewards: list[NDArray[np.float32]]  # [T] each

    @staticmethod
    def joined(parts: Sequence["RecordedEpisodes"]) -> "RecordedEpisodes":
        """All episodes of several parts, in order."""
        return RecordedEpisodes(
            returns=np.concatenate([part.returns for part in parts]),
            lengths=np.concatenate([part.lengths for part in parts]),
            terminal=np.concatenate([part.terminal for part in parts]),
            obs=[obs for part in parts for obs in part.obs],
            actions=[actions for part in parts for actions in part.actions],
            rewards=[rewards for part in parts for rewards in part.rewards],
        )

    def part(self, episodes: slice) -> "RecordedEpisodes":
        """A range of the episodes."""
        columns = {name: value[episodes] for name, value in vars(self).items()}
        return RecordedEpisodes(**columns)


class SlotPool:
    """One EnvPool that plays one episode in every slot."""

    def __init__(
        self,
        task: RolloutTask,
        policies: Sequence[Actor],
        groups: Sequence[ActorGroup],
        slots: Sequence[tuple[int, int]],
    ) -> None:
        """slots: index of the policy and of the episode, sorted."""
        import envpool

        check_spaces(task.env_id, envpool.make_spec(task.env_id, **task.settings))
        self.task = task
        self.groups = groups
        self.owner = np.array([policy for policy, _ in slots])
        self.episode = np.array([episode for _, episode in slots])
        self.stream = purpose("evaluate", str(task.seed))
        # Neighbouring pool seeds would share start states: evaluation seeds lie a million apart.
        seeds = [(10_000 + task.seed * 1_000_000 + e) % (2**31 - 1) for _, e in slots]
        self.pool: Any = envpool.make(
            task.env_id,
            env_type="gymnasium",
            num_envs=len(slots),
            num_threads=task.threads,
            seed=seeds,
            **task.settings,
        )
        space = self.pool.action_space
        self.low, self.high = space.low, space.high
        self.alive = np.arange(len(slots), dtype=np.int32)  # slots whose episode has not ended
        self.step = 0
        self.num_steps = 0  # that all slots have made
        for policy in {id(policy): policy for policy in policies}.values():
            check_fits(policy, task.env_id, self.pool.observation_space.shape[0], len(self.low))

    def play(self, workers: Executor, spent: RolloutTime) -> Iterator[bool]:
        """Steps the slots that are alive until none is left; leaves the episodes in `played`.

        Yields whenever the environments have begun a step.
        """
        count = len(self.owner)
        returns, lengths = np.zeros(count), np.zeros(count, dtype=np.int64)
        terminal = np.zeros(count, dtype=bool)
        self.played = RecordedEpisodes(returns, lengths, terminal, [], [], [])
        history: list[tuple[NDArray[Any], ...]] = []
        obs = self.pool.reset()[0]
        first_obs = obs
        while len(self.alive):
            alive, started = self.alive, time.perf_counter()
            action = np.clip(self._act(obs, workers), self.low, self.high)
            self.pool.send(action, alive)
            spent.policy_s += time.perf_counter() - started
            yield True
            started = time.perf_counter()
            obs, reward, terminated, truncated, info = self.pool.recv()
            spent.environment_s += time.perf_counter() - started
            order = np.argsort(info["env_id"])
            obs, reward = obs[order], reward[order]
            terminated, done = terminated[order], (terminated | truncated)[order]
            returns[alive] += reward
            lengths[alive] += 1
            terminal[alive] = terminated
            if self.task.record:
                columns = (obs, action, reward)
                history.append((alive, *(column.astype(np.float32) for column in columns)))
            # A finished slot is not stepped again: that step would be EnvPool's automatic reset.
            self.alive, obs = alive[~done], obs[~done]
            self.step += 1
            self.num_steps += len(alive)
        if self.task.record:
            self._fill_steps(self.played, first_obs, history)

    @property
    def num_finished(self) -> int:
        """Slots whose episode has ended."""
        return len(self.owner) - len(self.alive)

    def _act(self, obs: NDArray[Any], workers: Executor) -> NDArray[Any]:
        """Actions of the slots that are alive, [R, A] float64, each by its own policy."""
        rows = torch.from_numpy(obs.astype(np.float32))
        owner, episode = self.owner[self.alive], self.episode[self.alive]
        # Noise is drawn for every episode, so that it does not depend on which are still alive.
        num_noise_rows = 0 if self.task.deterministic else self.task.num_episodes
        sampling = SamplingStep(self.stream, self.step, num_noise_rows)
        jobs: list[Callable[[], Tensor]] = []
        for begin, end, actor in self.groups:
            bounds = np.searchsorted(owner, np.arange(begin, end + 1))
            part = slice(bounds[0], bounds[-1])
            jobs += actor.jobs(rows[part], bounds - bounds[0], episode[part], sampling)
        run = workers.map if len(rows) >= SHARED_ROWS * len(jobs) > SHARED_ROWS else map
        actions = run(lambda job: job().cpu().numpy(), jobs)
        return np.concatenate(list(actions)).astype(np.float64)

    def _fill_steps(
        self,
        played: RecordedEpisodes,
        first_obs: NDArray[Any],
        history: Sequence[tuple[NDArray[Any], ...]],
    ) -> None:
        """Turns the history, one entry per step, into one array per slot."""
        width = self.low.shape[0]
        played.obs = [np.empty((t + 1, first_obs.shape[1]), np.float32) for t in played.lengths]
        played.actions = [np.empty((t, width), np.float32) for t in played.lengths]
        played.rewards = [np.empty(t, np.float32) for t in played.lengths]
        for slot, row in enumerate(first_obs):
            played.obs[slot][0] = row
        for t, (alive, next_obs, action, reward) in enumerate(history):
            for i, slot in enumerate(alive):
                played.obs[slot][t + 1] = next_obs[i]
                played.actions[slot][t] = action[i]
                played.rewards[slot][t] = reward[i]
