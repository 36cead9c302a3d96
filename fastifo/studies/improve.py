"""Self-improvement: train, play, replace the background with the played episodes, repeat.

Source: arXiv 2507.06701. The expert's observations stay the same; each iteration trains from
scratch on the episodes of the previous policy. With `dagger` an expert labels the episodes and all
are kept, see `fastifo.studies.dagger`. The function is longer than 50 lines because its docstring
is the reference of the API.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastifo import algos
from fastifo.algos.learner import Learner
from fastifo.data.dataset import Dataset
from fastifo.data.load import load
from fastifo.engine.run_folder import refuse_run
from fastifo.engine.setup import Settings, choose_env, env_notes, given_fields, report_notes
from fastifo.engine.train import TRAIN_ARGUMENTS
from fastifo.envs.policy import Policy
from fastifo.envs.registry import describe
from fastifo.envs.rollout import MAX_RECORDED
from fastifo.envs.spec import EnvSpec, as_spec
from fastifo.studies import dagger
from fastifo.studies.dagger import DAgger, Schedule
from fastifo.studies.expert_sources import env_of
from fastifo.studies.grid import settings_of
from fastifo.studies.improvement import Improvement
from fastifo.studies.iterations import Experiment, plan_of, run_iterations
from fastifo.utils.ambient import standard_torch
from fastifo.utils.arguments import as_count, as_flag, as_seeds, plain
from fastifo.utils.files import keep_plan, read_json
from fastifo.utils.folders import as_path
from fastifo.utils.lease import folder_lease
from fastifo.utils.locks import folder_lock
from fastifo.utils.machines import opened
from fastifo.utils.parallel import Executor

SET_HERE = ("seeds", "out", "env", "env_kwargs", "progress")  # arguments of `train`
PASSED_ON = tuple(name for name in TRAIN_ARGUMENTS if name not in SET_HERE)
ARGUMENTS = (*PASSED_ON, "iterations", "episodes", "seeds", "out", "env_id")  # for hints


@standard_torch()
def improve(
    algorithm: str | type[Learner],
    expert: Dataset | str | Path | Policy | Callable[[Any], Any],
    seed_background: Dataset | str | Path | None = None,
    *,
    iterations: int = 20,
    episodes: int = 1000,
    seeds: Sequence[int] = (0,),
    out: str | Path,
    env_id: Any = None,
    env_kwargs: Mapping[str, Any] | None = None,
    beta_decay: float = 0.0,
    betas: Sequence[float] | None = None,
    progress: bool = True,
    executor: Executor | None = None,
    **fields: Any,
) -> Improvement:
    """Trains a policy, replaces the background with episodes that it plays, and repeats.

    expert: a dataset whose expert observations are used; if it has no expert part, those of its
        background.
    seed_background: a dataset whose background the first iteration learns from.
    episodes: number of episodes played in each iteration, with sampled actions.
    seeds: each seed trains its own sequence of policies.
    env_id, env_kwargs: the environment and its settings, as `env` in `fastifo.train`, if the
        datasets do not name it.
    executor: runs the seeds of an iteration in parallel, possibly on other machines, see
        `fastifo.utils.machines`; None: one after the other in this process.
    fields: arguments of `fastifo.train`.
    Every iteration has a run folder and a dataset in `out`; a finished one is not repeated. A seed
    that diverges does not stop the others.
    Raises ValueError if `out` contains another improvement, FloatingPointError if every seed
    diverged, and the other errors of `train`.

    With algorithm="dagger", the expert is queried for its actions: each iteration clones all data
    so far (with `bc`, whose fields are `fields`), plays, and labels every observation with the
    expert's action.
    expert: "included" for fastifo's expert of the environment; a run folder or a `Policy`; a policy
        file, .npz, .onnx or .pt2; a function of observations, float32 NumPy [N, D], that returns
        actions in the environment's units, [N, A]; or its name, "module:function".
    seed_background: the expert's demonstrations with actions; None: the expert plays `episodes`.
    beta_decay: share of the steps in which the expert acts instead of the learner: 1 in the first
        data, beta_decay in the next, then beta_decay ** 2, ...; 0 (default): the learner always
        acts after the first data.
    betas: these shares as a list, starting with 1; the last one stays.
    """
    name = algos.name_of(algorithm)
    seeds = as_seeds(seeds)
    iterations = as_count("iterations", iterations)
    episodes = as_count("episodes", episodes, high=MAX_RECORDED)
    shared: dict[str, Any] = {
        "algorithm": name, "episodes": episodes, "folder": as_path(out),
        "progress": as_flag("progress", progress),
        "fields": {key: plain(value) for key, value in fields.items()},
    }  # fmt: skip
    trained = DAgger.learner if name == algos.DAGGER else name
    settings = _settings(trained, shared["fields"], seeds)
    experiment: Experiment
    if name == algos.DAGGER:
        shared["schedule"] = Schedule.of(beta_decay, betas)
        experiment = _dagger(expert, seed_background, env_id, env_kwargs, shared)
    else:
        if beta_decay or betas is not None:
            raise TypeError(f"{name} has no beta_decay and no betas; only dagger has them")
        experiment = _improvement(expert, seed_background, env_id, env_kwargs, shared)
    if executor is not None:
        _check_names(experiment)
    describe(experiment.env)
    given = experiment.demos if isinstance(experiment, DAgger) else experiment.start
    if given is not None:  # before the plan, which would hold the folder for these arguments
        settings.check_data(given)
        env_notes(experiment.env, given)
    refuse_run(experiment.folder)
    with folder_lock(experiment.folder):
        path, plan = experiment.folder / "plan.json", plan_of(experiment, seeds)
        is_new = not path.exists()
        if not is_new:
            recorded = read_json(path)
            if isinstance(recorded, dict) and "env_kwargs" not in recorded:
                del plan["env_kwargs"]  # folders of earlier versions do not state it
            keep_plan(path, plan)
        experiment.begin(is_new)
        keep_plan(path, plan)  # only now, so that an expert that fails at once leaves no plan
        if executor is None:
            return run_iterations(experiment, iterations, seeds)
        with folder_lease(experiment.folder), opened(executor):
            experiment.keep_start()
            return run_iterations(experiment, iterations, seeds, executor)


def _settings(algorithm: str, fields: dict[str, Any], seeds: Sequence[int]) -> Settings:
    """The settings of each run.

    Raises TypeError or ValueError where they fit no dataset, and for several values of a field.
    """
    overrides = {name: value for name, value in fields.items() if name not in PASSED_ON}
    given_fields(algorithm, fields.get("preset", "vfo"), overrides, ARGUMENTS)
    settings = settings_of(algorithm, fields | {"seeds": seeds})
    for name in overrides:
        values = {getattr(member.config, name): None for member in settings.members}
        if len(values) > 1:
            raise ValueError(
                f"{name}: expected one value, found {[*values]}; each seed trains one policy"
            )
    return settings


def _improvement(
    expert: Any, seed_background: Any, env_id: Any, env_kwargs: Any, shared: dict[str, Any]
) -> Experiment:
    """The iterations of a method that learns from its own episodes."""
    if seed_background is None:
        raise ValueError(
            "seed_background: expected a dataset whose background the first iteration learns from, "
            "found none (--background)"
        )
    demonstrations, start = _datasets([expert, seed_background], shared["progress"])
    demos = (demonstrations.expert or demonstrations.background).without_rewards()
    start = dataclasses.replace(start, expert=demos, env_id=start.env_id or demonstrations.env_id)
    env = _require_env(choose_env(start, env_id, env_kwargs))
    return Experiment(env=env, start=start, **shared)


def _dagger(
    expert: Any, demos: Any, env_id: Any, env_kwargs: Any, shared: dict[str, Any]
) -> DAgger:
    """The iterations of DAgger."""
    if (source := shared["fields"].get("source", "background")) != "background":
        raise ValueError(
            f"source: expected 'background', because dagger labels it all, found {source!r}"
        )
    given = None
    if demos is not None:
        (dataset,) = _datasets([demos], shared["progress"])
        given = dagger.demonstrations(dataset)
        env = choose_env(given, env_id, env_kwargs)
    else:
        env = env_of(expert) if env_id is None else as_spec(env_id, kwargs=env_kwargs)
    return DAgger(env=_require_env(env), start=None, expert=expert, demos=given, **shared)


def _require_env(env: EnvSpec | None) -> EnvSpec:
    if env is None:
        raise ValueError(
            "env_id: expected the name of an environment, found none; pass it, or data that state "
            "it (--env-id)"
        )
    return env


def _check_names(experiment: Experiment) -> None:
    """Raises ValueError for functions and objects that other processes do not have."""
    given: list[tuple[str, Any]] = [("env_id", experiment.env.make)]
    if isinstance(experiment, DAgger) and not isinstance(experiment.expert, str | Path):
        given.append(("expert", experiment.expert))
    for name, value in given:
        if value is not None:
            raise ValueError(
                f"{name}: expected a name that other processes can import, found a function, class "
                "or object; pass 'module:function'"
            )


def _datasets(given: Sequence[Dataset | str | Path], progress: bool) -> list[Dataset]:
    """Reads datasets; prints what was changed when they were read."""
    loaded = [
        each if isinstance(each, Dataset) else load(each, progress=progress) for each in given
    ]
    for each in loaded:
        each.verify()
    if progress:
        report_notes(loaded[::-1])
    return loaded
