"""Rows of a foreign file as episodes: what to keep, what to drop, what to refuse."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fastifo.data.episodes import Episodes

LARGEST_OBSERVATION, LARGEST_ACTION = 1e8, 10.0  # beyond them a file is damaged
SAME = 1e-5  # relative; a next observation and the next row's are the same number

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Foreign:
    """One file's episodes, and what was done to them."""

    episodes: Episodes
    env_id: str | None = None
    notes: dict[str, int] = field(default_factory=dict)  # what happened -> how often


def side_by_side(path: Path, what: str, parts: Sequence[Floats]) -> Floats:
    """Several columns of the same rows as one, [rows, widths together]."""
    if any(part.ndim not in (1, 2) or len(part) != len(parts[0]) for part in parts):
        found = [part.shape for part in parts]
        raise ValueError(f"{path}: {what}: expected vectors with a row per step, found {found}")
    return np.concatenate([part[:, None] if part.ndim == 1 else part for part in parts], 1)


def from_rows(
    path: Path,
    obs: Floats,
    last: NDArray[np.bool_],
    terminal: NDArray[np.bool_],
    *,
    next_obs: Floats | None = None,
    action: Floats | None = None,
    reward: Floats | None = None,
    env_id: str | None = None,
) -> Foreign:
    """Episodes whose N transitions lie end to end, each row with its own observation.

    obs: [N, D].  last: [N], the row ends its episode.  terminal: [N], because the task ended.
    next_obs: [N, D]; without it an episode's last row has no next observation: the row is dropped,
    or, where the task ended there and no value follows, kept with its own observation repeated.
    """
    count = len(obs) if obs.ndim else 0
    if count == 0:
        raise ValueError(f"{path}: expected one or more rows of observations, found {obs.shape}")
    columns = {"observations": obs, "actions": action, "next_observations": next_obs}
    for name, value in columns.items():
        if value is not None and (value.ndim != 2 or len(value) != count or 0 in value.shape):
            raise ValueError(f"{path}: {name}: expected ({count}, width), found {value.shape}")
    flat = {"rewards": reward, "terminals": terminal, "timeouts": last}
    for name, line in flat.items():
        if line is not None and line.shape != (count,):
            raise ValueError(f"{path}: {name}: expected ({count},), found {line.shape}")
    if next_obs is not None and next_obs.shape != obs.shape:
        raise ValueError(f"{path}: next_observations: expected {obs.shape}, found {next_obs.shape}")
    notes: dict[str, int] = {}
    ends = np.flatnonzero(_ends(obs, next_obs, last | terminal, notes))
    first = np.concatenate([[0], ends[:-1] + 1])
    kept = np.ones(count, dtype=bool)
    if next_obs is None:
        kept[ends] = terminal[ends]
        notes["transitions dropped for want of a next observation"] = int((~terminal[ends]).sum())
        notes["terminal observations repeated for want of the next"] = int(terminal[ends].sum())
    length = np.add.reduceat(kept, first)
    notes["episodes without a transition dropped"] = int((length == 0).sum())
    first, ends, length = (x[length > 0] for x in (first, ends, length))
    if len(length) == 0:
        raise ValueError(f"{path}: expected one or more transitions, found none to learn from")
    start = np.concatenate([[0], length.cumsum()])
    rows = np.concatenate([[0], (length + 1).cumsum()])
    step = np.repeat(first - start[:-1], length) + np.arange(start[-1])
    wide = np.empty((rows[-1], obs.shape[1]), np.float32)
    wide[np.repeat(rows[:-1] - start[:-1], length) + np.arange(start[-1])] = obs[step]
    final = first + length - 1  # the last transition that was kept
    if next_obs is not None:
        wide[rows[1:] - 1] = next_obs[final]
    else:
        wide[rows[1:] - 1] = obs[np.minimum(final + 1, ends)]
    ended = terminal[final]
    return finish(
        path,
        Episodes(
            obs=torch.from_numpy(wide),
            start=torch.from_numpy(start),
            terminal=_at(start, ended),
            timeout=_at(start, ~ended),
            action=None if action is None else torch.from_numpy(action[step]),
            reward=None if reward is None else torch.from_numpy(reward[step]),
        ),
        notes,
        env_id,
    )


