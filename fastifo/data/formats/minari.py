"""Minari's datasets, read without the `minari` package: HDF5, or Arrow and Parquet.

Layout: `<id>/data/main_data.hdf5` with groups `episode_<k>`, each with T + 1 `observations` and T
`actions`, `rewards`, `terminations` and `truncations`; `metadata.json` is in the same folder.
Observations of a Dict space are groups with a dataset for each key, or a group for a nested Dict.
`minari_arrow.py` has the layout of the other storages, whose `metadata.json` states their
`data_format`.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.data.formats.actions import DISCRETE_SPACES, check_continuous, minari_bounds
from fastifo.data.formats.assemble import concatenate_columns, from_whole_episodes
from fastifo.data.formats.file_frames import FrameColumns, check_frames, with_frames
from fastifo.data.formats.groups import Column, EpisodeColumns, read_groups
from fastifo.data.formats.hdf5 import HDF5
from fastifo.data.formats.minari_arrow import observation_names, read_episodes
from fastifo.data.formats.options import DEFAULTS, ReadOptions
from fastifo.data.formats.source import ReadResult, Source
from fastifo.utils.files import read_json
from fastifo.utils.folders import home_folder

METADATA = "metadata.json"


def read(path: Path, options: ReadOptions = DEFAULTS) -> ReadResult:
    """The episodes of a Minari dataset.

    path: its folder, its `data` folder, main_data.hdf5, or its id below `root()`.
    options: `keys` are observations of a Dict space to concatenate, in this order; "a/b" is one of
    a nested Dict, and "a" all of it. `cameras` are those that hold frames, uint8 [T + 1, H, W, C].
    The action space, the environment and the reference returns come from metadata.json.
    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.
    """
    main = _main_file(path)
    source = _source(main, options)
    file = HDF5(main) if main.name != METADATA else None
    frames = {camera: FrameColumns(f"observations/{camera}") for camera in options.cameras}
    episodes, kinds = _from_arrow(source) if file is None else _from_hdf5(source, file, frames)
    values, notes = episodes.values, dict(episodes.notes) | source.info["notes"]
    obs = values["observations"]
    action = values.get("actions")
    if action is not None:
        check_continuous(source, "actions", kinds, np.concatenate(action))
    ended = values.get("terminations")
    if ended is None:
        name = "ends of episodes counted as time limits, since the file has no terminations"
        notes[name] = len(obs)
    else:
        inside = sum(int((flags[:-1] != 0).sum()) for flags in ended)
        notes["terminations inside an episode, not used"] = inside
    terminal = [False] * len(obs) if ended is None else [bool(flags[-1]) for flags in ended]
    result = from_whole_episodes(source, obs, terminal, action, values.get("rewards"), notes)
    lengths = [len(part) for part in obs]
    return result if file is None else with_frames(file, result, episodes.groups, lengths, frames)


def _from_arrow(source: Source) -> tuple[EpisodeColumns, set[str]]:
    """The episodes of a dataset with `data_format` arrow or parquet, and the actions' kinds."""
    if source.options.cameras:
        raise source.error("cameras: frames of datasets in Arrow or Parquet files are not read")
    folder = dataclasses.replace(source, path=source.path.parent)
    return read_episodes(folder)


def _from_hdf5(
    source: Source, file: HDF5, frames: Mapping[str, FrameColumns]
) -> tuple[EpisodeColumns, set[str]]:
    """The episodes of main_data.hdf5, and the actions' kinds."""
    options = source.options
    groups = sorted((n for n in file.children("") if n.startswith("episode_")), key=_number)
    if not groups:
        raise file.error("expected groups episode_0, episode_1, ..., found none")
    obs_names = _obs_names(file, groups, source)
    columns = [
        *(Column(name, extra=1, ndim=(1, 2)) for name in obs_names),
        *(Column(each.obs, extra=1, ndim=(4,), reads=False) for each in frames.values()),
        Column("actions", ndim=(1, 2)),
        *(Column(name, squeezed=True) for name in ("rewards", "terminations", "truncations")),
    ]
    _check_cameras(file, groups, options.cameras)
    episodes = read_groups(file, source, groups, columns)
    values = episodes.values
    if not set(obs_names) <= set(values):
        raise file.error(f"expected observations in every episode, found {_known(file, groups[0])}")
    parts = list(zip(*(values.pop(name) for name in obs_names), strict=True))
    values["observations"] = [concatenate_columns(file.path, "observations", p) for p in parts]
    return episodes, file.kinds(f"{group}/actions" for group in groups)


def _check_cameras(file: HDF5, groups: list[str], cameras: tuple[str, ...]) -> None:
    """Raises ValueError for a camera that is no entry of the observations with frames."""
    known = next((k for g in groups if (k := file.children(f"{g}/observations"))), [])
    for camera in cameras:
        if camera not in known:
            raise file.error(
                f"cameras: expected some of {', '.join(sorted(known)) or 'none'}, the observations "
                f"of the file, found {camera!r}"
            )
        names = [f"{group}/observations/{camera}" for group in groups]
        check_frames(file, [name for name in names if file.has(name)])


