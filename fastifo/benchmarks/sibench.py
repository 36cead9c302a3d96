"""SIBench: background data from policies cloned from d demonstrations, or from a noisy expert.

Source: arXiv 2507.06701, SIBench. Behaviour cloning (stochastic, 101 bins) on d expert episodes
gives a policy; its episodes are the background, and the demonstrations without actions are the
expert data. Demonstrations are nested: a larger d starts with those of a smaller one.

With `background_noise` the background is the expert's own, and action noise sets its quality.

The paper leaves two choices open. Demonstrations are sampled around the expert's mean action, as
D4RL's are: those of a deterministic expert lie on one thin path, and their clone falls as soon as
it leaves it. The clone's observations are standardised.
"""

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastifo.benchmarks.cache import cached_dataset
from fastifo.benchmarks.demonstrations import Demonstrator, find_demonstrator
from fastifo.benchmarks.spec import parse_spec
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.engine.train import train
from fastifo.envs.experts import default_noise
from fastifo.envs.registry import describe
from fastifo.envs.rollout import MAX_RECORDED, collect
from fastifo.envs.spec import EnvSpec, as_spec
from fastifo.utils.parallel import one_thread

RECIPE = 5  # version of how a set is made; part of the cache's file name
SEED_BLOCK = 1400  # environment seeds of the background; see `demonstrations.SEED_BLOCK`
NOISY_SEED_BLOCK = 1100  # added to the seed of the demonstrations for a noisy expert's episodes


@dataclass(frozen=True)
class SIBenchSpec:
    """One set: `sibench:<env>/d=<n>,episodes=<n>,...`.  Raises ValueError for a bad option."""

    env_id: str  # the environment
    d: int = 0  # demonstrations that the background's policy is cloned from
    episodes: int = 1000  # of the background
    seed: int = 0  # of demonstrations, clone and background; 0 to 99
    demos: int = 1000  # expert episodes played; the first d of them are cloned
    n_expert: int = 0  # demonstrations given to the learner, without actions; 0 is all
    bc_updates: int = 10_000  # of the clone
    expert: str = ""  # a policy file, or file or spec of a dataset; empty is the shipped expert
    noise: float | None = None  # of the demonstrations; see `default_noise`, which is used for None
    mode: int = 0  # 1: the clone plays its mode; 0: it samples, as policies are evaluated
    background_noise: float = 0.0  # with d=0: of the expert's episodes that are the background
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)  # the environment's settings

    def __post_init__(self) -> None:
        if self.noise is None:
            object.__setattr__(self, "noise", default_noise(self.env_id))
        if not 0 <= self.background_noise < math.inf or (self.d and self.background_noise):
            raise ValueError(
                "sibench: expected background_noise of at least 0, and no d beside it, found d="
                f"{self.d} and background_noise={self.background_noise}"
            )
        names = ("episodes", "demos", "bc_updates")
        for name in names if self.background_noise else ("d", *names):
            if getattr(self, name) < 1:
                raise ValueError(f"sibench: {name} must be at least 1, found {getattr(self, name)}")
        for name in ("episodes", "demos"):
            if getattr(self, name) > MAX_RECORDED:
                raise ValueError(
                    f"sibench: {name} must be at most {MAX_RECORDED}, found {getattr(self, name)}"
                )
        if self.n_expert < 0:
            raise ValueError(f"sibench: n_expert must be at least 0, found {self.n_expert}")
        if self.mode not in (0, 1):
            raise ValueError(f"sibench: mode must be 0 or 1, found {self.mode}")
        for name in ("d", "n_expert"):
            if getattr(self, name) > self.demos:
                raise ValueError(
                    f"sibench: {name}={getattr(self, name)} is more than demos={self.demos}; "
                    "raise demos"
                )
        if self.noise is None or not 0 <= self.noise < math.inf:
            raise ValueError(f"sibench: noise must be at least 0 and finite, found {self.noise}")
        if not 0 <= self.seed < 100:
            raise ValueError(f"sibench: seed must be 0 to 99, found {self.seed}")

    @staticmethod
    def parse(text: str) -> "SIBenchSpec":
        """Reads a spec.  Raises ValueError naming the part that is wrong."""
        required = "" if "background_noise=" in text else "d"
        spec = parse_spec(SIBenchSpec, text, required, "sibench:Hopper-v4/d=5,episodes=200")
        assert isinstance(spec, SIBenchSpec)
        return spec

    @property
    def name(self) -> str:
        """What distinguishes sets of one task: d=5, or background_noise=0.5."""
        noise = self.background_noise
        return f"background_noise={noise:g}" if noise else f"d={self.d}"

    @property
    def env(self) -> EnvSpec:
        """The environment with its settings."""
        return as_spec(self.env_id, kwargs=self.env_kwargs)

    def values(self) -> dict[str, Any]:
        """The options by name, those that identify a set; newer ones only if they are given."""
        newer = ("background_noise", "env_kwargs")
        return {k: v for k, v in vars(self).items() if k != "expert" and (v or k not in newer)}

    def key(self, demonstrator: Demonstrator) -> str:
        """Identifies the set: a hash of every option, the demonstrations and the recipe."""
        values = sorted((k, v) for k, v in self.values().items() if k != "env_kwargs")
        identity = repr((RECIPE, values)).encode() + demonstrator.identity()
        return hashlib.sha256(identity).hexdigest()[:16]


