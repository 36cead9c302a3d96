"""Turns the rows of a file in another format into episodes: what is kept, dropped and refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastifo.data.episodes import Episodes
from fastifo.data.formats.ends import Ends
from fastifo.data.formats.finish import LARGEST_OBSERVATION, finish
from fastifo.data.formats.resets import filled_next_obs, known_next_obs, reset_rows
from fastifo.data.formats.source import Bools, Floats, Ints, ReadResult, Source

TOLERANCE = 1e-5  # relative, between a next observation and the next row's observation
LARGEST_CUT_SHARE = 0.5  # of the rows; a file whose next observations differ at more is refused


@dataclass(frozen=True)
class _Layout:
    """Which rows of a flat file form which of the E episodes."""

    first: Ints  # [E], first row of each episode
    last: Ints  # [E], last row of each episode, kept or not
    length: Ints  # [E], number of transitions kept; they are the first ones of the episode

    @property
    def start(self) -> Ints:
        """First transition of each episode among those kept, [E + 1]."""
        return np.concatenate([[0], self.length.cumsum()])

    @property
    def final(self) -> Ints:
        """Row of the last transition kept of each episode, [E]."""
        return self.first + self.length - 1


def concatenate_columns(path: Path, name: str, parts: Sequence[Floats]) -> Floats:
    """Several columns with the same rows as one column, [rows, sum of widths].

    path, name: of the file and the column, for errors.
    parts: [rows] or [rows, width] each.  Raises ValueError for other shapes.
    """
    if any(part.ndim not in (1, 2) or len(part) != len(parts[0]) for part in parts):
        shapes = [part.shape for part in parts]
        raise ValueError(f"{path}: {name}: expected vectors with a row per step, found {shapes}")
    return np.concatenate([as_vectors(part) for part in parts], 1)


def as_vectors(rows: Floats) -> Floats:
    """A number in each row as a vector of one, [N, 1]; other arrays as they are."""
    return rows[:, None] if rows.ndim == 1 else rows


def from_rows(
    source: Source,
    obs: Floats,
    ends: Ends,
    *,
    next_obs: Floats | None = None,
    action: Floats | None = None,
    reward: Floats | None = None,
) -> ReadResult:
    """Episodes from N transitions stored end to end, one observation per row.

    source: the file, and the user's options.
    obs: [N, D].
    ends: of the episodes, as far as the file marks them.
    next_obs: [N, D]. Where it is missing or the next episode's, the next observation of an
        episode's last row is unknown: the row is dropped, or, if it is terminal, kept with its own
        observation as the next one, which nothing bootstraps from.
    action: [N, A] or [N].  reward: [N].
    Raises ValueError naming the file and the column for wrong shapes and damaged values.
    """
    action = None if action is None else as_vectors(action)
    columns = {"observations": obs, "actions": action, "next_observations": next_obs}
    _check_shapes(source, columns, reward)
    notes, count = dict(ends.notes), len(obs)
    original = np.arange(count)  # row of the file
    last, terminal = ends.last | ends.terminal, ends.terminal
    if next_obs is not None:
        extra = reset_rows(obs, next_obs, last, reward, TOLERANCE)
        if extra.any():
            notes["rows dropped that only record the reset after an episode"] = int(extra.sum())
            obs, next_obs, original = obs[~extra], next_obs[~extra], original[~extra]
            last, terminal = last[~extra], terminal[~extra]
            action = None if action is None else action[~extra]
            reward = None if reward is None else reward[~extra]
    layout, known = _layout(source, obs, next_obs, last, terminal, notes)
    layout = _first_episodes(source, layout)
    start = layout.start
    step = np.repeat(layout.first - start[:-1], layout.length) + np.arange(start[-1])  # rows kept
    is_terminal = terminal[layout.final]
    final = np.minimum(layout.final + 1, layout.last)  # row of the final observation
    final_rows = np.where(known[layout.final], count + original[layout.final], original[final])
    final_obs = obs[final]
    if next_obs is not None:
        final_obs = np.where(known[layout.final, None], next_obs[layout.final], final_obs)
    episodes = Episodes(
        obs=torch.from_numpy(_with_final(obs[step], final_obs, layout).astype(np.float32)),
        start=torch.from_numpy(start),
        terminal=_at_end(start, is_terminal),
        timeout=_at_end(start, ~is_terminal),
        action=None if action is None else torch.from_numpy(action[step]),
        reward=None if reward is None else torch.from_numpy(reward[step]),
    )
    return finish(source, episodes, notes, _with_final(original[step], final_rows, layout))


def check_rows(path: Path, obs: Floats) -> int:
    """The number of rows of the observations.  Raises ValueError if there are none."""
    if obs.ndim == 0 or len(obs) == 0:
        raise ValueError(f"{path}: expected one or more rows of observations, found {obs.shape}")
    return len(obs)


def _check_shapes(source: Source, columns: dict[str, Floats | None], reward: Floats | None) -> None:
    obs, next_obs = columns["observations"], columns["next_observations"]
    assert obs is not None
    count = check_rows(source.path, obs)
    for name, rows in columns.items():
        if rows is not None and (rows.ndim != 2 or len(rows) != count or 0 in rows.shape):
            raise source.error(f"{name}: expected ({count}, width), found {rows.shape}")
    if reward is not None and reward.shape != (count,):
        raise source.error(f"rewards: expected ({count},), found {reward.shape}")
    if next_obs is not None and next_obs.shape != obs.shape:
        raise source.error(f"next_observations: expected {obs.shape}, found {next_obs.shape}")


def _layout(
    source: Source,
    obs: Floats,
    next_obs: Floats | None,
    last: Bools,
    terminal: Bools,
    notes: dict[str, int],
) -> tuple[_Layout, Bools]:
    """The episodes that have a transition to keep, and [N] where next observations are known."""
    flagged = np.flatnonzero(last)
    ends = np.flatnonzero(_last_rows(source, obs, next_obs, last, notes))
    first = np.concatenate([[0], ends[:-1] + 1])
    known = np.zeros(len(obs), bool)
    if next_obs is not None:
        known = known_next_obs(obs, next_obs, flagged, TOLERANCE)
        notes["next observations dropped that are the next episode's first"] = int(
            (~known[ends]).sum()
        )
        filled = filled_next_obs(obs, next_obs, flagged) & known
        notes["next observations dropped that are fillers"] = int(filled.sum())
        known &= ~filled
    kept = np.ones(len(obs), dtype=bool)
    kept[ends] = terminal[ends] | known[ends]
    unknown = ~known[ends]
    notes["transitions dropped for lack of a next observation"] = int((~kept[ends]).sum())
    notes["terminal transitions with the observation repeated as the next"] = int(
        (unknown & terminal[ends]).sum()
    )
    length = np.add.reduceat(kept, first)
    notes["episodes dropped for lack of a transition"] = int((length == 0).sum())
    nonempty = length > 0
    return _Layout(first[nonempty], ends[nonempty], length[nonempty]), known


def _last_rows(
    source: Source, obs: Floats, next_obs: Floats | None, last: Bools, notes: dict[str, int]
) -> Bools:
    """[N], whether a row is the last of its episode: it is flagged, or the next row jumps.

    Raises ValueError if the next observations contradict the order of the rows, or the flags.
    """
    flagged, last = np.flatnonzero(last[1:]) + 1, last.copy()
    notes["episodes cut by the end of the file"] = int(not last[-1])
    last[-1] = True
    if next_obs is not None:
        with np.errstate(invalid="ignore", over="ignore"):  # values are checked later
            gap = np.abs(next_obs[:-1] - obs[1:]) > TOLERANCE * (1 + np.abs(obs[1:]))
        jumps = gap.any(1) & ~last[:-1]
        undamaged = (np.abs(obs[1:]) <= LARGEST_OBSERVATION).all(1)  # others are reported later
        contradicting = jumps & undamaged
        if contradicting.sum() > LARGEST_CUT_SHARE * len(jumps):
            raise source.error(
                f"next_observations: in {int(jumps.sum())} of {len(jumps)} rows that end no "
                "episode they differ from the next row's observation: they are those of other "
                "rows, or on another scale than the observations. If the rows are in random order, "
                "say ,ends=rows: each row is then an episode of its own"
            )
        if len(flagged) > 1 and bool(contradicting[flagged - 1].all()):
            raise source.error(
                f"ends of episodes: expected in the last row of each, found all {len(flagged)} of "
                "them one row later, in the first row of the next episode; move these columns by "
                "one row"
            )
        notes["episodes cut where the next observation differs from the next row's"] = int(
            jumps.sum()
        )
        last[:-1] |= jumps
    return last


def _first_episodes(source: Source, layout: _Layout) -> _Layout:
    """The first `source.options.episodes` episodes, all of them if it is 0."""
    count, found = source.options.episodes, len(layout.length)
    if found == 0:
        raise source.error("expected one or more transitions, found none that can be kept")
    check_count(source, found)
    part = slice(0, count or None)
    return _Layout(layout.first[part], layout.last[part], layout.length[part])


def check_count(source: Source, found: int) -> None:
    """Raises ValueError if the user asks for more episodes than the file has."""
    if source.options.episodes > found:
        raise source.error(
            f"episodes: expected at most {found}, the file's number of episodes, found "
            f"{source.options.episodes}"
        )


def _with_final(values: NDArray[Any], final: NDArray[Any], layout: _Layout) -> NDArray[Any]:
    """Values of the N rows kept, each episode's followed by its final one, [N + E, ...].

    values: [N, ...].  final: [E, ...].
    """
    start = layout.start
    row = start + np.arange(len(start))  # [E + 1], first row of each episode in the result
    result = np.empty((row[-1], *values.shape[1:]), values.dtype)
    result[np.repeat(row[:-1] - start[:-1], layout.length) + np.arange(start[-1])] = values
    result[row[1:] - 1] = final
    return result


def from_whole_episodes(
    source: Source,
    obs: list[Floats],
    terminal: list[bool],
    action: list[Floats] | None,
    reward: list[Floats] | None,
    notes: dict[str, int],
) -> ReadResult:
    """Episodes from E episodes with one observation more than transitions.

    obs: [T + 1, D] each.  action: [T, A] or [T] each.  reward: [T] each; None where the file has
    none.
    terminal: [E], whether the task ended with an episode's last transition.
    Raises ValueError naming the file for damaged values.
    """
    start = np.concatenate([[0], np.cumsum([len(rows) - 1 for rows in obs])])
    is_terminal = np.array(terminal, bool)
    episodes = Episodes(
        obs=torch.from_numpy(np.concatenate(obs)),
        start=torch.from_numpy(start),
        terminal=_at_end(start, is_terminal),
        timeout=_at_end(start, ~is_terminal),
        action=None if action is None else torch.from_numpy(as_vectors(np.concatenate(action))),
        reward=None if reward is None else torch.from_numpy(np.concatenate(reward)),
    )
    return finish(source, episodes, notes, np.arange(len(episodes.obs)))


def _at_end(start: Ints, flag: Bools) -> torch.Tensor:
    """[N] bool: the flag of each episode at its last transition, False elsewhere."""
    column = np.zeros(start[-1], dtype=bool)
    column[start[1:] - 1] = flag
    return torch.from_numpy(column)
