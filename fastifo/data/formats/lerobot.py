"""LeRobot's datasets, versions 2 and 3: Parquet files, read by pyarrow, without the package.

Layout: `meta/info.json`, and `data/chunk-*/*.parquet` with a row per frame: `action`,
`observation.state` and others, `episode_index`, `frame_index`, `index`, and for simulators
`next.reward` and `next.done`. Version 3 has many episodes in a file, version 2 one. A frame is an
observation and the action taken in it: the observation after an episode's last action is not
stored. Cameras are videos, see `lerobot_video.py`.
"""

from pathlib import Path
from typing import Any

import numpy as np

from fastifo.data.formats.actions import check_continuous
from fastifo.data.formats.arrow import Table
from fastifo.data.formats.assemble import concatenate_columns, from_rows
from fastifo.data.formats.end_names import in_order, role_of
from fastifo.data.formats.ends import find_ends, named_columns
from fastifo.data.formats.lerobot_video import PICTURES, find_cameras, with_videos
from fastifo.data.formats.options import DEFAULTS, ReadOptions
from fastifo.data.formats.source import ReadResult, Source
from fastifo.data.formats.tables import check_together
from fastifo.utils.files import read_json, what_is
from fastifo.utils.text import license_of

OBS = ("observation.state", "observation.environment_state")  # those of them that exist
REWARD = "next.reward"
TIME = "timestamp"  # in seconds from the episode's beginning
NUMBERS = ("episode_index", "frame_index", "index")  # that every file has


def read(path: Path, options: ReadOptions = DEFAULTS) -> ReadResult:
    """The episodes of a LeRobot dataset.

    path: its folder.
    options: `keys` are features to concatenate as the observation, by default those of OBS;
    `action_key` is the feature of the actions, by default `action`; `cameras` are those whose
    videos are read, with or without `observation.images.`; `terminals`, `dones` and `max_steps` say
    which ends are the task's, where `next.terminated` does not.
    Raises FileNotFoundError; ValueError naming the file and what is wrong with it; ImportError.
    """
    info_path = path / "meta" / "info.json"
    if not info_path.is_file():
        raise FileNotFoundError(
            f"{path}: expected a LeRobot dataset's folder with meta/info.json, found "
            f"{what_is(info_path)}"
        )
    info = read_json(info_path)
    features = info.get("features") if isinstance(info, dict) else None
    if not isinstance(features, dict) or not all(isinstance(f, dict) for f in features.values()):
        raise ValueError(f"{info_path}: expected an object with the features of a LeRobot dataset")
    files = sorted((path / "data").glob("chunk-*/*.parquet"))
    if not files:
        raise FileNotFoundError(f"{path}: expected data/chunk-*/*.parquet, found no such file")
    source = _source(path, options, info, features)
    keys, action_key = _columns(source, features, options)
    cameras = find_cameras(source, features, options.cameras)
    ends = [name for name in in_order(list(features)) if role_of(name)]
    ends += named_columns(options, list(features), source.error)
    wanted = [*keys, action_key, *NUMBERS, *([REWARD] if REWARD in features else []), *ends]
    wanted += [TIME] if cameras else []
    table = Table(files, list(dict.fromkeys(name for name in wanted if name)))
    order = _order(source, table, info)
    numbers = {name: table.numbers(name)[order] for name in (*keys, action_key) if name}
    obs = concatenate_columns(path, "observations", [numbers[key] for key in keys])
    action = numbers.get(action_key)
    if action is not None:
        action = action[:, None] if action.ndim == 1 else action
        check_continuous(source, action_key, table.kinds[action_key], action)
    marks = {name: table.numbers(name, np.float64)[order] for name in dict.fromkeys(ends)}
    found = find_ends(path, marks, len(order), options)
    found.notes.update(source.info["notes"])
    reward = table.numbers(REWARD)[order].reshape(len(order)) if REWARD in features else None
    result = from_rows(source, obs, found, action=action, reward=reward)
    if not cameras:
        return result
    episode, time = (table.numbers(n, np.float64)[order].ravel() for n in ("episode_index", TIME))
    return with_videos(result, info, cameras, episode.astype(np.int64), time)


def _columns(
    source: Source, features: dict[str, Any], options: ReadOptions
) -> tuple[tuple[str, ...], str]:
    """The features of the observation, and that of the actions, empty if there is none."""
    pictures = [n for n, f in features.items() if f.get("dtype") in PICTURES]
    low_dim = [n for n in features if n.startswith("observation.") and n not in pictures]
    keys = options.keys or tuple(name for name in OBS if name in features)
    bad = [key for key in keys if key not in features or key in pictures]
    if bad or not keys:
        raise source.error(
            f"keys: {', '.join(bad) or 'none of the default features is there'}: expected some of "
            f"{', '.join(low_dim) or 'none'}; videos are read by camera, as in "
            f",cameras=top ({', '.join(pictures) or 'none here'})"
        )
    action_key = options.action_key or "action"
    if action_key not in features and options.action_key:
        known = ", ".join(name for name in features if name.startswith("action")) or "none"
        raise source.error(f"action_key: expected one of {known}, found {action_key}")
    return keys, action_key if action_key in features else ""


def _order(source: Source, table: Table, info: dict[str, Any]) -> Any:
    """The order of the frames: by `index`.  Raises ValueError for frames that are missing."""
    index, episode, frame = (table.numbers(name, np.float64).ravel() for name in (
        "index", "episode_index", "frame_index",
    ))  # fmt: skip
    order = np.argsort(index, kind="stable")
    if not np.array_equal(index[order], np.arange(len(index))):
        raise source.error(
            f"index: expected 0 to {len(index) - 1}, found frames missing or doubled"
        )
    for name, count in (("frames", len(index)), ("episodes", len(np.unique(episode)))):
        if info.get(f"total_{name}") not in (None, count):
            raise source.error(
                f"meta/info.json: states {info[f'total_{name}']} {name}, the files have {count}"
            )
    check_together(source.error, "episode_index", episode[order])
    first = np.flatnonzero(np.diff(episode[order], prepend=np.nan) != 0)
    step = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    if not np.array_equal(frame[order], step):
        raise source.error("frame_index: expected 0, 1, ... in each episode, found other numbers")
    return order


def _source(
    path: Path, options: ReadOptions, info: dict[str, Any], features: dict[str, Any]
) -> Source:
    """What meta/info.json and the card state.  LeRobot states no bounds of actions."""
    pictures = sum(feature.get("dtype") in PICTURES for feature in features.values())
    pictures -= len(options.cameras)
    kept = {
        name: info[name]
        for name in ("codebase_version", "robot_type", "fps")
        if isinstance(info.get(name), str | int | float)
    }
    card = path / "README.md"
    terms = license_of(card.read_text(errors="replace")) if card.is_file() else None
    return Source(
        path,
        options,
        env_kwargs=options.env_kwargs,
        info={
            "lerobot": kept,
            "notes": {"cameras that are not read": pictures} if pictures else {},
            **({"license": terms} if terms else {}),
        },
    )
