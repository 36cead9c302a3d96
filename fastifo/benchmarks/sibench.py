"""SIBench: background data from policies cloned from d demonstrations.

Source: arXiv 2507.06701, SIBench. Behaviour cloning (stochastic, 101 bins) on d expert episodes
gives a policy; its episodes are the background, the demonstrations without actions the expert
data. Demonstrations are nested: a larger d starts with the smaller one's. They are sampled around
the expert's mean action, as D4RL's are: those of a deterministic expert lie on one thin path, and a
clone of them falls as soon as it leaves it. The clone sees standardised observations.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastifo.data.dataset import Dataset, load_dataset
from fastifo.data.episodes import Episodes
from fastifo.data.load import load
from fastifo.engine.train import train
from fastifo.envs.envpool import check_env
from fastifo.envs.experts import ExpertPolicy, load_expert, provenance
from fastifo.envs.returns import evaluate_policies
from fastifo.envs.rollout import collect
from fastifo.utils.files import cache_folder, keep_plan
from fastifo.utils.parallel import one_thread, run_jobs
from fastifo.utils.text import did_you_mean

RECIPE = 5  # counts changes of how a set is made; part of the cache's name
EXPERT_EPISODES = 50  # of the expert alone, without noise, for reports
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # demonstrations cloned, the paper's ten sets
SEED_BLOCKS = {"demonstrations": 700, "background": 1400}  # apart from evaluation's seeds


@dataclass(frozen=True)
class SIBenchSpec:
    """One set: `sibench:<env>/d=<n>,episodes=<n>,...`."""

    env_id: str
    d: int  # demonstrations that the background's policy is cloned from
    episodes: int = 1000  # of background
    seed: int = 0
    demos: int = 1000  # expert episodes played; d of them are cloned
    n_expert: int = 0  # of them given to the learner, without actions; 0 is all
    bc_updates: int = 10_000
    expert: str = ""  # a policy file; empty is the shipped expert
    noise: float = 0.5  # of the demonstrations, times the expert's own exploration noise
    mode: int = 0  # 1: the clone plays its mode; 0: it samples, as policies are evaluated

    def __post_init__(self) -> None:
        for name in ("d", "episodes", "demos", "bc_updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"sibench: {name} must be at least 1, found {getattr(self, name)}")
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
        if self.noise < 0:
            raise ValueError(f"sibench: noise must be at least 0, found {self.noise}")
        if not 0 <= self.seed < 100:
            raise ValueError(f"sibench: seed must be 0 to 99, found {self.seed}")

    @staticmethod
    def parse(text: str) -> "SIBenchSpec":
        """Raises ValueError naming the part that is wrong."""
        found = parse_spec(SIBenchSpec, text, "d", "sibench:Hopper-v4/d=5,episodes=200")
        assert isinstance(found, SIBenchSpec)
        return found

    def key(self, expert: ExpertPolicy) -> str:
        """Names the set: every option, the expert's bytes and the recipe."""
        values = {k: v for k, v in vars(self).items() if k != "expert"}
        identity = repr((RECIPE, sorted(values.items()))).encode() + expert.path.read_bytes()
        return hashlib.sha256(identity).hexdigest()[:16]


def parse_spec(kind: Any, text: str, needed: str, example: str) -> Any:
    """`name:<env>/<option>=<value>,...` as a dataclass.  Raises ValueError naming what is wrong."""
    env_id, slash, options = text.partition(":")[2].partition("/")
    if not slash or not env_id:
        raise ValueError(f"expected a spec such as {example!r}, found {text!r}")
    types = {f.name: f.type for f in dataclasses.fields(kind) if f.name != "env_id"}
    values: dict[str, Any] = {}
    for option in options.split(","):
        name, equals, value = option.partition("=")
        if not equals or name not in types:
            known = did_you_mean(name, types)
            raise ValueError(f"{text!r}: unknown option {option!r}; {known}; as in {example!r}")
        convert: Any = types[name]
        try:
            values[name] = convert(value)
        except ValueError:
            expected = "an integer" if convert is int else "a number"
            raise ValueError(f"{text!r}: {name} must be {expected}, found {value!r}") from None
    if needed not in values:
        raise ValueError(f"{text!r}: {needed} is missing; as in {example!r}")
    return kind(env_id, **values)


def load_sibench(text: str, *, progress: bool = True) -> Dataset:
    """The set a spec names: from the cache, or made now and kept there.  Raises ValueError."""
    spec = SIBenchSpec.parse(text)
    check_env(spec.env_id)
    expert = load_expert(spec.env_id, spec.expert or None)
    name = f"sibench-{spec.env_id}-d{spec.d}-{spec.key(expert)}.fastifo"
    cached = cache_folder() / name
    if cached.exists():
        try:
            return load_dataset(cached)
        except ValueError as error:
            raise ValueError(f"{error} (delete this file and ask again)") from None
    shown = play_demonstrations(
        expert, spec.env_id, spec.demos, spec.seed, spec.noise, progress=progress
    )
    dataset = build_sibench(spec, shown, progress=progress)
    dataset.save(cached)
    return dataset


