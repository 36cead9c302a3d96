"""SIBench: background data from policies cloned from d demonstrations.

Source: arXiv 2507.06701, SIBench. Behaviour cloning (stochastic, 101 bins) on d expert episodes
gives a policy; its episodes are the background, and the demonstrations without actions are the
expert data. Demonstrations are nested: a larger d starts with those of a smaller one.

The paper leaves two choices open. Demonstrations are sampled around the expert's mean action, as
D4RL's are: those of a deterministic expert lie on one thin path, and their clone falls as soon as
it leaves it. The clone's observations are standardised.
"""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastifo.benchmarks.cache import cached_dataset
from fastifo.benchmarks.demonstrations import play_demonstrations, sample_demonstrations
from fastifo.benchmarks.spec import parse_spec
from fastifo.data.dataset import Dataset, load_dataset
from fastifo.data.episodes import Episodes
from fastifo.engine.train import train
from fastifo.envs.experts import Expert, load_expert
from fastifo.envs.registry import check_id
from fastifo.envs.rollout import MAX_RECORDED, collect
from fastifo.utils.ambient import standard_torch
from fastifo.utils.files import keep_plan
from fastifo.utils.locks import folder_lock
from fastifo.utils.parallel import one_thread, run_jobs
from fastifo.utils.text import did_you_mean

RECIPE = 5  # version of how a set is made; part of the cache's file name
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # demonstrations cloned, the paper's ten sets
SEED_BLOCK = 1400  # environment seeds of the background; see `demonstrations.SEED_BLOCK`


@dataclass(frozen=True)
class SIBenchSpec:
    """One set: `sibench:<env>/d=<n>,episodes=<n>,...`.  Raises ValueError for a bad option."""

    env_id: str  # the environment
    d: int  # demonstrations that the background's policy is cloned from
    episodes: int = 1000  # of the background
    seed: int = 0  # of demonstrations, clone and background; 0 to 99
    demos: int = 1000  # expert episodes played; the first d of them are cloned
    n_expert: int = 0  # demonstrations given to the learner, without actions; 0 is all
    bc_updates: int = 10_000  # of the clone
    expert: str = ""  # a policy file; empty is the shipped expert
    noise: float = 0.5  # of the demonstrations, relative to the expert's own exploration noise
    mode: int = 0  # 1: the clone plays its mode; 0: it samples, as policies are evaluated

    def __post_init__(self) -> None:
        for name in ("d", "episodes", "demos", "bc_updates"):
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
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"sibench: noise must be at least 0 and finite, found {self.noise}")
        if not 0 <= self.seed < 100:
            raise ValueError(f"sibench: seed must be 0 to 99, found {self.seed}")

    @staticmethod
    def parse(text: str) -> "SIBenchSpec":
        """Reads a spec.  Raises ValueError naming the part that is wrong."""
        spec = parse_spec(SIBenchSpec, text, "d", "sibench:Hopper-v4/d=5,episodes=200")
        assert isinstance(spec, SIBenchSpec)
        return spec

    def key(self, expert: Expert) -> str:
        """Identifies the set: a hash of every option, the expert and the recipe."""
        values = {k: v for k, v in vars(self).items() if k != "expert"}
        identity = repr((RECIPE, sorted(values.items()))).encode() + expert.identity()
        return hashlib.sha256(identity).hexdigest()[:16]


def load_sibench(text: str, *, progress: bool = True) -> Dataset:
    """The set of a spec, from the cache; a set that is not there is built and cached.

    Raises ValueError for a wrong spec or a damaged file in the cache.
    """
    spec = SIBenchSpec.parse(text)
    check_id(spec.env_id)
    expert = load_expert(spec.env_id, spec.expert or None)

    def make() -> Dataset:
        demonstrations = play_demonstrations(
            expert, spec.env_id, spec.demos, spec.seed, spec.noise, progress=progress
        )
        return build_sibench(spec, demonstrations, progress=progress)

    return cached_dataset(f"sibench-{spec.env_id}-d{spec.d}-{spec.key(expert)}.fastifo", make)


