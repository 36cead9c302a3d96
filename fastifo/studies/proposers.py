"""Where the settings of a sweep come from: a grid, random draws, or TPE by optuna."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastifo.studies.space import (
    Choice,
    Integers,
    LogUniform,
    Setting,
    Space,
    grid_settings,
    random_settings,
)

PROPOSERS = ("random", "grid", "tpe")
TPE_WAVES = 4  # of a sweep by TPE that does not state how many


@dataclass(frozen=True)
class Outcome:
    """What became of a setting of an earlier wave."""

    setting: Setting
    num_updates: int  # at its last evaluation
    return_: float  # mean at its last evaluation; nan if it diverged
    is_complete: bool  # it reached the last rung


def propose(
    proposer: str, space: Space, indices: Sequence[int], seed: int, history: Sequence[Outcome]
) -> list[Setting]:
    """Settings to try next, one for each index.

    indices: numbers of the settings within the sweep.  history: outcomes of earlier waves, for TPE.
    The same arguments give the same settings.
    Raises ValueError where the space is no grid; ImportError naming the extra to install.
    """
    if proposer == "grid":
        settings = grid_settings(space)
        return [settings[index] for index in indices]
    if proposer == "random" or not history:
        return random_settings(space, indices, seed)
    return _tpe_settings(space, indices, seed, history)


def require_optuna() -> Any:
    """The module.  Raises ImportError naming the extra to install."""
    try:
        import optuna
    except ImportError:
        raise ImportError(
            "proposer: optuna is not installed; pip install 'fastifo[optuna]'"
        ) from None
    return optuna


def _tpe_settings(
    space: Space, indices: Sequence[int], seed: int, history: Sequence[Outcome]
) -> list[Setting]:
    """Tree-structured Parzen estimator; a wave's settings are proposed together.

    Source: Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization, NeurIPS.
    """
    optuna = require_optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # options that optuna calls experimental
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=1, multivariate=True, constant_liar=True, seed=seed + indices[0]
            )
            study = optuna.create_study(direction="maximize", sampler=sampler)
            distributions = {name: _distribution(optuna, d) for name, d in space.items()}
            for outcome in history:
                study.add_trial(_trial(optuna, space, distributions, outcome))
            found = [study.ask(distributions).params for _ in indices]
    finally:
        optuna.logging.set_verbosity(before)
    return [{name: _value(space[name], params[name]) for name in space} for params in found]


def _distribution(optuna: Any, distribution: Any) -> Any:
    kinds = optuna.distributions
    if isinstance(distribution, Choice):  # by number: optuna has no choices that are lists
        return kinds.CategoricalDistribution(range(len(distribution.values)))
    if isinstance(distribution, Integers):
        return kinds.IntDistribution(distribution.low, distribution.high)
    is_log = isinstance(distribution, LogUniform)
    return kinds.FloatDistribution(distribution.low, distribution.high, log=is_log)


def _trial(optuna: Any, space: Space, distributions: dict[str, Any], outcome: Outcome) -> Any:
    states = optuna.trial.TrialState
    params = {
        name: d.values.index(outcome.setting[name]) if isinstance(d, Choice)
        else outcome.setting[name]
        for name, d in space.items()
    }  # fmt: skip
    is_complete = outcome.is_complete and outcome.return_ == outcome.return_
    return optuna.trial.create_trial(
        state=states.COMPLETE if is_complete else states.PRUNED,
        params=params,
        distributions=distributions,
        value=outcome.return_ if is_complete else None,
        intermediate_values={outcome.num_updates: outcome.return_},
    )


def _value(distribution: Any, value: Any) -> Any:
    if isinstance(distribution, Choice):
        return distribution.values[value]
    if isinstance(distribution, Integers):
        return int(value)
    rounded = float(f"{value:.6g}")
    return min(max(rounded, distribution.low), distribution.high)
