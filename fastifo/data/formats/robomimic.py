"""robomimic's HDF5 files, read without the `robomimic` package.

Layout: `data/demo_<k>` with `actions`, `obs/<key>` and usually `rewards`, `dones` and
`next_obs/<key>`; the frames of a camera are the key `<camera>_image`. `mask/<name>` lists the
demonstrations that a filter selects. The attribute `env_args` of `data` describes the environment.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.data.formats.actions import check_continuous
from fastifo.data.formats.assemble import concatenate_columns, from_rows
from fastifo.data.formats.ends import Ends
from fastifo.data.formats.file_frames import FrameColumns, check_frames, with_frames
from fastifo.data.formats.groups import Column, EpisodeColumns, common_columns, read_groups
from fastifo.data.formats.hdf5 import HDF5
from fastifo.data.formats.options import DEFAULTS, ReadOptions
from fastifo.data.formats.robosuite import (
    LOW_DIM,
    OLD,
    object_layout,
    other_layout,
    parse_env_args,
    task_of,
)
from fastifo.data.formats.source import Bools, Floats, ReadResult, Source

SUFFIX = "_image"  # of the key of a camera's frames


def read(path: Path, options: ReadOptions = DEFAULTS) -> ReadResult:
    """The demonstrations of a robomimic file; `from_rows` says what is dropped.

    options: `keys` are observations to concatenate, in this order, by default those of LOW_DIM that
    exist, with cameras without `object`; `cameras` are those whose frames are read; `filter` is the
    name of a mask; `dones` says what the last step is, whatever the file's own `dones` say, and
    with `timeout` success does not end the task in the environment either; `object_layout` is the
    version of robosuite whose layout of `object` is wanted, by default the file's own.
    The environment and its settings come from `env_args`.
    The last step of a demonstration is terminal if its `dones` says so.
    Raises FileNotFoundError, or ValueError naming the file and what is wrong: an unknown filter or
    key, an image key, a camera that the file does not have, or a damaged file.
    """
    file = HDF5(path)
    demos = _demos(file, options.filter)[: options.episodes or None]
    keys = _choose_keys(file, demos, options)
    frames, with_next = _frame_columns(file, demos, options.cameras)
    source = _source(file, demos, options, keys)
    action_key = options.action_key or "actions"
    if options.action_key and not any(file.has(f"data/{demo}/{action_key}") for demo in demos):
        known = ", ".join(sorted(file.children(f"data/{demos[0]}")))
        raise file.error(f"action_key: expected one of {known}, found {action_key}")
    columns = [
        *(Column(f"obs/{key}", ndim=(1, 2)) for key in keys),
        *(Column(f"next_obs/{key}", ndim=(1, 2)) for key in keys if with_next),
        Column(action_key, ndim=(1, 2)),
        Column("rewards", squeezed=True),
        Column("dones", squeezed=True),
        *(
            Column(name, ndim=(4,), reads=False)
            for each in frames.values()
            for name in each
            if name
        ),
    ]
    episodes = read_groups(file, source, [f"data/{demo}" for demo in demos], columns)
    _convert_object(source, episodes)
    obs = _joined(file, episodes, [f"obs/{key}" for key in keys])
    assert obs is not None  # `_choose_keys` has checked the keys
    action = _joined(file, episodes, [action_key])
    if action is not None:
        kinds = file.kinds(f"data/{demo}/{action_key}" for demo in demos)
        check_continuous(source, action_key, kinds, action)
    lengths = [len(part) for part in episodes.values[f"obs/{keys[0]}"]]
    result = from_rows(
        source,
        obs,
        _ends(source, episodes, lengths),
        next_obs=_joined(file, episodes, [f"next_obs/{key}" for key in keys]),
        action=action,
        reward=_flat(episodes, "rewards"),
    )
    return with_frames(file, result, episodes.groups, lengths, frames)


def _ends(source: Source, episodes: EpisodeColumns, lengths: list[int]) -> Ends:
    """The last steps of the demonstrations, and which are terminal."""
    notes = dict(source.info.get("notes", {})) | episodes.notes
    last: Bools = np.zeros(sum(lengths), dtype=bool)
    last[np.cumsum(lengths) - 1] = True
    done = _flat(episodes, "dones")
    if source.options.dones:
        return Ends(last, last & (source.options.dones == "terminal"), notes)
    if done is None:
        notes["ends of episodes counted as time limits, since the file has no dones"] = len(lengths)
        return Ends(last, np.zeros_like(last), notes)
    # Some files set `dones` in every step after success; only the last step ends the episode.
    return Ends(last, last & (done != 0), notes)


def _joined(file: HDF5, episodes: EpisodeColumns, names: list[str]) -> Floats | None:
    """Columns side by side, with all demonstrations end to end; None if one is missing."""
    if not all(name in episodes.values for name in names):
        return None
    columns = [np.concatenate(episodes.values[name]) for name in names]
    return concatenate_columns(file.path, names[0], columns)


def _flat(episodes: EpisodeColumns, name: str) -> Floats | None:
    return np.concatenate(episodes.values[name]) if name in episodes.values else None


def _demos(file: HDF5, mask: str) -> list[str]:
    """Names of the demonstrations that the filter selects, demo_2 before demo_10.

    A filter may select groups of any name; without one all groups with actions or observations
    are read.  Raises ValueError for names that are no demonstrations.
    """
    groups = [name for name in file.children("data") if not file.has(f"data/{name}")]
    demos = [n for n in groups if {"actions", "obs"} & set(file.children(f"data/{n}"))]
    if mask:
        known = file.children("mask")
        if mask not in known:
            raise file.error(
                f"filter: expected one of {', '.join(sorted(known)) or 'none'}, found {mask!r}"
            )
        selected = file.texts(f"mask/{mask}")
        unknown = sorted(set(selected) - set(groups))
        if not selected:
            raise file.error(f"mask/{mask}: expected names of groups in data, found none")
        if unknown:
            raise file.error(
                f"mask/{mask}: expected names of groups in data, found {len(unknown)} of "
                f"{len(selected)} that are none: {', '.join(map(repr, unknown[:3]))}"
            )
        demos = [name for name in groups if name in set(selected)]
    if not demos:
        raise file.error("expected groups data/demo_0, data/demo_1, ..., found none to read")
    return sorted(demos, key=_by_numbers)


def _by_numbers(name: str) -> list[tuple[int, int | str]]:
    """Sorts numbers in names by value."""
    parts = re.split(r"(\d{1,15})", name)
    return [(0, int(p)) if p.isascii() and p.isdigit() else (1, p) for p in parts]


def _frame_columns(
    file: HDF5, demos: list[str], cameras: tuple[str, ...]
) -> tuple[dict[str, FrameColumns], bool]:
    """The datasets of each camera, and whether the file has next observations with frames.

    Without them the next observations of an episode's last row are not known.
    Raises ValueError for a camera that the file does not have, and frames of another kind.
    """

    def below(group: str) -> list[str]:
        """Datasets that most demonstrations have there."""
        columns = [Column(f"{group}/{camera}{SUFFIX}") for camera in cameras]
        return [c.name for c in common_columns(file, [f"data/{d}" for d in demos], columns)]

    obs, next_obs = below("obs"), below("next_obs")
    if len(obs) < len(cameras):
        keys = sorted({k for d in demos for k in file.children(f"data/{d}/obs")})
        known = ", ".join(k.removesuffix(SUFFIX) for k in keys if k.endswith(SUFFIX)) or "none"
        missing = next(c for c in cameras if f"obs/{c}{SUFFIX}" not in obs)
        count = sum(file.has(f"data/{d}/obs/{missing}{SUFFIX}") for d in demos)
        if count:
            raise file.error(
                f"cameras: expected frames of {missing} in most demonstrations, found them in "
                f"{count} of {len(demos)}; `filter` selects demonstrations"
            )
        raise file.error(f"cameras: expected some of {known}, found {missing!r}")
    names = [f"data/{demo}/{name}" for demo in demos for name in obs + next_obs]
    check_frames(file, [name for name in names if file.has(name)])
    with_next = len(next_obs) == len(cameras)
    return {
        camera: FrameColumns(obs[i], next_obs[i] if with_next else "")
        for i, camera in enumerate(cameras)
    }, with_next


def _choose_keys(file: HDF5, demos: list[str], options: ReadOptions) -> tuple[str, ...]:
    """The given keys, or the default ones that the file has.  Most demonstrations have them."""
    default = LOW_DIM[1:] if options.cameras else LOW_DIM  # what cameras see is not told
    groups = {f"data/{demo}/obs" for demo in demos}
    found: dict[str, list[str]] = {}  # a key's datasets
    for name in file.objects:
        group, _, key = name.rpartition("/")
        if group in groups and file.has(name):
            found.setdefault(key, []).append(name)
    columns = [Column(f"obs/{key}") for key in found]
    common = common_columns(file, [f"data/{demo}" for demo in demos], columns)
    known = [column.name.removeprefix("obs/") for column in common]
    images = sorted(key for key in known if len(file.shape(found[key][0])) > 2)
    keys = options.keys or tuple(key for key in default if key in found)
    bad = [key for key in keys if key in images or key not in known]
    if rare := [key for key in bad if key in found and key not in images]:
        raise file.error(
            f"keys: expected {rare[0]} in most demonstrations, found it in {len(found[rare[0]])} "
            f"of {len(demos)}; `keys` names other observations, `filter` selects demonstrations"
        )
    if not known and file.has(f"data/{demos[0]}/states"):
        raise file.error(
            "has states of the simulator and no observations; with robosuite installed, "
            "robosuite:<file> replays them"
        )
    if bad or not keys:
        low_dim = ", ".join(sorted(set(known) - set(images)))
        raise file.error(
            f"keys: {', '.join(bad) or 'the file has none of the default keys'}: expected "
            f"low-dimensional observations ({low_dim}); images are read by camera, as in "
            f",cameras=agentview ({', '.join(images) or 'none here'})"
        )
    return keys


def _source(file: HDF5, demos: list[str], options: ReadOptions, keys: tuple[str, ...]) -> Source:
    """What `env_args` state: the environment and its settings."""
    text = file.attributes("data").get("env_args")
    try:
        content = json.loads(text) if isinstance(text, str) else None
    except (json.JSONDecodeError, RecursionError):
        content = None
    info: dict[str, Any] = {"env_args": content} if isinstance(content, dict) else {}
    env_id: str | None = None
    settings: dict[str, Any] = {}
    try:
        env_id, settings = parse_env_args(content)
    except ValueError:
        info["notes"] = {"environment that is not named, since env_args are not understood": 1}
    if options.object_layout:
        settings.pop("object_layout", None)
    if options.object_layout == OLD and env_id is not None:
        settings["object_layout"] = OLD
    render = _render(file, demos, options.cameras)
    if render and env_id is not None:
        settings["render"] = render
    if options.dones == "timeout" and env_id is not None:
        settings["success_terminal"] = False  # episodes that are played end as those of the file do
    return Source(
        file.path,
        options,
        env_id=env_id,
        env_kwargs=settings,
        obs_keys=() if env_id is None or keys == LOW_DIM else keys,
        info=info,
    )


def _render(file: HDF5, demos: list[str], cameras: tuple[str, ...]) -> dict[str, Any]:
    """Settings with which the environment renders as robomimic does: robosuite's own.

    Empty without cameras, or if their frames have different sizes, which no environment renders.
    """
    sizes = set()
    for camera in cameras:
        names = [f"data/{demo}/obs/{camera}{SUFFIX}" for demo in demos]
        shapes = [file.shape(name)[1:3] for name in names if file.has(name)]
        sizes.add(max(dict.fromkeys(shapes), key=shapes.count))  # `read_groups` drops the others
    if len(sizes) != 1:
        return {}
    ((height, width),) = sizes
    quality = {"shadows": True, "reflections": True, "offsamples": 4}  # MuJoCo's defaults
    return {"cameras": list(cameras), "height": height, "width": width, **quality}


def _convert_object(source: Source, episodes: EpisodeColumns) -> None:
    """Converts `object`, in place, to the layout that the user wants.

    Raises ValueError naming the file if it does not say which layout it has.
    """
    wanted = source.options.object_layout
    columns = [c for c in ("obs/object", "next_obs/object") if c in episodes.values]
    if not wanted or not columns:
        return
    if source.env_id is None:
        raise source.error("object_layout: expected env_args of a robosuite task in the file")
    if object_layout(source.info["env_args"].get("env_version")) == wanted:
        return
    for column in columns:
        try:
            parts = [other_layout(task_of(source.env_id), p) for p in episodes.values[column]]
        except ValueError as error:
            raise source.error(str(error)) from None
        episodes.values[column] = parts
