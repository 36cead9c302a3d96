"""Returns of a run's members: from episodes played now, or logged during training."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.engine.checkpoint import checked_metrics
from fastifo.envs.envpool import versions
from fastifo.envs.policy import Policy
from fastifo.envs.returns import MEAN_OF, Returns, evaluate_policies


def evaluate_members(
    policies: Sequence[Policy | None],
    env_id: str,
    num_episodes: int,
    deterministic: bool,
    *,
    seed: int,
    env_kwargs: Mapping[str, Any],
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
        env_id,
        num_episodes,
        deterministic,
        seed=seed,
        env_kwargs=env_kwargs,
        progress=progress,
    )
    returns = np.full((len(policies), num_episodes), np.nan)
    lengths = np.zeros((len(policies), num_episodes), np.int64)
    returns[alive], lengths[alive] = played.returns, played.lengths
    return dataclasses.replace(played, returns=returns, lengths=lengths)


def logged_returns(
    folder: Path | None,
    env_id: str,
    members: Sequence[int],
    deterministic: bool,
    updates_done: int,
) -> Returns:
    """Mean returns that `EvaluateEvery` logged in the last tenth of training, [P, evaluations].

    Members that diverged have nan where they were not evaluated.
    Raises ValueError if none were logged.
    """
    name, first = MEAN_OF[deterministic], 0.9 * updates_done
    rows = [] if folder is None else checked_metrics(folder)
    means = {
        (row["member"], row["update"]): row[name]
        for row in rows
        if name in row and row["update"] > first
    }
    updates = sorted({update for _, update in means})
    if not updates:
        raise ValueError(
            "protocol: last_tenth averages the evaluations logged by EvaluateEvery after update "
            f"{first:.0f}; the run has none. Train into a folder with "
            f"callbacks=[EvaluateEvery(..., deterministic={deterministic})]"
            + ("" if deterministic else " or --eval-every")
        )
    values = [[means.get((member, update)) for update in updates] for member in members]
    returns = np.array([[np.nan if x is None else x for x in row] for row in values])
    return Returns(
        returns=returns,
        lengths=np.zeros(returns.shape, np.int64),
        env_id=env_id,
        deterministic=deterministic,
        versions=versions(),
        num_updates=updates_done,
    )
