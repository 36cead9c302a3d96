"""Bimodal mixtures: background data of random (or a clone's) and expert episodes, to be filtered.

Source: arXiv 2507.06701. From all random to all expert the number of episodes stays; the expert's
carry their actions. The demonstrations, without actions, are episodes of their own.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fastifo.benchmarks.sibench import load_sibench, parse_spec, play_demonstrations
from fastifo.data.dataset import Dataset, load_dataset
from fastifo.data.episodes import Episodes
from fastifo.data.sampler import uniform
from fastifo.envs.envpool import action_dim, check_env
from fastifo.envs.experts import load_expert
from fastifo.envs.rollout import collect
from fastifo.utils.files import cache_folder

RECIPE = 2  # counts changes of how a set is made; part of the cache's name
CLONED_FROM = 50  # expert episodes played for a clone, as studies have it
SEED_BLOCKS = {"random": 2000, "expert": 1000}  # of the environments, apart from all others


@dataclass(frozen=True)
class BimodalSpec:
    """One set: `bimodal:<env>/expert=<n>,...`."""

    env_id: str
    expert: int  # expert episodes in the background, of `total`
    total: int = 1000  # episodes in the background
    demos: int = 0  # expert episodes shown without actions; 0 is as many as `total`
    clone: int = 0  # the others are a SIBench clone's of so many demonstrations; 0: random
    seed: int = 0
    noise: float = 0.5  # of the expert, times its own exploration noise
    policy: str = ""  # an expert's policy file; empty is the shipped one

    def __post_init__(self) -> None:
        if not 0 <= self.expert <= self.total or self.total < 1:
            raise ValueError(
                f"bimodal: expert must be 0 to total={self.total}, found {self.expert}"
            )
        for name in ("demos", "noise", "clone"):
            if getattr(self, name) < 0:
                raise ValueError(f"bimodal: {name} must be at least 0, found {getattr(self, name)}")
        if not 0 <= self.seed < 100:
            raise ValueError(f"bimodal: seed must be 0 to 99, found {self.seed}")


class RandomPolicy:
    """Uniform actions in [-1, 1]."""

    def __init__(self, env_id: str, seed: int) -> None:
        self.width = action_dim(env_id)
        self.seed = torch.tensor([seed], dtype=torch.int64)

    def noise(self, stream: int, step: int, rows: int) -> Tensor:
        """[rows, A]: a function of seed, stream and step."""
        counter = torch.tensor([step], dtype=torch.int64)
        numbers = uniform(self.seed, counter, stream, rows * self.width, torch.float32)
        return numbers.view(rows, self.width)

    def act_rows(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """[B, D] -> [B, A]"""
        return torch.zeros(len(obs), self.width) if noise is None else 2.0 * noise - 1.0


def load_bimodal(text: str, *, progress: bool = True) -> Dataset:
    """The mixture a spec names.  Its three sources are cached, each once for every mixture."""
    spec = parse_spec(BimodalSpec, text, "expert", "bimodal:Hopper-v4/expert=200")
    check_env(spec.env_id)
    expert = load_expert(spec.env_id, spec.policy or None)
    file = hashlib.sha256(expert.path.read_bytes()).hexdigest()
    shown_count = spec.demos or spec.total

    def other_episodes() -> Dataset:
        if spec.clone:
            own = f",expert={spec.policy}" if spec.policy else ""
            return load_sibench(
                f"sibench:{spec.env_id}/d={spec.clone},episodes={spec.total},seed={spec.seed},"
                f"demos={max(spec.clone, CLONED_FROM)},noise={spec.noise}{own}",
                progress=progress,
            )
        policy = RandomPolicy(spec.env_id, spec.seed)
        played = collect(
            policy, spec.env_id, spec.total, False, seed=SEED_BLOCKS["random"] + spec.seed,
            title="random", progress=progress,
        )  # fmt: skip
        return Dataset(played, env_id=spec.env_id)

    def expert_episodes(seed: int, count: int) -> Dataset:
        return play_demonstrations(expert, spec.env_id, count, seed, spec.noise, progress=progress)

    of_expert = (file, spec.noise)
    made = (spec.total, spec.clone, *of_expert) if spec.clone else (spec.total,)
    other_part = _cached(spec, "clone" if spec.clone else "random", made, other_episodes)
    expert_part = _cached(
        spec, "expert", (spec.total, *of_expert),
        lambda: expert_episodes(SEED_BLOCKS["expert"] + spec.seed, spec.total),
    )  # fmt: skip
    shown = _cached(
        spec, "shown", (shown_count, *of_expert), lambda: expert_episodes(spec.seed, shown_count)
    )
    parts = [other_part.background.take(range(spec.total - spec.expert))]
    parts.append(expert_part.background.take(range(spec.expert)))
    info = {
        "spec": {k: v for k, v in vars(spec).items() if k != "policy"} | {"kind": "bimodal"},
        "recipe": RECIPE,
        **shown.info,
    }
    return Dataset(
        Episodes.joined([part for part in parts if part.num_episodes]),
        shown.background.without_rewards(),
        spec.env_id,
        info=info,
    )


def _cached(
    spec: BimodalSpec, part: str, key: tuple[object, ...], make: Callable[[], Dataset]
) -> Dataset:
    name = hashlib.sha256(repr((RECIPE, spec.seed, key)).encode()).hexdigest()[:16]
    path = cache_folder() / f"bimodal-{spec.env_id}-{part}-{name}.fastifo"
    if not path.exists():
        make().save(path)
    return load_dataset(path)
