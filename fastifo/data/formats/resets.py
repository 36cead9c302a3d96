"""Traces that automatically resetting environments leave in `next_observations`.

Such an environment resets itself when an episode ends. If it does so in the same step, the next
observation of an episode's last row is the next episode's first. If it does so in the next step, a
row follows that leads from the final observation to the next episode's first, with an action that
was ignored. Both give the last row a next observation equal to the next row's observation.
"""

import numpy as np

from fastifo.data.formats.source import Bools, Floats, Ints


def _continues(obs: Floats, next_obs: Floats, ends: Ints, tolerance: float) -> Bools:
    """[len(ends)], whether the next observation of an end is the next row's observation."""
    after = np.minimum(ends + 1, len(obs) - 1)
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(next_obs[ends] - obs[after]) > tolerance * (1 + np.abs(obs[after]))
    gap |= np.isnan(obs[after]) & ~np.isnan(next_obs[ends])  # a damaged row; not a filler
    return np.asarray(~gap.any(1) & (ends + 1 < len(obs)))


def reset_rows(
    obs: Floats, next_obs: Floats, last: Bools, reward: Floats | None, tolerance: float
) -> Bools:
    """[N], whether a row only records the reset of an environment in the step after an end.

    These rows follow every end, have a reward of 0 and are no ends; and they jump further than the
    ends do: an end's own step is an ordinary one.
    """
    rows = np.zeros(len(obs), bool)
    ends = np.flatnonzero(last[:-1])
    after = ends + 1
    if len(ends) == 0 or not _continues(obs, next_obs, ends, tolerance).all():
        return rows
    if last[after].any() or (reward is not None and (reward[after] != 0).any()):
        return rows
    scale = obs.std(0) + 1e-12
    with np.errstate(invalid="ignore", over="ignore"):
        at_end = np.abs((next_obs[ends] - obs[ends]) / scale).sum(1)
        afterwards = np.abs((next_obs[after] - obs[after]) / scale).sum(1)
    rows[after] = bool(np.median(afterwards) > np.median(at_end))
    return rows


def known_next_obs(obs: Floats, next_obs: Floats, ends: Ints, tolerance: float) -> Bools:
    """[N], whether a next observation is the episode's own, and not the next episode's first.

    ends: rows that the file marks as last.  If all of these but that of the file's last row are
    the next episode's, the last row's is taken to be another episode's too.
    """
    known = np.ones(len(obs), bool)
    continues = _continues(obs, next_obs, ends, tolerance)
    known[ends[continues]] = False
    inside = ends + 1 < len(obs)
    if inside.any() and not inside.all() and continues[inside].all():
        known[-1] = False
    return known


def filled_next_obs(obs: Floats, next_obs: Floats, ends: Ints) -> Bools:
    """[N], whether the next observations of ends are fillers: they are all the same, as with zeros,
    or all repeat the observation of their own row, while other rows' do not.

    ends: rows that the file marks as last.
    """
    filled = np.zeros(len(obs), bool)
    if len(ends) < 2:
        return filled
    others = np.ones(len(obs), bool)
    others[ends] = False
    same = bool((next_obs[ends] == next_obs[ends[0]]).all())
    differ = bool((obs[ends] != obs[ends[0]]).any())
    repeated = bool((next_obs[ends] == obs[ends]).all())
    moves = (next_obs[others] != obs[others]).any(1)
    filled[ends] = (same and differ) or (repeated and bool(moves.mean() > 0.5 if len(moves) else 0))
    return filled
