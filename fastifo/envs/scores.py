"""D4RL-normalized scores of returns.

A score is valid only for the rewards and the time limit of the reference returns. Version 5 of the
locomotion tasks and the successors of D4RL's maze and kitchen tasks (`REPLACED`) differ in
these and get no score, unless a dataset states its own reference returns, as Minari's do. Scores of
Adroit are approximate: the rewards of its tasks changed after D4RL (`APPROXIMATE`).
"""

from collections.abc import Sequence

# (random, expert): the D4RL score of a return is 100 * (return - random) / (expert - random).
# Source: D4RL (Fu et al. 2020, arXiv:2004.07219), v2 tasks, Adroit v1. Versions 3 and 4 of the
# locomotion tasks have the same rewards; version 5 changed those of most tasks and has no scores.
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
D4RL_RETURNS = {  # start of D4RL's own name of a task, such as maze2d-umaze-v1
    "halfcheetah": REFERENCE_RETURNS["HalfCheetah"],
    "hopper": REFERENCE_RETURNS["Hopper"],
    "walker2d": REFERENCE_RETURNS["Walker2d"],
    "ant": REFERENCE_RETURNS["Ant"],
    "pen": REFERENCE_RETURNS["AdroitHandPen"],
    "door": REFERENCE_RETURNS["AdroitHandDoor"],
    "hammer": REFERENCE_RETURNS["AdroitHandHammer"],
    "relocate": REFERENCE_RETURNS["AdroitHandRelocate"],
    "maze2d-umaze": (23.85, 161.86),  # sparse rewards; those of the dense tasks are others
    "maze2d-medium": (13.13, 277.39),
    "maze2d-large": (6.7, 273.99),
    "antmaze": (0.0, 1.0),
    "kitchen": (0.0, 4.0),
}
REPLACED = {  # start of a name: why D4RL's reference returns do not apply
    "PointMaze": "maze2d had other time limits, and rewards that went on at the goal",
    "AntMaze": "antmaze had other time limits and another ant",
    "FrankaKitchen": "kitchen had other dynamics and counted rewards in another way",
    "maze2d": "they are of the mazes umaze, medium and large with sparse rewards",
}
APPROXIMATE = {  # start of a name: how the task differs from D4RL's
    "AdroitHandPen": "D4RL's pen had 100 steps",
    "AdroitHand": "the dense rewards of door, hammer and relocate have changed",
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
    """Why a task of D4RL gets no score, or only an approximate one; empty for all others."""
    if reference:
        return ""
    if _reference(env_id):
        reasons = [reason for start, reason in APPROXIMATE.items() if env_id.startswith(start)]
        return f"the score of {env_id} is approximate: {reasons[0]}" if reasons else ""
    for start, reason in REPLACED.items():
        if env_id.startswith(start):
            return f"no score for {env_id}: D4RL's reference returns do not apply; {reason}"
    name = env_id.partition("-")[0]
    if name not in REFERENCE_RETURNS:
        return ""
    return (
        f"no score for {env_id}: D4RL's reference returns are of versions up to v{NEWEST} of {name}"
    )


def _reference(env_id: str) -> tuple[float, float] | None:
    """D4RL's reference returns of a task."""
    name, _, version = env_id.partition("-v")
    is_newer = version.isdecimal() and int(version) > NEWEST
    if name in REFERENCE_RETURNS:
        return None if is_newer else REFERENCE_RETURNS[name]
    if "dense" in env_id:
        return None
    words = env_id.split("-")
    return D4RL_RETURNS.get(words[0]) or D4RL_RETURNS.get("-".join(words[:2]))