def play_demonstrations(
    expert: ExpertPolicy,
    env_id: str,
    count: int,
    seed: int,
    noise: float,
    *,
    progress: bool = True,
) -> Dataset:
    """The expert's episodes with their actions, as a background, and what is known of them."""
    noise = expert.noise_scale = 0.0 if expert.deviation is None else noise
    demos = collect(
        expert,
        env_id,
        count,
        noise == 0.0,
        seed=SEED_BLOCKS["demonstrations"] + seed,
        title="demonstrations",
        progress=progress,
    )
    expert.noise_scale = 0.0
    alone = evaluate_policies([expert], env_id, EXPERT_EPISODES, True, progress=progress)
    info = {
        "demonstration_noise": noise,
        "expert": provenance(expert),
        "expert_returns": [round(value, 3) for value in alone.returns[0].tolist()],
    }
    return Dataset(demos, env_id=env_id, info=info | return_statistics(demos))


def return_statistics(demos: Episodes) -> dict[str, float]:
    returns = demos.returns()
    if returns is None:
        return {}
    return {
        "demonstration_return_mean": float(returns.mean()),
        "demonstration_return_std": float(returns.std(correction=0)),
    }


def build_sibench(
    spec: SIBenchSpec, shown: Dataset, *, clone: Path | None = None, progress: bool = True
) -> Dataset:
    """Clones the first d demonstrations, plays the clone.

    shown: demonstrations with actions, as a background.  clone: the clone's run folder, where it
    is to be kept and to go on after a break.
    """
    demos = shown.background
    with one_thread():
        cloned = train(
            "bc",
            Dataset(background=demos.take(range(spec.d)), env_id=spec.env_id),
            num_updates=spec.bc_updates,
            seeds=spec.seed,
            device="cpu",
            precision="fp32",
            out=clone,
            progress=progress,
            standardize_obs=True,
        )
        background = collect(
            cloned.policy(0),
            spec.env_id,
            spec.episodes,
            bool(spec.mode),
            seed=SEED_BLOCKS["background"] + spec.seed,
            title="background",
            progress=progress,
        )
    given = demos.take(range(spec.n_expert or demos.num_episodes)).without_rewards()
    returns = background.returns()
    assert returns is not None
    info = {
        "spec": {k: v for k, v in vars(spec).items() if k != "expert"},
        "recipe": RECIPE,
        **shown.info,
        "background_return_mean": float(returns.mean()),
        "background_return_std": float(returns.std(correction=0)),
        "background_length_mean": float(background.lengths.double().mean()),
    }
    return Dataset(background, given, spec.env_id, info=info)


def build_sets(
    env_id: str,
    out: Path,
    sizes: Sequence[int] = SIZES,
    *,
    demonstrations: str = "",
    progress: bool = True,
    **options: Any,
) -> list[Path]:
    """One set per number of cloned demonstrations, in `out`; finished ones are left alone.

    Sets are made in processes of their own: a script calls this below `if __name__ == "__main__":`.
    demonstrations: a dataset's spec whose background they are; empty plays the expert, as many
    episodes as the largest size unless `demos` says so.  options: fields of SIBenchSpec.
    Raises ValueError where `out` holds sets of other options or demonstrations are too few.
    """
    known = {f.name for f in dataclasses.fields(SIBenchSpec)} - {"env_id", "d"}
    if unknown := sorted(set(options) - known):
        raise ValueError(
            f"sibench: unknown option {unknown[0]!r}; {did_you_mean(unknown[0], known)}"
        )
    if not sizes:
        raise ValueError("sizes: expected one or more, found none")
    check_env(env_id)
    options.setdefault("demos", max(sizes))
    first = SIBenchSpec(env_id, min(sizes), **options)
    plan = {"env_id": env_id, "demonstrations": demonstrations, "recipe": RECIPE} | {
        k: v for k, v in vars(first).items() if k not in ("env_id", "d")
    }
    keep_plan(out / "plan.json", plan)
    path = out / "demonstrations.fastifo"
    if not path.exists():
        _demonstrations(first, demonstrations, progress).save(path)
    count = load_dataset(path).background.num_episodes
    jobs = []
    for d in sorted(sizes):
        if d > count:
            raise ValueError(f"sizes: {d} is more than the {count} demonstrations there are")
        jobs.append(_Build(SIBenchSpec(env_id, d, **options | {"demos": count}), out, progress))
    run_jobs([job for job in jobs if not job.path.exists()])
    return [job.path for job in jobs]


@dataclass(frozen=True)
class _Build:
    """One set of a folder."""

    spec: SIBenchSpec
    out: Path
    progress: bool

    @property
    def path(self) -> Path:
        return self.out / f"d={self.spec.d}.fastifo"

    def run(self) -> None:
        shown = load_dataset(self.out / "demonstrations.fastifo")
        clone = self.out / "clones" / f"d={self.spec.d}"
        build_sibench(self.spec, shown, clone=clone, progress=self.progress).save(self.path)


def _demonstrations(spec: SIBenchSpec, source: str, progress: bool) -> Dataset:
    if not source:
        expert = load_expert(spec.env_id, spec.expert or None)
        return play_demonstrations(
            expert, spec.env_id, spec.demos, spec.seed, spec.noise, progress=progress
        )
    found = load(source, progress=progress).background
    if found.action is None:
        raise ValueError(f"demonstrations {source}: expected actions to clone, found none")
    count = min(spec.demos, found.num_episodes)
    order = torch.randperm(found.num_episodes, generator=torch.Generator().manual_seed(spec.seed))
    chosen = found.take(order[:count].tolist())
    info = {"expert": {"file": source, "source": "demonstrations"}}
    return Dataset(chosen, env_id=spec.env_id, info=info | return_statistics(chosen))
