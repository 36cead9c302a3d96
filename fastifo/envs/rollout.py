"""Episodes from policies: one EnvPool for all of them, exactly one episode in every slot."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastifo.data.episodes import Episodes
from fastifo.data.sampler import purpose
from fastifo.envs.act import Actor, Team, teams_of
from fastifo.envs.envpool import check_env, check_fits, check_spaces, episode_limit
from fastifo.utils.parallel import one_thread
from fastifo.utils.progress import ProgressBar

MAX_SLOTS = 2048  # environments alive at once; more episodes are played in turns
SHARED_ROWS = 32  # with fewer to a policy, threads take turns at Python's lock more than they work
SPLIT_SLOTS = 200  # fewer play as one: two halves of them cost more turns than they save


def collect(
    policy: Actor,
    env_id: str,
    num_episodes: int,
    deterministic: bool,
    *,
    seed: int,
    title: str,
    progress: bool = True,
) -> Episodes:
    """Episodes of one policy as dataset columns, actions and rewards included."""
    played = rollout(
        [policy],
        env_id,
        num_episodes,
        deterministic,
        seed=seed,
        record=True,
        title=title,
        progress=progress,
    )[0]
    start = torch.from_numpy(np.concatenate([[0], played.lengths.cumsum()]))
    last = start[1:] - 1
    terminal = torch.zeros(int(start[-1]), dtype=torch.bool)
    timeout = torch.zeros_like(terminal)
    terminal[last] = torch.from_numpy(played.terminal)
    timeout[last] = ~terminal[last]
    return Episodes(
        obs=torch.from_numpy(np.concatenate(played.obs)),
        start=start,
        terminal=terminal,
        timeout=timeout,
        action=torch.from_numpy(np.concatenate(played.actions)),
        reward=torch.from_numpy(np.concatenate(played.rewards)),
    )


@dataclass
class Clock:
    """Seconds that playing took: waiting for environments, and acting while others step."""

    whole: float = 0.0
    environment: float = 0.0
    policy: float = 0.0


@dataclass
class Played:
    """Episodes of one policy: totals always, columns where they were recorded."""

    returns: NDArray[np.float64]  # [E]
    lengths: NDArray[np.int64]  # [E]
    terminal: NDArray[np.bool_]  # [E] ended by the task, not the clock
    obs: list[NDArray[np.float32]]  # [T + 1, D] each
    actions: list[NDArray[np.float32]]  # [T, A] each
    rewards: list[NDArray[np.float32]]  # [T] each

    @staticmethod
    def joined(parts: Sequence["Played"]) -> "Played":
        return Played(
            returns=np.concatenate([part.returns for part in parts]),
            lengths=np.concatenate([part.lengths for part in parts]),
            terminal=np.concatenate([part.terminal for part in parts]),
            obs=[obs for part in parts for obs in part.obs],
            actions=[actions for part in parts for actions in part.actions],
            rewards=[rewards for part in parts for rewards in part.rewards],
        )

    def part(self, which: slice) -> "Played":
        columns = {name: value[which] for name, value in vars(self).items()}
        return Played(**columns)


def rollout(
    policies: Sequence[Actor],
    env_id: str,
    num_episodes: int,
    deterministic: bool,
    *,
    seed: int,
    record: bool,
    title: str = "evaluate",
    progress: bool = True,
    clock: Clock | None = None,
) -> list[Played]:
    """Exactly `num_episodes` of every policy; taking the first that end would favour short ones.

    Episode i starts from the environment seed that `seed` and i give, whichever policy plays.
    """
    if not policies:
        raise ValueError("policies: expected one or more, found none")
    if num_episodes < 1:
        raise ValueError(f"num_episodes: expected at least 1, found {num_episodes}")
    check_env(env_id)
    limit = episode_limit(env_id)
    clock = clock or Clock()
    started = time.perf_counter()
    teams = teams_of(policies)
    slots = [(p, e) for p in range(len(policies)) for e in range(num_episodes)]
    parts = []
    on_cpu = all(policy.seed.device.type == "cpu" for policy in policies)
    # No more threads than this process has as its share: beside another that trains, each hand-over
    # to a further thread would wait for a slice of a core.
    threads = torch.get_num_threads()
    # An episode that ends early counts as all its steps, so that the bar only grows.
    with (
        one_thread(),
        ThreadPoolExecutor(threads if on_cpu else 1) as workers,
        ProgressBar(f"{title} {env_id}", len(slots) * limit, "steps", enabled=progress) as bar,
    ):
        for first in range(0, len(slots), MAX_SLOTS):
            own = slots[first : first + MAX_SLOTS]
            half = (len(own) + 1) // 2 if len(own) >= SPLIT_SLOTS else len(own)
            pools = [
                _Pool(
                    policies,
                    teams,
                    env_id,
                    num_episodes,
                    part,
                    deterministic,
                    seed,
                    record,
                    threads,
                )
                for part in (own[:half], own[half:])
                if part
            ]
            # In turns: the policies of one half act while the other half's environments step.
            turns = [pool.play(workers, clock) for pool in pools]
            while turns:
                turns = [turn for turn in turns if next(turn, None) is not None]
                over = first + sum(pool.over for pool in pools)
                steps = sum(len(pool.alive) * pool.step for pool in pools)
                bar.update(over * limit + steps, f"{over} episodes over")
            parts += [pool.played for pool in pools]
    clock.whole += time.perf_counter() - started
    whole = Played.joined(parts)
    return [
        whole.part(slice(p * num_episodes, (p + 1) * num_episodes)) for p in range(len(policies))
    ]


class _Pool:
    """One EnvPool playing one episode in every slot."""

    def __init__(
        self,
        policies: Sequence[Actor],
        teams: Sequence[Team],
        env_id: str,
        num_episodes: int,
        slots: Sequence[tuple[int, int]],
        deterministic: bool,
        seed: int,
        record: bool,
        threads: int,
    ) -> None:
        import envpool

        check_spaces(env_id, envpool.make_spec(env_id))
        self.teams = teams
        self.num_episodes = num_episodes
        self.owner = np.array([p for p, _ in slots])
        self.episode = np.array([e for _, e in slots])
        self.deterministic = deterministic
        self.stream = purpose("evaluate", str(seed))
        self.record = record
        # Neighbouring pool seeds would share starts, so evaluation seeds lie a million apart.
        starts = [(10_000 + seed * 1_000_000 + e) % (2**31 - 1) for _, e in slots]
        self.pool: Any = envpool.make(
            env_id,
            env_type="gymnasium",
            num_envs=len(slots),
            num_threads=threads,
            seed=starts,
        )
        space = self.pool.action_space
        self.low, self.high = space.low, space.high
        self.alive = np.arange(len(slots), dtype=np.int32)
        self.step = 0
        for policy in {id(policy): policy for policy in policies}.values():
            check_fits(policy, env_id, self.pool.observation_space.shape[0], len(self.low))

    def play(self, workers: Executor, clock: Clock) -> Iterator[bool]:
        """Steps the slots whose episode is not over, until none is left.

        Yields where the environments have begun a step.
        """
        count = len(self.owner)
        returns, lengths = np.zeros(count), np.zeros(count, dtype=np.int64)
        terminal = np.zeros(count, dtype=bool)
        self.played = Played(returns, lengths, terminal, [], [], [])
        history: list[tuple[NDArray[Any], ...]] = []
        obs = self.pool.reset()[0]
        first_obs = obs
        while len(self.alive):
            alive, started = self.alive, time.perf_counter()
            action = np.clip(self._act(obs, workers), self.low, self.high)
            self.pool.send(action, alive)
            clock.policy += time.perf_counter() - started
            yield True
            started = time.perf_counter()
            obs, reward, terminated, truncated, info = self.pool.recv()
            clock.environment += time.perf_counter() - started
            order = np.argsort(info["env_id"])
            obs, reward = obs[order], reward[order]
            terminated, done = terminated[order], (terminated | truncated)[order]
            returns[alive] += reward
            lengths[alive] += 1
            terminal[alive] = terminated
            if self.record:
                wide = (obs, action, reward)
                history.append((alive, *(column.astype(np.float32) for column in wide)))
            # A finished slot is not stepped again: that step would be a reset.
            self.alive, obs = alive[~done], obs[~done]
            self.step += 1
        if self.record:
            self._fill(self.played, first_obs, history)

    @property
    def over(self) -> int:
        """How many slots are."""
        return len(self.owner) - len(self.alive)

    def _act(self, obs: NDArray[Any], workers: Executor) -> NDArray[Any]:
        """Every policy's own rows."""
        rows = torch.from_numpy(obs.astype(np.float32))
        owner, episode = self.owner[self.alive], self.episode[self.alive]
        # Numbers for every episode, so that one does not depend on which others go on.
        draws = (self.stream, self.step, 0 if self.deterministic else self.num_episodes)
        jobs: list[Callable[[], Tensor]] = []
        for begin, end, team in self.teams:
            bounds = np.searchsorted(owner, np.arange(begin, end + 1))
            own = slice(bounds[0], bounds[-1])
            jobs += team.jobs(rows[own], bounds - bounds[0], episode[own], draws)
        act = workers.map if len(rows) >= SHARED_ROWS * len(jobs) > SHARED_ROWS else map
        actions = act(lambda job: job().cpu().numpy(), jobs)
        return np.concatenate(list(actions)).astype(np.float64)

    def _fill(
        self,
        played: Played,
        first_obs: NDArray[Any],
        history: Sequence[tuple[NDArray[Any], ...]],
    ) -> None:
        """Step-major history as one array per slot."""
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
