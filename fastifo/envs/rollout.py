"""Episodes from policies: every policy plays the same number, side by side in EnvPool."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastifo.data.episodes import Episodes
from fastifo.data.formats.actions import to_unit
from fastifo.envs.act import Actor, group_actors
from fastifo.envs.envpool import check_env, episode_limit, split_settings
from fastifo.envs.pool import RecordedEpisodes, RolloutTask, RolloutTime, SlotPool
from fastifo.utils.arguments import as_count
from fastifo.utils.interrupt import checked_interrupt
from fastifo.utils.parallel import one_thread
from fastifo.utils.progress import ProgressBar

MAX_SLOTS = 2048  # environments alive at the same time; further episodes follow in later batches
MAX_EPISODES = 1_000_000  # of one policy: more would play for weeks
MAX_RECORDED = 100_000  # of them with every step in memory
MAX_PLAYED = 10_000_000  # of all policies
SPLIT_SLOTS = 200  # fewer slots play in one pool: two halves would cost more steps than they save


def collect(
    policy: Actor,
    env_id: str,
    num_episodes: int,
    deterministic: bool,
    *,
    seed: int,
    title: str,
    env_kwargs: Mapping[str, Any] | None = None,
    bounds: tuple[Tensor | None, Tensor | None] = (None, None),
    progress: bool = True,
) -> Episodes:
    """Plays episodes of one policy and returns them as dataset columns with actions and rewards.

    bounds: low and high, [A] each, from which actions are mapped to [-1, 1]; None: they are kept.
    seed: of the environments and start states.
    title: label of the progress bar.
    Raises ValueError as `rollout` does.
    """
    (played,) = rollout(
        [policy],
        env_id,
        num_episodes,
        deterministic,
        seed=seed,
        record=True,
        title=title,
        env_kwargs=env_kwargs,
        progress=progress,
    )
    start = torch.from_numpy(np.concatenate([[0], played.lengths.cumsum()]))
    last = start[1:] - 1
    terminal = torch.zeros(int(start[-1]), dtype=torch.bool, device="cpu")
    timeout = torch.zeros_like(terminal)
    terminal[last] = torch.from_numpy(played.terminal)
    timeout[last] = ~terminal[last]
    low, high = bounds
    action = torch.from_numpy(np.concatenate(played.actions))
    if low is not None and high is not None:
        action = to_unit(action, low, high).clamp_(-1.0, 1.0)
    return Episodes(
        obs=torch.from_numpy(np.concatenate(played.obs)),
        start=start,
        terminal=terminal,
        timeout=timeout,
        action=action,
        reward=torch.from_numpy(np.concatenate(played.rewards)),
    )


def rollout(
    policies: Sequence[Actor],
    env_id: str,
    num_episodes: int,
    deterministic: bool,
    *,
    seed: int,
    record: bool,
    title: str = "evaluate",
    env_kwargs: Mapping[str, Any] | None = None,
    progress: bool = True,
    spent: RolloutTime | None = None,
) -> list[RecordedEpisodes]:
    """Plays exactly `num_episodes` episodes of every policy, in the order of `policies`.

    Episode i starts from the environment seed given by `seed` and i, whichever policy plays it.
    Taking the first episodes to end instead would favour short ones.

    deterministic: play the mode; False plays samples.
    seed: of the environments.
    record: keep every step, not only returns and lengths.
    title: label of the progress bar.
    env_kwargs: settings of the environment, as in `Dataset`; those that EnvPool lacks are not used.
    spent: where given, the time of this rollout is added to it.
    Raises ValueError for no policies, no episodes, an unknown environment, or one whose spaces
    do not fit.
    """
    if not policies:
        raise ValueError("policies: expected one or more, found none")
    high = MAX_RECORDED if record else min(MAX_EPISODES, MAX_PLAYED // len(policies))
    num_episodes = as_count("num_episodes", num_episodes, high=high)
    check_env(env_id)
    spent = spent or RolloutTime()
    started = time.perf_counter()
    # No more threads than this process was given: next to another process that trains, every
    # hand-over to a further thread would wait for a time slice.
    threads = torch.get_num_threads()
    with checked_interrupt(f"in {title} {env_id}") as check:
        settings = split_settings(env_id, env_kwargs)[0] if env_kwargs else {}
        task = RolloutTask(env_id, num_episodes, deterministic, seed, record, threads, settings)
        parts = _play_all(task, policies, title, progress, spent, check)
    spent.total_s += time.perf_counter() - started
    episodes = RecordedEpisodes.joined(parts)
    return [
        episodes.part(slice(p * num_episodes, (p + 1) * num_episodes)) for p in range(len(policies))
    ]


def _play_all(
    task: RolloutTask,
    policies: Sequence[Actor],
    title: str,
    progress: bool,
    spent: RolloutTime,
    check: Callable[[], None],
) -> list[RecordedEpisodes]:
    """Plays all slots, `MAX_SLOTS` at a time; parts in the order of policies and episodes.

    check: raises KeyboardInterrupt if Ctrl-C was pressed; called at every step.
    """
    groups = group_actors(policies)
    total = len(policies) * task.num_episodes
    limit = episode_limit(task.env_id, task.settings)
    on_cpu = all(policy.seed.device.type == "cpu" for policy in policies)
    parts: list[RecordedEpisodes] = []
    earlier = 0  # steps of earlier batches
    # An episode that ends early fills its part of the bar, so that the bar never goes back; the
    # rate counts the steps that were made.
    with (
        one_thread(),
        ThreadPoolExecutor(task.threads if on_cpu else 1) as workers,
        ProgressBar(f"{title} {task.env_id}", total * limit, "steps", enabled=progress) as bar,
    ):
        for first in range(0, total, MAX_SLOTS):
            last = min(first + MAX_SLOTS, total)
            batch = [divmod(slot, task.num_episodes) for slot in range(first, last)]
            half = (len(batch) + 1) // 2 if len(batch) >= SPLIT_SLOTS else len(batch)
            pools = [
                SlotPool(task, policies, groups, part)
                for part in (batch[:half], batch[half:])
                if part
            ]
            # The policies of one half act while the environments of the other half step.
            running = [pool.play(workers, spent) for pool in pools]
            while running:
                check()
                running = [pool for pool in running if next(pool, None) is not None]
                finished = first + sum(pool.num_finished for pool in pools)
                steps = sum(len(pool.alive) * pool.step for pool in pools)
                made = earlier + sum(pool.num_steps for pool in pools)
                bar.update(finished * limit + steps, f"{finished} episodes finished", made)
            earlier += sum(pool.num_steps for pool in pools)
            parts += [pool.played for pool in pools]
    return parts
