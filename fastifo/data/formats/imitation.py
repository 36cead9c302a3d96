"""Trajectories of the package `imitation`, read without it: Arrow folders and older .npz files.

Layout: `obs` has T + 1 rows for each trajectory, `acts`, `infos` and `rews` have T, and `terminal`
one flag. `serialize.save` writes a folder of Hugging Face's datasets, a row for each trajectory;
earlier versions an .npz file with all rows end to end and `indices`, where trajectories are split.
Nothing is unpickled.

`terminal` only says that a trajectory is complete: vectorised environments end one at its time
limit too. Which of the two it was is in the last step's info, as "TimeLimit.truncated".
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastifo.data.formats.actions import check_continuous
from fastifo.data.formats.arrow import Table
from fastifo.data.formats.assemble import check_count, from_whole_episodes
from fastifo.data.formats.npz import NPZ
from fastifo.data.formats.options import DEFAULTS, ReadOptions
from fastifo.data.formats.source import Floats, ReadResult, Source
from fastifo.utils.files import read_json

TRUNCATED = "TimeLimit.truncated"  # in an info, by Gymnasium and Stable-Baselines3
MEMBERS = ("obs", "acts", "terminal", "indices")  # of an .npz file


class _Trajectories(NamedTuple):
    """The columns of a file."""

    obs: list[Floats]  # [T + 1, D] each
    action: list[Floats]  # [T, A] each
    reward: list[Floats] | None  # [T] each
    terminal: list[bool]  # whether each is complete
    truncated: list[bool | None]  # whether the time limit ended it; None: not said
    kind: str  # of the actions


def read(path: Path, options: ReadOptions = DEFAULTS) -> ReadResult:
    """The trajectories of a folder, or an .npz file.

    options: `dones` says what ended complete trajectories whose infos do not; `max_steps` that
    those of this length were ended by the time limit, and others by the task.
    Raises FileNotFoundError; ValueError naming the file and what is wrong with it; ImportError.
    """
    source = Source(path, options, env_kwargs=options.env_kwargs, info=_licence(path))
    found = _from_folder(source) if path.is_dir() else _from_npz(source)
    check_count(source, len(found.obs))
    part = slice(0, options.episodes or None)
    obs, action = found.obs[part], found.action[part]
    reward = None if found.reward is None else found.reward[part]
    for index, (rows, steps) in enumerate(zip(obs, action, strict=True)):
        if rows.ndim != 2 or len(rows) != len(steps) + 1 or len(steps) == 0:
            raise source.error(
                f"trajectory {index}: expected one observation, a vector, more than actions, found "
                f"{rows.shape} and {steps.shape}"
            )
        if rows.shape[1] != obs[0].shape[1] or steps.shape[1:] != action[0].shape[1:]:
            raise source.error(f"trajectory {index}: expected the widths of trajectory 0")
        if reward is not None and reward[index].shape != (len(steps),):
            raise source.error(f"trajectory {index}: expected a reward for each action")
    check_continuous(source, "acts", found.kind, np.concatenate(action))
    if action[0].ndim not in (1, 2):
        raise source.error(f"acts: expected (steps, width), found {action[0].shape}")
    lengths = [len(steps) for steps in action]
    terminal, notes = _ends(source, lengths, found.terminal[part], found.truncated[part])
    return from_whole_episodes(source, obs, terminal, action, reward, notes)


def _ends(
    source: Source,
    lengths: Sequence[int],
    complete: Sequence[bool],
    truncated: Sequence[bool | None],
) -> tuple[list[bool], dict[str, int]]:
    """Which trajectories the task ended.  Raises ValueError where nothing says it."""
    options = source.options
    cut = len(complete) - sum(complete)
    notes = {"trajectories that are not complete, counted as time limits": cut} if cut else {}
    if options.dones:
        return [flag and options.dones == "terminal" for flag in complete], notes
    if options.max_steps:
        pairs = zip(complete, lengths, strict=True)
        return [flag and length < options.max_steps for flag, length in pairs], notes
    unknown = sum(flag and stated is None for flag, stated in zip(complete, truncated, strict=True))
    if unknown:
        raise source.error(
            f"terminal: {unknown} complete trajectories, and no info says whether the task or the "
            f"time limit ended them ({TRUNCATED}). Say ,dones=terminal or ,dones=timeout, or the "
            "time limit with ,max_steps=<n>"
        )
    pairs_ = zip(complete, truncated, strict=True)
    return [flag and not stated for flag, stated in pairs_], notes


def _from_folder(source: Source) -> _Trajectories:
    """The trajectories of a folder that Hugging Face's datasets saved."""
    path = source.path
    state_path = path / "state.json"
    state = read_json(state_path) if state_path.is_file() else None
    entries = state.get("_data_files") if isinstance(state, dict) else None
    names = [e.get("filename") for e in entries or [] if isinstance(e, dict)]
    if not names or not all(isinstance(n, str) and n == Path(n).name for n in names):
        raise source.error("expected a folder of Hugging Face's datasets with its state.json")
    table = Table([path / str(name) for name in names], flag=("infos", TRUNCATED))
    if missing := sorted({"obs", "acts", "terminal"} - set(table.names)):
        raise source.error(
            f"expected imitation's columns obs, acts and terminal, {', '.join(missing)} is "
            f"missing; found {', '.join(table.names)}"
        )
    obs, action = table.lists("obs"), table.lists("acts")
    return _Trajectories(
        obs,
        action,
        table.lists("rews") if "rews" in table.names else None,
        [bool(flag) for flag in table.numbers("terminal")],
        table.flags or [None] * len(obs),
        table.kinds.get("acts", "f"),
    )


def _from_npz(source: Source) -> _Trajectories:
    """The trajectories of an .npz file; its infos are pickled, and so not read."""
    file = NPZ(source.path)
    if missing := [name for name in MEMBERS if name not in file.names]:
        raise file.error(
            f"expected imitation's arrays {', '.join(MEMBERS)}, {', '.join(missing)} is missing; "
            f"found {', '.join(file.names)}"
        )
    obs, action = file.numbers("obs"), file.numbers("acts")
    kind = file.kinds["acts"]
    terminal = file.numbers("terminal").ravel() != 0
    indices = file.numbers("indices", np.float64).ravel()
    if len(indices) == len(terminal) and len(indices) and indices[-1] == len(action):
        indices = indices[:-1]  # some versions end with the number of actions
    steps = np.diff(np.concatenate([[0], indices, [len(action)]]))
    valid = len(indices) + 1 == len(terminal) and (steps >= 1).all() and (steps % 1 == 0).all()
    if not valid or len(obs) != len(action) + len(terminal):
        raise file.error(
            f"indices: expected rising numbers that split {len(action)} actions into "
            f"{len(terminal)} trajectories, and an observation more in each; found "
            f"{indices.tolist()[:5]} and {len(obs)} observations"
        )
    cuts = indices.astype(np.int64)
    reward = file.numbers("rews").ravel() if "rews" in file.names else None
    return _Trajectories(
        np.split(obs, cuts + np.arange(len(cuts)) + 1),
        np.split(action, cuts),
        None if reward is None else np.split(reward, cuts),
        terminal.tolist(),
        [None] * len(terminal),
        kind,
    )


def _licence(path: Path) -> dict[str, Any]:
    """The licence that a folder states."""
    file = path / "dataset_info.json"
    content = read_json(file) if path.is_dir() and file.is_file() else None
    stated = content.get("license") if isinstance(content, dict) else None
    return {"license": stated} if isinstance(stated, str) and stated else {}