def _obs_names(file: HDF5, groups: list[str], source: Source) -> list[str]:
    """Datasets that hold the observations, below an episode's group."""
    group = next((g for g in groups if file.children(f"{g}/observations")), groups[0])
    prefix = f"{group}/observations/"
    leaves = [n.removeprefix(prefix) for n in file.objects if n.startswith(prefix) and file.has(n)]
    return observation_names(source, leaves)


def _known(file: HDF5, group: str) -> str:
    return ", ".join(sorted(file.children(group))) or "none"


def _number(name: str) -> tuple[int, str]:
    """Sorts episode_10 after episode_2; names without a number come first."""
    digits = name.rpartition("_")[2]
    return (int(digits) if digits.isdigit() and len(digits) < 12 else -1, name)


def _main_file(path: Path) -> Path:
    """main_data.hdf5, or the metadata.json of a dataset in other files."""
    folders = [path, path / "data"]
    if not path.exists() and not path.is_absolute():
        folders.append(root() / path / "data")
    candidates = [path, *(folder / "main_data.hdf5" for folder in folders)]
    candidates += [folder / METADATA for folder in folders if has_arrow(folder)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"minari:{path}: expected a dataset's folder, or its id below {root()}, found neither; "
        f"download it there with Minari (`minari download {path}`) or set MINARI_DATASETS_PATH"
    )


def has_arrow(folder: Path) -> bool:
    """Whether a folder is the `data` folder of a dataset in Arrow or Parquet files."""
    path = folder / METADATA
    content = read_json(path) if path.is_file() else None
    return isinstance(content, dict) and content.get("data_format") in ("arrow", "parquet")


def root() -> Path:
    """The folder in which Minari stores its datasets."""
    folder = os.environ.get("MINARI_DATASETS_PATH")
    return Path(folder) if folder else home_folder("MINARI_DATASETS_PATH") / ".minari" / "datasets"


def _source(path: Path, options: ReadOptions) -> Source:
    """What metadata.json states: environment, settings, action space and reference returns."""
    metadata = path.with_name(METADATA)
    content = read_json(metadata) if metadata.is_file() else {}
    if not isinstance(content, dict):
        raise ValueError(f"{metadata}: expected a JSON object, found {type(content).__name__}")
    spec = _nested(content, "eval_env_spec") or _nested(content, "env_spec")
    env_kwargs = _settings(metadata, spec, options)
    env_id = spec.get("id")
    wrappers = spec.get("additional_wrappers")
    count = len(wrappers) if isinstance(wrappers, list | tuple) else 0
    references = [content.get(f"ref_{name}_score") for name in ("min", "max")]
    return Source(
        path,
        options,
        env_id=env_id if isinstance(env_id, str) else None,
        env_kwargs=env_kwargs,
        bounds=_bounds(metadata, content, options),
        reference_returns=_pair(references),
        obs_keys=options.keys,
        info={"notes": {"wrappers of the environment that are not used": count}},
    )


def _settings(path: Path, spec: dict[str, Any], options: ReadOptions) -> dict[str, Any]:
    """The environment's settings, with its time limit if it has one.

    Raises ValueError naming the file for values of another kind.
    """
    settings, steps = spec.get("kwargs"), options.max_steps or spec.get("max_episode_steps")
    if settings is not None and not isinstance(settings, dict):
        raise ValueError(f"{path}: env_spec.kwargs: expected an object, found {str(settings)[:60]}")
    if steps in (None, -1):  # Gymnasium's words for no limit
        return dict(settings or {})
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(
            f"{path}: env_spec.max_episode_steps: expected an integer of at least 1, or null, "
            f"found {str(steps)[:60]!r}; say ,max_steps=<n>"
        )
    return dict(settings or {}) | {"max_episode_steps": steps}


def _bounds(path: Path, content: dict[str, Any], options: ReadOptions) -> tuple[Any, Any]:
    """The bounds that metadata.json states; unread where the user says them.

    A Discrete space is refused all the same.
    """
    space = _nested(content, "action_space") or content.get("action_space")
    discrete = isinstance(space, dict) and space.get("type") in DISCRETE_SPACES
    given = options.action_low is not None or options.action_high is not None
    return (None, None) if given and not discrete else minari_bounds(path, space)


def _nested(content: dict[str, Any], name: str) -> dict[str, Any]:
    """An entry that is a JSON object, or a text that holds one; empty if it is neither."""
    value = content.get(name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (json.JSONDecodeError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def _pair(values: list[Any]) -> tuple[float, float] | None:
    """Two different finite numbers, or None."""
    try:
        low, high = (float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        return None
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low != high else None
