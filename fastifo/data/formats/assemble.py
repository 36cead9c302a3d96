"""Turns the rows of a file in another format into episodes: what is kept, dropped and refused."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fastifo.data.episodes import Episodes

LARGEST_OBSERVATION, LARGEST_ACTION = 1e8, 10.0  # a file with larger values is damaged
TOLERANCE = 1e-5  # relative, between a next observation and the next row's observation

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ReadResult:
    """The episodes of one file, and what was changed when they were read."""

    episodes: Episodes
    env_id: str | None = None  # EnvPool's name, if the file or its name tells
    notes: dict[str, int] = field(default_factory=dict)  # change -> how often it was made


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
    return np.concatenate([part[:, None] if part.ndim == 1 else part for part in parts], 1)


def from_rows(
    path: Path,
    obs: Floats,
    last: Bools,
    terminal: Bools,
    *,
    next_obs: Floats | None = None,
    action: Floats | None = None,
    reward: Floats | None = None,
    env_id: str | None = None,
) -> ReadResult:
    """Episodes from N transitions stored end to end, one observation per row.

    path: the file, for errors.
    obs: [N, D].
    last: [N], whether a row is the last of its episode.
    terminal: [N], whether the task ended with a row.
    next_obs: [N, D]. Without it, the next observation of an episode's last row is unknown: the row
        is dropped, or, if it is terminal, kept with its own observation as the next one, which
        nothing bootstraps from.
    action: [N, A].  reward: [N].
    Raises ValueError naming the file and the column for wrong shapes and damaged values.
    """
    _check_shapes(path, obs, last, terminal, next_obs, action, reward)
    notes: dict[str, int] = {}
    layout = _layout(obs, next_obs, last | terminal, terminal, notes)
    if len(layout.length) == 0:
        raise ValueError(f"{path}: expected one or more transitions, found none that can be kept")
    start = layout.start
    step = np.repeat(layout.first - start[:-1], layout.length) + np.arange(start[-1])  # rows kept
    is_terminal = terminal[layout.final]
    episodes = Episodes(
        obs=torch.from_numpy(_with_final(obs, next_obs, layout, step)),
        start=torch.from_numpy(start),
        terminal=_at_end(start, is_terminal),
        timeout=_at_end(start, ~is_terminal),
        action=None if action is None else torch.from_numpy(action[step]),
        reward=None if reward is None else torch.from_numpy(reward[step]),
    )
    return _checked(path, episodes, notes, env_id)


def _check_shapes(
    path: Path,
    obs: Floats,
    last: Bools,
    terminal: Bools,
    next_obs: Floats | None,
    action: Floats | None,
    reward: Floats | None,
) -> None:
    count = len(obs) if obs.ndim else 0
    if count == 0:
        raise ValueError(f"{path}: expected one or more rows of observations, found {obs.shape}")
    for name, rows in (("observations", obs), ("actions", action), ("next_observations", next_obs)):
        if rows is not None and (rows.ndim != 2 or len(rows) != count or 0 in rows.shape):
            raise ValueError(f"{path}: {name}: expected ({count}, width), found {rows.shape}")
    for name, flat in (("rewards", reward), ("terminals", terminal), ("timeouts", last)):
        if flat is not None and flat.shape != (count,):
            raise ValueError(f"{path}: {name}: expected ({count},), found {flat.shape}")
    if next_obs is not None and next_obs.shape != obs.shape:
        raise ValueError(f"{path}: next_observations: expected {obs.shape}, found {next_obs.shape}")


def _layout(
    obs: Floats, next_obs: Floats | None, last: Bools, terminal: Bools, notes: dict[str, int]
) -> _Layout:
    """The episodes that have a transition to keep.  Counts in `notes` what is dropped."""
    ends = np.flatnonzero(_last_rows(obs, next_obs, last, notes))
    first = np.concatenate([[0], ends[:-1] + 1])
    kept = np.ones(len(obs), dtype=bool)
    if next_obs is None:
        kept[ends] = terminal[ends]
        notes["transitions dropped for lack of a next observation"] = int((~terminal[ends]).sum())
        notes["terminal transitions with the observation repeated as the next"] = int(
            terminal[ends].sum()
        )
    length = np.add.reduceat(kept, first)
    notes["episodes dropped for lack of a transition"] = int((length == 0).sum())
    nonempty = length > 0
    return _Layout(first[nonempty], ends[nonempty], length[nonempty])


def _last_rows(obs: Floats, next_obs: Floats | None, last: Bools, notes: dict[str, int]) -> Bools:
    """[N], whether a row is the last of its episode: it is flagged, or the next row jumps."""
    last = last.copy()
    notes["episodes cut by the end of the file"] = int(not last[-1])
    last[-1] = True
    if next_obs is not None:
        with np.errstate(invalid="ignore", over="ignore"):  # values are checked later
            gap = np.abs(next_obs[:-1] - obs[1:]) > TOLERANCE * (1 + np.abs(obs[1:]))
        jumps = gap.any(1) & ~last[:-1]
        notes["episodes cut where the next observation differs from the next row's"] = int(
            jumps.sum()
        )
        last[:-1] |= jumps
    return last


def _with_final(obs: Floats, next_obs: Floats | None, layout: _Layout, step: Ints) -> Floats:
    """The observations of the rows kept, each episode followed by its final one, [N + E, D]."""
    start = layout.start
    row = start + np.arange(len(start))  # [E + 1], first row of each episode in the result
    result = np.empty((row[-1], obs.shape[1]), np.float32)
    result[np.repeat(row[:-1] - start[:-1], layout.length) + np.arange(start[-1])] = obs[step]
    if next_obs is not None:
        result[row[1:] - 1] = next_obs[layout.final]
    else:
        result[row[1:] - 1] = obs[np.minimum(layout.final + 1, layout.last)]
    return result


def from_whole_episodes(
    path: Path,
    obs: list[Floats],
    terminal: list[bool],
    action: list[Floats],
    reward: list[Floats],
    env_id: str | None = None,
) -> ReadResult:
    """Episodes from E episodes with one observation more than transitions.

    path: the file, for errors.
    obs: [T + 1, D] each.  action: [T, A] each.  reward: [T] each.
    terminal: [E], whether the task ended with an episode's last transition.
    Raises ValueError naming the file and the episode for wrong shapes and damaged values.
    """
    for i, rows in enumerate(obs):
        steps = len(rows) - 1 if rows.ndim == 2 else 0
        if steps < 1 or rows.shape[1:] != obs[0].shape[1:]:
            raise ValueError(
                f"{path}: episode {i}: expected 2 or more observations, as wide as those of the "
                f"first episode, found shape {rows.shape}"
            )
        for name, column, ndim in (("actions", action[i], 2), ("rewards", reward[i], 1)):
            if column.ndim != ndim or len(column) != steps:
                raise ValueError(
                    f"{path}: episode {i}: {name}: expected {steps} rows, one fewer than "
                    f"observations, found shape {column.shape}"
                )
    if len({rows.shape[1] for rows in action}) > 1:
        raise ValueError(f"{path}: actions: expected one width, found several")
    start = np.concatenate([[0], np.cumsum([len(rows) - 1 for rows in obs])])
    is_terminal = np.array(terminal)
    episodes = Episodes(
        obs=torch.from_numpy(np.concatenate(obs)),
        start=torch.from_numpy(start),
        terminal=_at_end(start, is_terminal),
        timeout=_at_end(start, ~is_terminal),
        action=torch.from_numpy(np.concatenate(action)),
        reward=torch.from_numpy(np.concatenate(reward)),
    )
    return _checked(path, episodes, {}, env_id)


def _checked(
    path: Path, episodes: Episodes, notes: dict[str, int], env_id: str | None
) -> ReadResult:
    """Refuses damaged values, and clips actions to [-1, 1], counting the rows that change."""
    for name, limit in (
        ("obs", LARGEST_OBSERVATION), ("action", LARGEST_ACTION), ("reward", LARGEST_OBSERVATION),
    ):  # fmt: skip
        column = getattr(episodes, name)
        if column is None:
            continue
        largest = column.abs().max() if len(column) else torch.zeros(())
        if not bool(largest <= limit):  # also true for NaN
            index = torch.nonzero(~(column.abs() <= limit))[0].tolist()
            raise ValueError(
                f"{path}: {name}: expected finite numbers of at most {limit:g}, found "
                f"{float(column[tuple(index)])} in row {index[0]}: the file is damaged"
            )
    if episodes.action is not None:
        notes["actions clipped to [-1, 1]"] = int((episodes.action.abs() > 1).any(1).sum())
        episodes.action.clamp_(-1.0, 1.0)
    return ReadResult(episodes, env_id, {note: count for note, count in notes.items() if count})


def _at_end(start: Ints, flag: Bools) -> torch.Tensor:
    """[N] bool: the flag of each episode at its last transition, False elsewhere."""
    column = np.zeros(start[-1], dtype=bool)
    column[start[1:] - 1] = flag
    return torch.from_numpy(column)
