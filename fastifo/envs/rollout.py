"""Episodes from policies: every policy plays the same number, side by side in one environment."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from fastifo.data.episodes import Episodes
from fastifo.data.formats.actions import to_unit
from fastifo.envs.act import Actor, group_actors
from fastifo.envs.checks import cameras_of, check_policy
from fastifo.envs.kept import open_vectors
from fastifo.envs.pool import SlotPool
from fastifo.envs.recording import RecordedEpisodes, RolloutTask, RolloutTime
from fastifo.envs.registry import find_backend
from fastifo.envs.spec import EnvSpec, as_spec
from fastifo.envs.vector import VectorEnv
from fastifo.utils.arguments import as_count
from fastifo.utils.interrupt import checked_interrupt
from fastifo.utils.parallel import one_thread
from fastifo.utils.progress import ProgressBar, warn

MAX_EPISODES = 1_000_000  # of one policy: more would play for weeks
MAX_RECORDED = 100_000  # of them with every step in memory
MAX_PLAYED = 10_000_000  # of all policies
LANE_ROWS = 16  # rows of a product where lanes decide which episodes are played together


@dataclasses.dataclass(frozen=True)
class Played:
    """What `rollout` returns."""

    episodes: list[RecordedEpisodes]  # of each policy
    versions: dict[str, str]  # of the packages that define the environment's physics


def collect(
    policy: Actor,
    env: str | EnvSpec,
    num_episodes: int,
    deterministic: bool,
    *,
    seed: int,
    title: str,
    bounds: tuple[Tensor | None, Tensor | None] = (None, None),
    num_workers: int = 0,
    progress: bool = True,
    record_images: bool | None = None,
) -> Episodes:
    """Plays episodes of one policy and returns them as dataset columns with actions and rewards.

    Lost episodes are left out.

    env, num_workers: as in `rollout`.
    bounds: low and high, [A] each, from which actions are mapped to [-1, 1]; None: they are kept.
    seed: of the environments and start states.
    title: label of the progress bar.
    record_images: whether the columns include the images of the environment's cameras; None: if the
        policy sees images.
    Raises ValueError as `rollout` does.
    """
    (played,) = rollout(
        [policy],
        env,
        num_episodes,
        deterministic,
        seed=seed,
        record=True,
        record_images=bool(cameras_of(policy)) if record_images is None else record_images,
        title=title,
        num_workers=num_workers,
        progress=progress,
    ).episodes
    kept = np.flatnonzero(~played.lost & (played.lengths > 0))
    start = torch.from_numpy(np.concatenate([[0], played.lengths[kept].cumsum()]))
    last = start[1:] - 1
    terminal = torch.zeros(int(start[-1]), dtype=torch.bool, device="cpu")
    timeout = torch.zeros_like(terminal)
    terminal[last] = torch.from_numpy(played.terminal[kept])
    timeout[last] = ~terminal[last]
    success = None if np.isnan(played.success[kept]).any() else played.success[kept] > 0.5
    low, high = bounds
    action = torch.from_numpy(np.concatenate([played.actions[i] for i in kept]))
    if low is not None and high is not None:
        action = to_unit(action, low, high).clamp_(-1.0, 1.0)
    return Episodes(
        obs=torch.from_numpy(np.concatenate([played.obs[i] for i in kept])),
        start=start,
        terminal=terminal,
        timeout=timeout,
        action=action,
        reward=torch.from_numpy(np.concatenate([played.rewards[i] for i in kept])),
        success=None if success is None else torch.from_numpy(success),
        images=played.images_of(kept.tolist()),
    )


def rollout(
    policies: Sequence[Actor],
    env: str | EnvSpec,
    num_episodes: int,
    deterministic: bool,
    *,
    seed: int,
    record: bool,
    record_images: bool = False,
    title: str = "evaluate",
    num_workers: int = 0,
    progress: bool = True,
    spent: RolloutTime | None = None,
) -> Played:
    """Plays exactly `num_episodes` episodes of every policy, in the order of `policies`.

    Episode i starts from the environment seed given by `seed` and i, whichever policy plays it.
    Taking the first episodes to end instead would favour short ones.

    env: an environment's id or spec.
    deterministic: play the mode; False plays samples.
    seed: of the environments.
    record: keep every step, not only returns and lengths.
    record_images: and the images of the environment's cameras. Without them the cameras are off,
        unless a policy sees images.
    title: label of the progress bar.
    num_workers: processes to step the environments in, where the backend supports it; 0 (default):
        its own choice. Results do not depend on it.
    spent: where given, the time of this rollout is added to it.
    Raises ValueError for no policies, no episodes, an unknown environment, one whose spaces do not
    fit, or observations that are not finite; ChildProcessError if every episode was lost.
    """
    if not policies:
        raise ValueError("policies: expected one or more, found none")
    high = MAX_RECORDED if record else min(MAX_EPISODES, MAX_PLAYED // len(policies))
    num_episodes = as_count("num_episodes", num_episodes, high=high)
    num_workers = as_count("num_workers", num_workers, low=0)
    spec = as_spec(env)
    if not record_images and not any(map(cameras_of, policies)):
        spec = spec.without_cameras()
    backend = find_backend(spec)
    spent = spent or RolloutTime()
    started = time.perf_counter()
    slots = min(len(policies) * num_episodes, backend.max_slots)
    task = RolloutTask(num_episodes, deterministic, seed, record, record_images)
    with (
        checked_interrupt(f"in {title} {spec.id}") as check,
        open_vectors(backend, spec, slots, num_workers) as vectors,
    ):
        for policy in {id(policy): policy for policy in policies}.values():
            check_policy(policy, vectors[0].info)
        block = 0 if backend.has_async_steps else LANE_ROWS
        parts = _play_all(
            task, policies, vectors, slots, block, f"{title} {spec.id}", progress, spent, check
        )
    spent.total_s += time.perf_counter() - started
    episodes = RecordedEpisodes.joined(parts)
    _report(vectors[0], episodes)
    return Played(
        [
            episodes.part(slice(p * num_episodes, (p + 1) * num_episodes))
            for p in range(len(policies))
        ],
        dict(vectors[0].info.versions),
    )


def _report(vector: VectorEnv, episodes: RecordedEpisodes) -> None:
    """Warns of episodes that fastifo's own limit has cut.  Raises if every episode was lost."""
    info = vector.info
    if episodes.lost.all():
        raise ChildProcessError(f"{info.name}: every episode was lost, because its process died")
    cut = int((episodes.lengths >= info.max_episode_steps).sum())
    if cut and not info.has_own_limit:
        warn(
            f"{info.name}: states no time limit, and {cut} episodes were cut after "
            f"{info.max_episode_steps:,} steps; set one with env_kwargs "
            "{'max_episode_steps': ...} (--env-arg max_episode_steps=...)"
        )


