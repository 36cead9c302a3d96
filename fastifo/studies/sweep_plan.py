"""The plan of a sweep: its arguments, checked, as one record that is kept in its folder."""

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastifo import algos
from fastifo.algos.config import Config, check_names, expand, shape_key, to_json
from fastifo.algos.learner import Learner
from fastifo.data.dataset import Dataset
from fastifo.engine.population import Member
from fastifo.engine.setup import Settings, choose_env, given_fields, settings_of_members
from fastifo.envs.checks import check_env
from fastifo.envs.rollout import MAX_EPISODES
from fastifo.envs.spec import as_spec
from fastifo.studies.population import Training
from fastifo.studies.proposers import PROPOSERS, TPE_WAVES, require_optuna
from fastifo.studies.schedulers import SCHEDULERS, Scheduler
from fastifo.studies.space import Setting, Space, describe, grid_settings, split_space
from fastifo.utils.arguments import as_count, as_flag, as_seeds

FORMAT = "fastifo-sweep"
# Environment seeds of the evaluations that choose; those of benchmarks, of the final evaluation and
# of self-improvement are others.
EVAL_SEED = 1700
FINAL_SEEDS = 3  # of a sweep that names none
FIRST_FINAL_SEED = 10_000


@dataclass(frozen=True)
class Plan:
    """What is searched, how, and with how many updates and episodes."""

    algorithm: str  # without backbone
    learner_class: type[Learner]
    space: Space
    fixed: dict[str, Any]  # fields with one value
    proposer: str
    num_settings: int
    waves: int  # the settings are proposed in so many rounds
    seed: int  # of the proposer and the scheduler
    scheduler: str
    keep: float
    rungs: tuple[int, ...]  # updates after which members are evaluated
    seeds: tuple[int, ...]  # one member each, for every setting
    final_seeds: tuple[int, ...]  # with which the best setting is trained anew; none: it is not
    final_episodes: int
    training: Training

    def config(self, values: Setting) -> Config:
        """The config of a setting."""
        return expand(self.learner_class.Config, self.fixed | values)[0]

    def member(self, seed: int, values: Setting) -> Member:
        """A member of a population."""
        return Member(seed, self.config(values))

    def shape(self, values: Setting) -> tuple[Any, ...]:
        """Members with equal shapes can share a population."""
        return shape_key(self.config(values))

    def rule(self) -> Scheduler:
        """The scheduler."""
        return Scheduler(self.scheduler, self.keep, self.space, self.seed)

    def wave(self, number: int) -> range:
        """Numbers of the settings of a wave."""
        size = math.ceil(self.num_settings / self.waves)
        return range(
            min(number * size, self.num_settings), min((number + 1) * size, self.num_settings)
        )

    def settings(self) -> Settings:
        """Checks a member for every end of the space.  Raises TypeError or ValueError."""
        members = [self.member(seed, self.first()) for seed in self.seeds]
        for name, distribution in self.space.items():
            members += [self.member(0, self.first() | {name: end}) for end in distribution.ends()]
        training = self.training
        return settings_of_members(
            self.algorithm, members, device=training.device, precision=training.precision
        )

    def first(self) -> Setting:
        """A setting of the space."""
        return {name: distribution.ends()[0] for name, distribution in self.space.items()}

    def to_json(self, dataset: Dataset) -> dict[str, Any]:
        """What two calls of the same sweep agree in."""
        training = dataclasses.asdict(self.training)
        content = {
            "format": FORMAT,
            "algorithm": self.algorithm,
            "dataset": dataset.fingerprint(),
            "space": {name: describe(distribution) for name, distribution in self.space.items()},
            "fixed": to_json(self.config(self.first())),
            **{
                name: getattr(self, name)
                for name in (
                    "proposer", "num_settings", "waves", "seed", "scheduler", "keep", "rungs",
                    "seeds", "final_seeds", "final_episodes",
                )
            },
            **{name: training[name] for name in (
                "precision", "engine", "fused", "env", "env_kwargs", "episodes", "deterministic",
                "log_every",
            )},
        }  # fmt: skip
        return dict(json.loads(json.dumps(content)))


