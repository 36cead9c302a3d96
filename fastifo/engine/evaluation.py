"""Returns of a run's members: from episodes played now, or logged during training."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.engine.checkpoint import checked_metrics
from fastifo.envs.evaluate import evaluate_policies
from fastifo.envs.policy import Policy
from fastifo.envs.registry import describe
from fastifo.envs.returns import LOGGED_SHARE, MEAN_OF, SUCCESS_OF, Returns
from fastifo.envs.spec import EnvSpec


def evaluate_members(
    policies: Sequence[Policy | None],
    env: EnvSpec,
    num_episodes: int,
    deterministic: bool,
    *,
    seed: int,
    num_workers: int,
    progress: bool,
) -> Returns:
    """Plays every policy; None stands for a member that diverged and has nan returns.

    Raises ValueError if no policy is left.
    """
    alive = [index for index, policy in enumerate(policies) if policy is not None]
    if not alive:
        raise ValueError("evaluate: every member diverged in training; no policy is left")
    played = evaluate_policies(
        [policy for policy in policies if policy is not None],
        env,
        num_episodes,
        deterministic,
        seed=seed,
        num_workers=num_workers,
        progress=progress,
    )
    returns = np.full((len(policies), num_episodes), np.nan)
    lengths = np.zeros((len(policies), num_episodes), np.int64)
    returns[alive], lengths[alive] = played.returns, played.lengths
    successes = None
    if played.successes is not None:
        successes = np.full(returns.shape, np.nan)
        successes[alive] = played.successes
    found = dict(zip(alive, played.strips, strict=True))
    strips = tuple(found.get(index, []) for index in range(len(policies)))
    return dataclasses.replace(
        played, returns=returns, lengths=lengths, successes=successes, strips=strips
    )


def logged_returns(
    folder: Path | None,
    env: EnvSpec,
    members: Sequence[int],
    deterministic: bool,
    updates_done: int,
    protocol: str,
) -> Returns:
    """Mean returns that `EvaluateEvery` logged at the end of training, [P, evaluations].

    protocol: a key of LOGGED_SHARE; the share of training that counts.
    Members that diverged have nan where they were not evaluated.
    Raises ValueError if none were logged.
    """
    first = (1.0 - LOGGED_SHARE[protocol]) * updates_done
    logged = [] if folder is None else checked_metrics(folder)
    rows = [row for row in logged if row["update"] > first]
    returns = _logged_table(rows, MEAN_OF[deterministic], members)
    if not returns.size:
        raise ValueError(
            f"protocol: {protocol} averages the evaluations logged by EvaluateEvery after update "
            f"{first:.0f}; the run has none. Train into a folder with "
            f"callbacks=[EvaluateEvery(..., deterministic={deterministic})]"
            + ("" if deterministic else " or --eval-every")
        )
    rates = _logged_table(rows, SUCCESS_OF[deterministic], members)
    return Returns(
        returns=returns,
        lengths=np.zeros(returns.shape, np.int64),
        env_id=env.id,
        deterministic=deterministic,
        versions=_versions(env),
        num_updates=updates_done,
        successes=rates if rates.shape == returns.shape else None,
    )


def _logged_table(
    rows: Sequence[dict[str, Any]], name: str, members: Sequence[int]
) -> NDArray[np.float64]:
    """A logged value by member and update, [P, evaluations]; nan where it is missing."""
    values = {(row["member"], row["update"]): row[name] for row in rows if name in row}
    updates = sorted({update for _, update in values})
    table = [[values.get((member, update)) for update in updates] for member in members]
    return np.array([[np.nan if x is None else x for x in row] for row in table])


def _versions(env: EnvSpec) -> dict[str, str]:
    """Versions of the environment's packages; empty where they are not installed here."""
    try:
        return dict(describe(env).versions)
    except (ValueError, TypeError, ImportError):
        return {}
