"""SIBench: background data from policies cloned from d demonstrations.

Source: arXiv 2507.06701, SIBench. Behaviour cloning (stochastic, 101 bins) on d expert episodes
gives a policy; its episodes are the background, the demonstrations without actions the expert
data. Demonstrations are nested: a larger d starts with the smaller one's. They are sampled around
the expert's mean action, as D4RL's are: those of a deterministic expert lie on one thin path, and a
clone of them falls as soon as it leaves it. The clone sees standardised observations.
"""

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

from fastifo.config import nearest
from fastifo.data.dataset import Dataset, Episodes
from fastifo.data.pack import load_dataset
from fastifo.evaluate import evaluate_policies
from fastifo.experts import ExpertPolicy, load_expert, provenance
from fastifo.files import cache_folder
from fastifo.rollout import check_env, collect

RECIPE = 3  # counts changes of how a set is made; part of the cache's name
EXPERT_EPISODES = 50  # of the expert alone, without noise, for reports
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
        example = "sibench:Hopper-v4/d=5,episodes=200"
        env_id, slash, options = text.removeprefix("sibench:").partition("/")
        if not slash or not env_id:
            raise ValueError(f"expected a spec such as {example!r}, found {text!r}")
        kinds = {f.name: f.type for f in dataclasses.fields(SIBenchSpec) if f.name != "env_id"}
        values: dict[str, Any] = {}
        for option in options.split(","):
            name, equals, value = option.partition("=")
            if not equals or name not in kinds:
                known = nearest(name, kinds)
                raise ValueError(f"{text!r}: unknown option {option!r}; {known}; as in {example!r}")
            kind: Any = kinds[name]
            try:
                values[name] = kind(value)
            except ValueError:
                expected = "an integer" if kind is int else "a number"
                raise ValueError(f"{text!r}: {name} must be {expected}, found {value!r}") from None
        if "d" not in values:
            raise ValueError(f"{text!r}: d is missing; as in {example!r}")
        return SIBenchSpec(env_id, **values)

    def key(self, expert: ExpertPolicy) -> str:
        """Names the set: every option, the expert's bytes and the recipe."""
        values = {k: v for k, v in vars(self).items() if k != "expert"}
        identity = repr((RECIPE, sorted(values.items()))).encode() + expert.path.read_bytes()
        return hashlib.sha256(identity).hexdigest()[:16]


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
    dataset = build_sibench(spec, expert, progress=progress)
    dataset.save(cached)
    return dataset


def build_sibench(spec: SIBenchSpec, expert: ExpertPolicy, *, progress: bool = True) -> Dataset:
    """Plays the expert, clones d demonstrations, plays the clone."""
    from fastifo.engine.train import train

    noise = expert.noise_scale = 0.0 if expert.deviation is None else spec.noise
    demos = collect(
        expert,
        spec.env_id,
        spec.demos,
        noise == 0.0,
        seed=SEED_BLOCKS["demonstrations"] + spec.seed,
        title="demonstrations",
        progress=progress,
    )
    cloned = train(
        "bc",
        Dataset(background=demos.take(range(spec.d)), env_id=spec.env_id),
        num_updates=spec.bc_updates,
        seeds=spec.seed,
        device="cpu",
        precision="fp32",
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
    returns = demos.returns()
    assert returns is not None
    expert.noise_scale = 0.0
    alone = evaluate_policies([expert], spec.env_id, EXPERT_EPISODES, True, progress=progress)
    given = demos.take(range(spec.n_expert or spec.demos))
    shown = Episodes(given.obs, given.start, given.terminal, given.timeout)
    info = {
        "spec": {k: v for k, v in vars(spec).items() if k != "expert"},
        "recipe": RECIPE,
        "demonstration_noise": noise,
        "expert": provenance(expert),
        "expert_returns": [round(value, 3) for value in alone.returns[0].tolist()],
        "demonstration_return_mean": float(returns.mean()),
        "demonstration_return_std": float(returns.std(correction=0)),
    }
    return Dataset(background, shown, spec.env_id, info=info)