def make_plan(
    algorithm: str | type[Learner],
    *,
    preset: str,
    overrides: Mapping[str, Any],
    arguments: Sequence[str],
    proposer: str,
    num_settings: int | None,
    waves: int | None,
    seed: int,
    scheduler: str,
    keep: float,
    rungs: Sequence[int],
    seeds: Sequence[int],
    final_seeds: Sequence[int] | None,
    episodes: int,
    final_episodes: int,
    deterministic: bool,
    env: Any,
    env_kwargs: Mapping[str, Any] | None,
    **machine: Any,
) -> Plan:
    """Checks all arguments of `fastifo.sweep` that do not depend on the data.

    overrides: fields and distributions.  arguments: names for hints.  machine: of `Training`.
    Raises TypeError or ValueError naming the argument that is wrong.
    """
    name = algos.name_of(algorithm)
    method, backbone = algos.split(name)
    check_names(
        algos.find(method, (backbone | dict(overrides)).get("backbone")).Config,
        overrides,
        name,
        arguments,
    )
    method, fields = given_fields(name, preset, dict(overrides), arguments)
    learner_class = algos.find(method, fields.get("backbone"))
    space, fixed = split_space(learner_class.Config, fields)
    for kind, value, known in (
        ("proposer", proposer, PROPOSERS),
        ("scheduler", scheduler, SCHEDULERS),
    ):
        if value not in known:
            raise ValueError(f"{kind}: expected {', '.join(known)}, found {value!r}")
    if not space:
        raise ValueError(
            "space: expected a field with a distribution or a list of values, such as "
            "temperature=fastifo.loguniform(0.05, 5), found none"
        )
    if "backbone" in space:
        raise ValueError("backbone: expected one value; sweep each backbone by itself")
    seeds = as_seeds(seeds)
    if final_seeds is None:
        final_seeds = range(FIRST_FINAL_SEED, FIRST_FINAL_SEED + FINAL_SEEDS)
    final = as_seeds(final_seeds) if len(final_seeds) > 0 else ()
    if shared := sorted({*seeds} & {*final}):
        raise ValueError(
            f"final_seeds: expected other seeds than those of the search, found {shared[0]} in both"
        )
    if not isinstance(keep, int | float) or not 0.0 < keep <= 1.0:
        raise ValueError(f"keep: expected a share above 0 and up to 1, found {keep!r}")
    is_grid = proposer == "grid"
    if is_grid and num_settings is not None:
        raise ValueError("num_settings: the lists of a grid determine their number; leave it out")
    count = len(grid_settings(space)) if is_grid else as_count("num_settings", num_settings or 16)
    if waves is not None and proposer != "tpe" and waves != 1:
        raise ValueError("waves: only proposer='tpe' proposes in waves; leave it out")
    waves = as_count("waves", waves or (TPE_WAVES if proposer == "tpe" else 1), high=count)
    if proposer == "tpe":
        require_optuna()
    plan = Plan(
        method, learner_class, space, fixed, proposer, count, waves, as_count("seed", seed, low=0),
        scheduler, float(keep), _as_rungs(rungs), seeds, final,
        as_count("final_episodes", final_episodes, high=MAX_EPISODES),
        Training(
            algorithm=method,
            learner=_import_path(learner_class),
            dataset="dataset.fastifo",
            embeddings="search/embeddings" if hasattr(learner_class.Config(), "embeddings") else "",
            env=_env_name(env),
            env_kwargs=None if env_kwargs is None else dict(env_kwargs),
            episodes=as_count("episodes", episodes, high=MAX_EPISODES),
            deterministic=as_flag("deterministic", deterministic),
            eval_seed=EVAL_SEED,
            **machine,
        ),
    )  # fmt: skip
    plan.settings()
    return plan


def check_data(plan: Plan, dataset: Dataset) -> None:
    """Raises ValueError if the method cannot learn from the dataset or be evaluated on it."""
    plan.settings().check_data(dataset)
    env = choose_env(dataset, plan.training.env, plan.training.env_kwargs)
    if env is None:
        raise ValueError(
            "env: a sweep compares returns, and the dataset names no environment; pass "
            "env='Hopper-v4' (for example), on the command line --env-id"
        )
    sizes = (dataset.obs_dim, dataset.action_dim)
    check_env(env, *sizes, dataset.action_low, dataset.action_high, dataset.cameras)


def _as_rungs(rungs: Any) -> tuple[int, ...]:
    given = [rungs] if isinstance(rungs, int) else list(rungs)
    counts = tuple(as_count("rungs", value) for value in given)
    if not counts or any(a >= b for a, b in itertools.pairwise(counts)):
        raise ValueError(
            f"rungs: expected growing numbers of updates such as [1000, 3000, 9000], found {given}"
        )
    return counts


def _import_path(learner_class: type[Learner]) -> str:
    """module:class of a method that is not fastifo's own; empty for one that is."""
    module, name = learner_class.__module__, learner_class.__qualname__
    return "" if module.partition(".")[0] == "fastifo" else f"{module}:{name}"


def _env_name(env: Any) -> str | None:
    """The name by which other processes make the environment."""
    if env is None or isinstance(env, str):
        return env
    name = as_spec(env).id
    if "<" in name or name.startswith("__main__"):
        raise ValueError(
            f"env: expected an environment that other processes can import, found {name}; define "
            "it in a module and pass 'module:function'"
        )
    return name
