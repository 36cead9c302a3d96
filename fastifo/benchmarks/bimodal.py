"""Bimodal mixtures: background data of expert episodes and of others that mostly fail.

The others are random, a clone's, or those of a script that misjudges where the object is.

Source: arXiv 2507.06701, bimodal mixtures. Between all random and all expert the number of episodes
stays the same. The expert's episodes carry their actions, so the learner's task is to filter. The
demonstrations without actions are separate episodes. Misjudged objects are not in the paper.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fastifo.benchmarks.cache import cached_dataset
from fastifo.benchmarks.demonstrations import PlayedExpert, RecordedExpert, find_demonstrator
from fastifo.benchmarks.sibench import load_set
from fastifo.benchmarks.sibench_spec import SIBenchSpec
from fastifo.benchmarks.spec import parse_spec
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.streams import uniform
from fastifo.envs.experts import default_noise
from fastifo.envs.registry import describe
from fastifo.envs.rollout import MAX_RECORDED, collect
from fastifo.envs.spec import EnvSpec, as_spec

RECIPE = 2  # version of how a set is made; part of the cache's file name
CLONE_DEMOS = 50  # expert episodes played for a clone, as in the studies
RANDOM_SEED_BLOCK = 2000  # environment seeds of random episodes
MISJUDGED_SEED_BLOCK = 2100  # environment seeds of episodes with misjudged objects
EXPERT_SEED_BLOCK = 1000  # added to the seed of the demonstrations for the background's episodes


@dataclass(frozen=True)
class BimodalSpec:
    """One set: `bimodal:<env>/expert=<n>,...`.  Raises ValueError for a bad option."""

    env_id: str  # the environment
    expert: int  # expert episodes in the background, of `total`
    total: int = 1000  # episodes in the background
    demos: int = 0  # expert episodes given without actions; 0 is as many as `total`
    clone: int = 0  # demonstrations of the clone that plays the other episodes; 0: random actions
    object_error: float = 0.0  # above 0: a script plays the other episodes and misjudges where the
    # object is, by this standard deviation in metres, see `MisjudgingExpert`
    seed: int = 0  # of all episodes; 0 to 99
    noise: float | None = None  # of the expert, as in `SIBenchSpec`
    policy: str = ""  # a policy file, or file or spec of a dataset; empty is the shipped expert
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)  # the environment's settings

    def __post_init__(self) -> None:
        if self.noise is None:
            object.__setattr__(self, "noise", default_noise(self.env_id))
        if not 0 <= self.expert <= self.total or self.total < 1:
            raise ValueError(
                f"bimodal: expert must be 0 to total={self.total}, found {self.expert}"
            )
        for name in ("demos", "noise", "clone", "object_error"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"bimodal: {name} must be at least 0, found {getattr(self, name)}")
        for name in ("total", "demos"):
            if getattr(self, name) > MAX_RECORDED:
                raise ValueError(
                    f"bimodal: {name} must be at most {MAX_RECORDED}, found {getattr(self, name)}"
                )
        if self.clone and self.object_error:
            raise ValueError(
                "bimodal: expected clone or object_error, found both; each says who plays the "
                "other episodes"
            )
        if not 0 <= self.seed < 100:
            raise ValueError(f"bimodal: seed must be 0 to 99, found {self.seed}")

    @property
    def env(self) -> EnvSpec:
        """The environment with its settings."""
        return as_spec(self.env_id, kwargs=self.env_kwargs)

    def values(self) -> dict[str, Any]:
        """The options by name, without the policy; newer ones only if they are given."""
        newer = ("env_kwargs", "object_error")
        return {k: v for k, v in vars(self).items() if k != "policy" and (v or k not in newer)}


class RandomPolicy:
    """Uniform actions in [-1, 1].  Implements `fastifo.envs.act.Actor`."""

    def __init__(self, env: EnvSpec, seed: int) -> None:
        self.action_dim = describe(env).action_dim
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
    describe(spec.env)
    parts = Parts(spec, progress)
    others = parts.other_episodes().take(range(spec.total - spec.expert))
    experts = parts.expert_episodes()
    mixed = [others] if experts is None else [others, experts.take(range(spec.expert))]
    demonstrations = parts.demonstrations()
    info = {
        "spec": spec.values() | {"kind": "bimodal"},
        "recipe": RECIPE,
        **demonstrations.info,
    }
    return dataclasses.replace(
        demonstrations,
        background=_joined([part for part in mixed if part.num_episodes]),
        expert=demonstrations.background.without_rewards(),
        info=info,
    )


def _joined(parts: list[Episodes]) -> Episodes:
    """All episodes; with rewards only if all parts have them, as files may not."""
    rewarded = all(part.reward is not None for part in parts)
    return Episodes.joined(parts if rewarded else [part.without_rewards() for part in parts])


class Parts:
    """The parts of a mixture, from the cache; a part that is not there is played and cached."""

    def __init__(self, spec: BimodalSpec, progress: bool) -> None:
        assert spec.noise is not None
        self.spec, self.noise, self.progress = spec, spec.noise, progress
        self.demonstrator = find_demonstrator(spec.env, spec.policy, progress=progress)
        self.env = spec.env
        self.num_experts, self.num_demos = spec.total, spec.demos or spec.total
        if isinstance(self.demonstrator, RecordedExpert):
            self._share(self.demonstrator.dataset)
        self.expert_key = (hashlib.sha256(self.demonstrator.identity()).hexdigest(), spec.noise)

    def _share(self, dataset: Dataset) -> None:
        """Divides the episodes of a dataset between background and demonstrations."""
        spec, total = self.spec, dataset.background.num_episodes
        self.num_experts, self.num_demos = spec.expert, spec.demos or total - spec.expert
        if self.num_demos < 1 or self.num_experts + self.num_demos > total:
            raise ValueError(
                f"bimodal: expected at least {self.num_experts + max(self.num_demos, 1)} episodes, "
                f"expert={spec.expert} and demos={spec.demos}, in {spec.policy}, found {total}"
            )
        self.env = as_spec(self.env, settings=dataset.env_kwargs, obs_keys=dataset.obs_keys)

    def other_episodes(self) -> Episodes:
        """`total` episodes of random actions, of a clone, or of a script that misjudges."""
        spec = self.spec
        if spec.object_error:
            key = (spec.total, spec.object_error, *self.expert_key)
            return self._cached("misjudged", key, self._play_misjudging).background
        if spec.clone:
            key = (spec.total, spec.clone, *self.expert_key)
            return self._cached("clone", key, self._play_clone).background
        settings = sorted({**self.env.settings, **self.env.kwargs}.items())
        key = (spec.total, *((settings, self.env.obs_keys) if settings else ()))
        return self._cached("random", key, self._play_random).background

    def expert_episodes(self) -> Episodes | None:
        """`total` episodes of the expert, with actions; of a dataset as many as are needed."""
        if self.spec.expert == 0:
            return None
        return self._cached("expert", (self.num_experts, *self.expert_key), self._more).background

    def demonstrations(self) -> Dataset:
        """The episodes that the learner sees as the expert's, and what is known about them."""

        def make() -> Dataset:
            return self.demonstrator.demonstrate(self.num_demos, self.spec.seed, self.noise)

        # The name "shown" is part of the cache's file names.
        return self._cached("shown", (self.num_demos, *self.expert_key), make)

    def _more(self) -> Dataset:
        seed = EXPERT_SEED_BLOCK + self.spec.seed
        episodes = self.demonstrator.more_episodes(self.num_experts, seed, self.noise)
        return Dataset(episodes, env_id=self.spec.env_id)

    def _play_clone(self) -> Dataset:
        spec = self.spec
        clone = SIBenchSpec(
            spec.env_id,
            d=spec.clone,
            episodes=spec.total,
            seed=spec.seed,
            demos=max(spec.clone, CLONE_DEMOS),
            noise=spec.noise,
            expert=spec.policy,
            env_kwargs=spec.env_kwargs,
        )
        return load_set(clone, progress=self.progress)

    def _play_misjudging(self) -> Dataset:
        spec = self.spec
        if not isinstance(self.demonstrator, PlayedExpert):
            raise ValueError("bimodal: object_error: expected a script as expert, found a dataset")
        seed = MISJUDGED_SEED_BLOCK + spec.seed
        episodes = self.demonstrator.misjudged_episodes(
            spec.total, seed, self.noise, spec.object_error
        )
        return Dataset(episodes, env_id=spec.env_id)

    def _play_random(self) -> Dataset:
        spec = self.spec
        episodes = collect(
            RandomPolicy(self.env, spec.seed),
            self.env,
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
