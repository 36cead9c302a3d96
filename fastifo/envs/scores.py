"""D4RL's normalized scores of returns."""

from collections.abc import Sequence

# (random, expert): the D4RL score of a return is 100 * (return - random) / (expert - random).
# Source: D4RL (Fu et al. 2020, arXiv:2004.07219), v2 tasks, Adroit v1. Versions 3 and 4 of the
# locomotion tasks have the same rewards; version 5 changed those of most tasks and has no scores.
# The rewards of Adroit's door, hammer and relocate differ in later versions.
REFERENCE_RETURNS = {
    "HalfCheetah": (-280.178953, 12135.0),
    "Hopper": (-20.272305, 3234.3),
    "Walker2d": (1.629008, 4592.3),
    "Ant": (-325.6, 3879.7),
    "AdroitHandPen": (96.262799, 3076.8331017826877),
    "AdroitHandDoor": (-56.512833, 2880.5693087298737),
    "AdroitHandHammer": (-274.856578, 12794.134825156867),
    "AdroitHandRelocate": (-6.425911, 4233.877797728884),
}
NEWEST = 4  # version of a task to which the reference returns apply


def normalized_score(
    env_id: str, return_: float, reference: Sequence[float] | None = None
) -> float | None:
    """The score of an undiscounted return; None where there is no reference for the task.

    reference: returns of scores 0 and 100; by default D4RL's for the task.
    """
    pair = reference or _reference(env_id)
    return None if pair is None else 100.0 * (return_ - pair[0]) / (pair[1] - pair[0])


def score_remark(env_id: str, reference: Sequence[float] | None = None) -> str:
    """Why a task that D4RL has returns for gets no score; empty where it gets one, or has none."""
    name = env_id.partition("-")[0]
    if reference or _reference(env_id) or name not in REFERENCE_RETURNS:
        return ""
    return (
        f"no score for {env_id}: D4RL's reference returns are of versions up to v{NEWEST} of {name}"
    )


def _reference(env_id: str) -> tuple[float, float] | None:
    """D4RL's reference returns of a task."""
    name, _, version = env_id.partition("-v")
    is_newer = version.isdecimal() and int(version) > NEWEST
    return None if is_newer else REFERENCE_RETURNS.get(name)
