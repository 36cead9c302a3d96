"""robomimic's HDF5 files with low-dimensional observations, read without the `robomimic` package.

Layout: `data/demo_<k>` with `actions`, `rewards`, `dones`, `obs/<key>` and usually
`next_obs/<key>`; `mask/<name>` lists the demonstrations that a filter selects.
"""

from pathlib import Path

import numpy as np

from fastifo.data.formats.assemble import Floats, ReadResult, concatenate_columns, from_rows
from fastifo.data.formats.hdf5 import HDF5

LOW_DIM = ("object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")


def read(path: Path, keys: tuple[str, ...] = (), mask: str = "") -> ReadResult:
    """The demonstrations of a robomimic file; `from_rows` says what is dropped.

    keys: observations to concatenate, in this order; those of LOW_DIM that exist if empty.
    mask: name of a filter; empty for all demonstrations.
    The last step of a demonstration is terminal if its `dones` says so.
    Raises FileNotFoundError, or ValueError naming the file and what is wrong: an unknown filter or
    key, an image key, or a damaged file.
    """
    file = HDF5(path)
    demos = _demos(file, mask)
    keys = _choose_keys(file, demos[0], keys)
    parts = [f"obs/{key}" for key in keys]
    has_next = all(file.has(f"data/{demo}/next_obs/{key}") for demo in demos for key in keys)
    if has_next:
        parts += [f"next_obs/{key}" for key in keys]
    parts += ["actions", "rewards", "dones"]
    values = file.numbers([f"data/{demo}/{part}" for demo in demos for part in parts])
    columns: list[list[Floats]] = [[] for _ in range(5)]
    for first in range(0, len(values), len(parts)):
        demo_columns = _demo_columns(file, parts, values[first : first + len(parts)], len(keys))
        for column, part in zip(columns, demo_columns, strict=True):
            column.append(part)
    last = np.zeros(sum(map(len, columns[0])), dtype=bool)
    last[np.cumsum([len(obs) for obs in columns[0]]) - 1] = True
    try:
        obs, next_obs, action, reward, done = (np.concatenate(column) for column in columns)
    except ValueError as error:
        raise file.error(f"demonstrations differ in width ({error})") from None
    # Some files set `dones` in every step after success; only the last step ends the episode.
    return from_rows(
        path, obs, last, last & (done != 0), next_obs=next_obs if has_next else None,
        action=action, reward=reward,
    )  # fmt: skip


def _demos(file: HDF5, mask: str) -> list[str]:
    """Names of the demonstrations that the filter selects, demo_2 before demo_10."""
    demos = [name for name in file.children("data") if name.startswith("demo_")]
    if mask:
        known = file.children("mask")
        if mask not in known:
            raise file.error(
                f"filter: expected one of {', '.join(sorted(known)) or 'none'}, found {mask!r}"
            )
        selected = set(file.texts(f"mask/{mask}"))
        demos = [name for name in demos if name in selected]
    if not demos:
        raise file.error("expected groups data/demo_0, data/demo_1, ..., found none to read")
    return sorted(demos, key=lambda name: (len(name), name))


def _choose_keys(file: HDF5, demo: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    """The given keys, or the default ones that the demonstration has."""
    known = file.children(f"data/{demo}/obs")
    images = sorted(key for key in known if len(file.shape(f"data/{demo}/obs/{key}")) > 2)
    keys = keys or tuple(key for key in LOW_DIM if key in known)
    bad = [key for key in keys if key in images or key not in known]
    if bad or not keys:
        low_dim = ", ".join(sorted(set(known) - set(images)))
        raise file.error(
            f"keys: {', '.join(bad) or 'the file has none of the default keys'}: expected "
            f"low-dimensional observations ({low_dim}); images are not supported yet "
            f"({', '.join(images) or 'none here'})"
        )
    return keys


def _demo_columns(
    file: HDF5, parts: list[str], values: list[Floats], num_keys: int
) -> list[Floats]:
    """Observation, next observation, action, reward and done of one demonstration.

    parts, values: names and arrays.  Without next observations, the observation is returned twice.
    """
    obs = concatenate_columns(file.path, "obs", values[:num_keys])
    after = values[num_keys : 2 * num_keys] if len(parts) > num_keys + 3 else values[:num_keys]
    next_obs = concatenate_columns(file.path, "next_obs", after)
    for name, column, ndim in zip(parts[-3:], values[-3:], (2, 1, 1), strict=True):
        if column.ndim != ndim or len(column) != len(obs):
            raise file.error(f"{name}: expected a row per step, found {column.shape}")
    if len(obs) == 0:
        raise file.error("expected one or more steps in every demonstration, found none")
    return [obs, next_obs, *values[-3:]]