def build_sibench(
    spec: SIBenchSpec,
    demonstrations: Dataset,
    *,
    clone_folder: Path | None = None,
    progress: bool = True,
) -> Dataset:
    """Clones the first d demonstrations and plays the clone.

    demonstrations: episodes with actions, as the background of a dataset.  clone_folder: run folder
    of the clone, so that a stopped training continues; without one the clone is not kept.
    """
    demos = demonstrations.background
    task = dataclasses.replace(demonstrations, expert=None, env_id=spec.env_id, info={})
    with one_thread():  # the bits of a result depend on the number of threads
        clone = train(
            "bc",
            dataclasses.replace(task, background=demos.take(range(spec.d))),
            num_updates=spec.bc_updates,
            seeds=spec.seed,
            device="cpu",
            precision="fp32",
            out=clone_folder,
            progress=progress,
            standardize_obs=True,
        )
        background = collect(
            clone.policy(0),
            spec.env_id,
            spec.episodes,
            bool(spec.mode),
            seed=SEED_BLOCK + spec.seed,
            title="background",
            env_kwargs=task.env_kwargs,
            bounds=(task.action_low, task.action_high),
            progress=progress,
        )
    expert = demos.take(range(spec.n_expert or demos.num_episodes)).without_rewards()
    info = {
        "spec": {k: v for k, v in vars(spec).items() if k != "expert"},
        "recipe": RECIPE,
        **demonstrations.info,
        **background_statistics(background),
    }
    return dataclasses.replace(task, background=background, expert=expert, info=info, unverified=())


def background_statistics(background: Episodes) -> dict[str, float]:
    """Mean and standard deviation of the undiscounted returns, and the mean length in steps."""
    returns = background.returns()
    assert returns is not None
    return {
        "background_return_mean": float(returns.mean()),
        "background_return_std": float(returns.std(correction=0)),
        "background_length_mean": float(background.lengths.double().mean()),
    }


@standard_torch()
def build_sets(
    env_id: str,
    out: Path,
    sizes: Sequence[int] = SIZES,
    *,
    demonstrations: str = "",
    progress: bool = True,
    **options: Any,
) -> list[Path]:
    """Builds one set per number of cloned demonstrations in `out`; finished sets are kept.

    Several processes build the sets, so a script calls this below `if __name__ == "__main__":`.
    demonstrations: spec of a dataset whose background episodes are cloned; empty plays the expert.
    options: fields of SIBenchSpec; `demos` is the largest size unless given.
    Returns the files, smallest size first.  Raises ValueError where `out` holds sets of other
    options, or a size exceeds the number of demonstrations.
    """
    known = {f.name for f in dataclasses.fields(SIBenchSpec)} - {"env_id", "d"}
    if unknown := sorted(set(options) - known):
        raise ValueError(
            f"sibench: unknown option {unknown[0]!r}; {did_you_mean(unknown[0], known)}"
        )
    if not sizes:
        raise ValueError("sizes: expected one or more, found none")
    check_id(env_id)
    options.setdefault("demos", max(sizes))
    smallest = SIBenchSpec(env_id, min(sizes), **options)
    shared = {name: value for name, value in vars(smallest).items() if name not in ("env_id", "d")}
    plan = {"env_id": env_id, "demonstrations": demonstrations, "recipe": RECIPE} | shared
    with folder_lock(out, waits=True):  # two studies may share the sets
        keep_plan(out / "plan.json", plan)
        count = keep_demonstrations(smallest, demonstrations, out, progress)
        for size in sorted(sizes):
            if size > count:
                raise ValueError(f"sizes: {size} is more than the {count} demonstrations there are")
        options["demos"] = count
        specs = [SIBenchSpec(env_id, size, **options) for size in sorted(sizes)]
        jobs = [BuildJob(spec, out, progress) for spec in specs]
        run_jobs([job for job in jobs if not job.path.exists()])
    return [job.path for job in jobs]


def keep_demonstrations(spec: SIBenchSpec, source: str, out: Path, progress: bool) -> int:
    """Writes `demonstrations.fastifo` into `out` unless it is there; returns how many there are."""
    path = out / "demonstrations.fastifo"
    if not path.exists():
        if source:
            dataset = sample_demonstrations(
                source, spec.env_id, spec.demos, spec.seed, progress=progress
            )
        else:
            expert = load_expert(spec.env_id, spec.expert or None)
            dataset = play_demonstrations(
                expert, spec.env_id, spec.demos, spec.seed, spec.noise, progress=progress
            )
        dataset.save(path)
    return load_dataset(path).background.num_episodes


@dataclass(frozen=True)
class BuildJob:
    """Builds one set of a folder that has demonstrations."""

    spec: SIBenchSpec
    out: Path  # folder of the demonstrations and the sets
    progress: bool  # show progress bars

    @property
    def path(self) -> Path:
        """File of the set."""
        return self.out / f"d={self.spec.d}.fastifo"

    def run(self) -> None:
        """Clones, plays and writes the file."""
        demonstrations = load_dataset(self.out / "demonstrations.fastifo")
        clone_folder = self.out / "clones" / f"d={self.spec.d}"
        dataset = build_sibench(
            self.spec, demonstrations, clone_folder=clone_folder, progress=self.progress
        )
        dataset.save(self.path)