def _play_all(
    task: RolloutTask,
    policies: Sequence[Actor],
    vectors: Sequence[VectorEnv],
    slots: int,
    block: int,
    title: str,
    progress: bool,
    spent: RolloutTime,
    check: Callable[[], None],
) -> list[RecordedEpisodes]:
    """Plays all episodes, `slots` at a time; parts in the order of policies and episodes.

    check: raises KeyboardInterrupt if Ctrl-C was pressed; called at every step.
    """
    groups = group_actors(policies)
    total = len(policies) * task.num_episodes
    limit = vectors[0].info.max_episode_steps
    on_cpu = all(policy.seed.device.type == "cpu" for policy in policies)
    threads = torch.get_num_threads() if on_cpu else 1
    parts: list[RecordedEpisodes] = []
    made = 0  # steps of earlier batches
    # An episode that ends early fills its part of the bar, so that the bar never goes back; the
    # rate counts the steps that were made.
    with (
        one_thread(),
        ThreadPoolExecutor(threads) as workers,
        ProgressBar(title, total * limit, "steps", enabled=progress) as bar,
    ):
        for first in range(0, total, slots):
            last = min(first + slots, total)
            batch = [divmod(slot, task.num_episodes) for slot in range(first, last)]
            half = -(-len(batch) // len(vectors))
            pools = [
                SlotPool(task, groups, batch[begin : begin + half], vector, block)
                for begin, vector in zip(range(0, len(batch), half), vectors, strict=False)
            ]
            running = [pool.play(workers, spent) for pool in pools]
            while running:
                check()
                running = [pool for pool in running if next(pool, None) is not None]
                finished = first + sum(pool.num_finished for pool in pools)
                steps = sum(pool.num_steps for pool in pools)
                now = made + sum(pool.num_made for pool in pools)
                bar.update(finished * limit + steps, f"{finished} episodes finished", now)
            made += sum(pool.num_made for pool in pools)
            parts += [pool.played for pool in pools]
    return parts
