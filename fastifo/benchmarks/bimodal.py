"""Bimodal mixtures: background data of expert episodes and random (or a clone's) episodes.

Source: arXiv 2507.06701, bimodal mixtures. Between all random and all expert the number of episodes
stays the same. The expert's episodes carry their actions, so the learner's task is to filter. The
demonstrations without actions are separate episodes.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fastifo.benchmarks.cache import cached_dataset
from fastifo.benchmarks.demonstrations import play_demonstrations
from fastifo.benchmarks.sibench import load_sibench
from fastifo.benchmarks.spec import parse_spec
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.sampler import uniform
from fastifo.envs.experts import Expert, load_expert
from fastifo.envs.registry import check_id
from fastifo.envs.rollout import MAX_RECORDED, collect

RECIPE = 2  # version of how a set is made; part of the cache's file name
CLONE_DEMOS = 50  # expert episodes played for a clone, as in the studies
RANDOM_SEED_BLOCK = 2000  # environment seeds of random episodes
EXPERT_SEED_BLOCK = 1000  # added to the seed of the demonstrations for the background's episodes


@dataclass(frozen=True)
class BimodalSpec:
    """One set: `bimodal:<env>/expert=<n>,...`.  Raises ValueError for a bad option."""

    env_id: str  # the environment
    expert: int  # expert episodes in the background, of `total`
    total: int = 1000  # episodes in the background
    demos: int = 0  # expert episodes given without actions; 0 is as many as `total`
    clone: int = 0  # demonstrations of the clone that plays the other episodes; 0: random actions
    seed: int = 0  # of all episodes; 0 to 99
    noise: float = 0.5  # of the expert, relative to its own exploration noise
    policy: str = ""  # the expert's policy file; empty is the shipped one

    def __post_init__(self) -> None:
        if not 0 <= self.expert <= self.total or self.total < 1:
            raise ValueError(
                f"bimodal: expert must be 0 to total={self.total}, found {self.expert}"
            )
        for name in ("demos", "noise", "clone"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"bimodal: {name} must be at least 0, found {getattr(self, name)}")
        for name in ("total", "demos"):
            if getattr(self, name) > MAX_RECORDED:
                raise ValueError(
                    f"bimodal: {name} must be at most {MAX_RECORDED}, found {getattr(self, name)}"
                )
        if not 0 <= self.seed < 100:
            raise ValueError(f"bimodal: seed must be 0 to 99, found {self.seed}")


class RandomPolicy:
    """Uniform actions in [-1, 1].  Implements `fastifo.envs.act.Actor`."""

    def __init__(self, env_id: str, seed: int) -> None:
        self.action_dim = check_id(env_id).action_dim
        self.seed = torch.tensor([seed], dtype=torch.int64)

    def noise(self, stream: int, step: int, rows: int) -> Tensor:
        """Uniform numbers in [0, 1), [rows, A]: a function of seed, stream and step."""
        counter = torch.tensor([step], dtype=torch.int64)
        size = rows * self.action_dim
        numbers = uniform(self.seed, counter, stream, size, torch.float32)
        return numbers.view(rows, self.action_dim)

    def act_rows(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions of observations, [B, D] -> [B, A].  noise: of `noise`; None is the mean, 0."""
        return torch.zeros(len(obs), self.action_dim) if noise is None else 2.0 * noise - 1.0


def load_bimodal(text: str, *, progress: bool = True) -> Dataset:
    """The mixture of a spec.  Its three parts are cached; all mixtures share them.

    Raises ValueError for a wrong spec.
    """
    spec = parse_spec(BimodalSpec, text, "expert", "bimodal:Hopper-v4/expert=200")
    check_id(spec.env_id)
    parts = Parts(spec, load_expert(spec.env_id, spec.policy or None), progress)
    others = parts.other_episodes().take(range(spec.total - spec.expert))
    experts = parts.expert_episodes().take(range(spec.expert))
    demonstrations = parts.demonstrations()
    info = {
        "spec": {k: v for k, v in vars(spec).items() if k != "policy"} | {"kind": "bimodal"},
        "recipe": RECIPE,
        **demonstrations.info,
    }
    return Dataset(
        Episodes.joined([part for part in (others, experts) if part.num_episodes]),
        demonstrations.background.without_rewards(),
        spec.env_id,
        info=info,
    )


class Parts:
    """The parts of a mixture, from the cache; a part that is not there is played and cached."""

    def __init__(self, spec: BimodalSpec, expert: Expert, progress: bool) -> None:
        self.spec = spec
        self.expert = expert
        self.progress = progress
        self.expert_key = (hashlib.sha256(expert.identity()).hexdigest(), spec.noise)

    def other_episodes(self) -> Episodes:
        """`total` episodes of random actions, or of a clone."""
        spec = self.spec
        if spec.clone:
            key = (spec.total, spec.clone, *self.expert_key)
            return self._cached("clone", key, self._play_clone).background
        return self._cached("random", (spec.total,), self._play_random).background

    def expert_episodes(self) -> Episodes:
        """`total` episodes of the expert, with actions."""
        seed = EXPERT_SEED_BLOCK + self.spec.seed
        return self._expert_part("expert", self.spec.total, seed).background

    def demonstrations(self) -> Dataset:
        """The episodes that the learner sees as the expert's, and what is known about them."""
        # The name "shown" is part of the cache's file names.
        return self._expert_part("shown", self.spec.demos or self.spec.total, self.spec.seed)

    def _expert_part(self, name: str, count: int, seed: int) -> Dataset:
        return self._cached(
            name,
            (count, *self.expert_key),
            lambda: play_demonstrations(
                self.expert, self.spec.env_id, count, seed, self.spec.noise, progress=self.progress
            ),
        )

    def _play_clone(self) -> Dataset:
        spec = self.spec
        expert = f",expert={spec.policy}" if spec.policy else ""
        return load_sibench(
            f"sibench:{spec.env_id}/d={spec.clone},episodes={spec.total},seed={spec.seed},"
            f"demos={max(spec.clone, CLONE_DEMOS)},noise={spec.noise}{expert}",
            progress=self.progress,
        )

    def _play_random(self) -> Dataset:
        spec = self.spec
        episodes = collect(
            RandomPolicy(spec.env_id, spec.seed),
            spec.env_id,
            spec.total,
            False,
            seed=RANDOM_SEED_BLOCK + spec.seed,
            title="random",
            progress=self.progress,
        )
        return Dataset(episodes, env_id=spec.env_id)

    def _cached(self, name: str, key: tuple[object, ...], make: Callable[[], Dataset]) -> Dataset:
        digest = hashlib.sha256(repr((RECIPE, self.spec.seed, key)).encode()).hexdigest()[:16]
        return cached_dataset(f"bimodal-{self.spec.env_id}-{name}-{digest}.fastifo", make)