def load_sibench(text: str, *, progress: bool = True) -> Dataset:
    """The set of a spec, from the cache; a set that is not there is built and cached.

    Raises ValueError for a wrong spec or a damaged file in the cache.
    """
    return load_set(SIBenchSpec.parse(text), progress=progress)


def load_set(spec: SIBenchSpec, *, progress: bool = True) -> Dataset:
    """`load_sibench` for a spec that has been read.  Raises as it does."""
    describe(spec.env)
    demonstrator = find_demonstrator(spec.env, spec.expert, progress=progress)

    def make() -> Dataset:
        assert spec.noise is not None
        demonstrations = demonstrator.demonstrate(spec.demos, spec.seed, spec.noise)
        background = play_noisy(spec, demonstrator) if spec.background_noise else None
        return build_sibench(spec, demonstrations, background=background, progress=progress)

    name = f"sibench-{spec.env_id}-d{spec.d}-{spec.key(demonstrator)}.fastifo"
    return cached_dataset(name, make)


def play_noisy(spec: SIBenchSpec, demonstrator: Demonstrator) -> Episodes:
    """The background of a noisy expert."""
    seed = NOISY_SEED_BLOCK + spec.seed
    return demonstrator.more_episodes(spec.episodes, seed, spec.background_noise)


def build_sibench(
    spec: SIBenchSpec,
    demonstrations: Dataset,
    *,
    background: Episodes | None = None,
    clone_folder: Path | None = None,
    progress: bool = True,
) -> Dataset:
    """The set of a background and of demonstrations without actions.

    demonstrations: episodes with actions, as the background of a dataset.
    background: the set's; None: the first d demonstrations are cloned, and the clone plays.
    clone_folder: run folder of the clone, so that a stopped training continues; without one the
    clone is not kept.
    """
    demos = demonstrations.background
    task = dataclasses.replace(demonstrations, expert=None, env_id=spec.env_id, info={})
    if background is None:
        background = _play_clone(spec, task, clone_folder, progress)
    count = min(spec.n_expert or demos.num_episodes, demos.num_episodes)
    expert = demos.take(range(count)).without_rewards()
    info = {
        "spec": spec.values(),
        "recipe": RECIPE,
        **demonstrations.info,
        **background_statistics(background),
    }
    return dataclasses.replace(task, background=background, expert=expert, info=info, unverified=())


def _play_clone(
    spec: SIBenchSpec, task: Dataset, clone_folder: Path | None, progress: bool
) -> Episodes:
    """Episodes of a clone of the first d episodes of `task`."""
    if spec.d > task.background.num_episodes:
        raise ValueError(
            f"sibench: d={spec.d} is more than the {task.background.num_episodes} demonstrations "
            "there are"
        )
    demos = task.background.take(range(spec.d))
    env = as_spec(spec.env_id, settings=task.env_kwargs, obs_keys=task.obs_keys)
    with one_thread():  # the bits of a result depend on the number of threads
        clone = train(
            "bc",
            dataclasses.replace(task, background=demos),
            num_updates=spec.bc_updates,
            seeds=[spec.seed],
            device="cpu",
            precision="fp32",
            out=clone_folder,
            progress=progress,
            standardize_obs=True,
        )
        return collect(
            clone.policy(0),
            env,
            spec.episodes,
            bool(spec.mode),
            seed=SEED_BLOCK + spec.seed,
            title="background",
            bounds=(task.action_low, task.action_high),
            progress=progress,
        )


def background_statistics(background: Episodes) -> dict[str, float]:
    """Mean and standard deviation of the undiscounted returns, and the mean length in steps."""
    returns = background.returns()
    assert returns is not None
    return {
        "background_return_mean": float(returns.mean()),
        "background_return_std": float(returns.std(correction=0)),
        "background_length_mean": float(background.lengths.double().mean()),
    }