def _ends(
    obs: Floats, next_obs: Floats | None, last: NDArray[np.bool_], notes: dict[str, int]
) -> NDArray[np.bool_]:
    """[N], the row ends an episode: as the file says, at its end, and where rows do not follow."""
    last = last.copy()
    notes["episodes cut by the end of the file"] = int(not last[-1])
    last[-1] = True
    if next_obs is not None:
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is refused later
            gap = np.abs(next_obs[:-1] - obs[1:]) > SAME * (1 + np.abs(obs[1:]))
        jumps = gap.any(1) & ~last[:-1]
        notes["episodes cut where the next observation is not the next row's"] = int(jumps.sum())
        last[:-1] |= jumps
    return last


def from_whole(
    path: Path,
    obs: list[Floats],
    terminal: list[bool],
    action: list[Floats] | None,
    reward: list[Floats] | None,
    env_id: str | None = None,
) -> Foreign:
    """Episodes with T + 1 observations each."""
    for i, rows in enumerate(obs):
        steps = len(rows) - 1 if rows.ndim == 2 else 0
        if steps < 1 or rows.shape[1:] != obs[0].shape[1:]:
            raise ValueError(
                f"{path}: episode {i}: expected 2 or more observations as wide as the first "
                f"episode's, found shape {rows.shape}"
            )
        for name, column, ndim in (("actions", action, 2), ("rewards", reward, 1)):
            if column is not None and (column[i].ndim != ndim or len(column[i]) != steps):
                raise ValueError(
                    f"{path}: episode {i}: {name}: expected {steps} rows, one fewer than "
                    f"observations, found shape {column[i].shape}"
                )
    if action is not None and len({x.shape[1] for x in action}) > 1:
        raise ValueError(f"{path}: actions: expected one width, found several")
    start = np.concatenate([[0], np.cumsum([len(rows) - 1 for rows in obs])])
    ended = np.array(terminal)
    return finish(
        path,
        Episodes(
            obs=torch.from_numpy(np.concatenate(obs)),
            start=torch.from_numpy(start),
            terminal=_at(start, ended),
            timeout=_at(start, ~ended),
            action=None if action is None else torch.from_numpy(np.concatenate(action)),
            reward=None if reward is None else torch.from_numpy(np.concatenate(reward)),
        ),
        {},
        env_id,
    )


def finish(path: Path, episodes: Episodes, notes: dict[str, int], env_id: str | None) -> Foreign:
    """Checks the numbers and clips actions to [-1, 1], counting those that were outside."""
    for name, limit in (
        ("obs", LARGEST_OBSERVATION), ("action", LARGEST_ACTION), ("reward", LARGEST_OBSERVATION),
    ):  # fmt: skip
        column = getattr(episodes, name)
        if column is None:
            continue
        worst = column.abs().max() if len(column) else torch.zeros(())
        if not bool(worst <= limit):  # nan too
            place = torch.nonzero(~(column.abs() <= limit))[0].tolist()
            raise ValueError(
                f"{path}: {name}: expected finite numbers of at most {limit:g}, found "
                f"{float(column[tuple(place)])} at row {place[0]}: the file is damaged"
            )
    if episodes.action is not None:
        outside = int((episodes.action.abs() > 1).any(1).sum())
        notes["actions clipped to [-1, 1]"] = outside
        episodes.action.clamp_(-1.0, 1.0)
    return Foreign(episodes, env_id, {what: count for what, count in notes.items() if count})


def _at(start: NDArray[np.int64], flag: NDArray[np.bool_]) -> torch.Tensor:
    """[N]: the flag of each episode at its last transition."""
    column = np.zeros(start[-1], dtype=bool)
    column[start[1:] - 1] = flag
    return torch.from_numpy(column)
