"""Returns of a run's members: from episodes played now, or logged during training."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastifo.engine.checkpoint import checked_metrics
from fastifo.envs.evaluate import evaluate_policies
from fastifo.envs.policy import Policy
from fastifo.envs.registry import describe
from fastifo.envs.returns import LOGGED_SHARE, MEAN_OF, Returns
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
        raise ValueError("evaluate: every member diverged in training; there is nothing to play")
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
    return dataclasses.replace(played, returns=returns, lengths=lengths, successes=successes)


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
    name, first = MEAN_OF[deterministic], (1.0 - LOGGED_SHARE[protocol]) * updates_done
    rows = [] if folder is None else checked_metrics(folder)
    means = {
        (row["member"], row["update"]): row[name]
        for row in rows
        if name in row and row["update"] > first
    }
    updates = sorted({update for _, update in means})
    if not updates:
        raise ValueError(
            f"protocol: {protocol} averages the evaluations logged by EvaluateEvery after update "
            f"{first:.0f}; the run has none. Train into a folder with "
            f"callbacks=[EvaluateEvery(..., deterministic={deterministic})]"
            + ("" if deterministic else " or --eval-every")
        )
    values = [[means.get((member, update)) for update in updates] for member in members]
    returns = np.array([[np.nan if x is None else x for x in row] for row in values])
    return Returns(
        returns=returns,
        lengths=np.zeros(returns.shape, np.int64),
        env_id=env.id,
        deterministic=deterministic,
        versions=_versions(env),
        num_updates=updates_done,
    )


def _versions(env: EnvSpec) -> dict[str, str]:
    """Versions of the environment's packages; empty where they are not installed here."""
    try:
        return dict(describe(env).versions)
    except (ValueError, TypeError, ImportError):
        return {}
