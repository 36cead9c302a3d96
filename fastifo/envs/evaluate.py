"""Evaluation: returns of policies from the same start states."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastifo.envs.act import Actor
from fastifo.envs.recording import RolloutTime
from fastifo.envs.returns import Returns
from fastifo.envs.rollout import rollout
from fastifo.envs.spec import EnvSpec, as_spec


def evaluate_policies(
    policies: Sequence[Actor],
    env: str | EnvSpec,
    num_episodes: int,
    deterministic: bool,
    *,
    seed: int = 0,
    num_workers: int = 0,
    progress: bool = True,
) -> Returns:
    """Plays every policy from the same `num_episodes` start states.

    Returns one row per policy. For the arguments and errors see `rollout`.
    """
    spent = RolloutTime()
    played = rollout(
        policies,
        env,
        num_episodes,
        deterministic,
        seed=seed,
        record=False,
        num_workers=num_workers,
        progress=progress,
        spent=spent,
    )
    return Returns(
        returns=np.stack([episodes.returns for episodes in played.episodes]),
        lengths=np.stack([episodes.lengths for episodes in played.episodes]),
        env_id=as_spec(env).id,
        deterministic=deterministic,
        versions=played.versions,
        successes=_successes([episodes.success for episodes in played.episodes]),
        clock=spent,
        strips=tuple(episodes.strips[0] for episodes in played.episodes),
    )


def _successes(values: Sequence[Any]) -> Any:
    """[P, E]; None where the environment never said."""
    successes = np.stack(values)
    return None if np.isnan(successes).all() else successes
