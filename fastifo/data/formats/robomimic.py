"""robomimic's HDF5 files of low-dimensional observations, read without the `robomimic` package.

Layout: `data/demo_<k>` with `actions`, `rewards`, `dones`, `obs/<key>` and usually
`next_obs/<key>`; `mask/<name>` lists the demonstrations of a filter.
"""

from pathlib import Path

import numpy as np

from fastifo.data.formats.assemble import Floats, Foreign, from_rows, side_by_side
from fastifo.data.formats.hdf5 import HDF5

LOW_DIM = ("object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")


def read(path: Path, keys: tuple[str, ...] = (), mask: str = "") -> Foreign:
    """keys: observations joined in this order, robomimic's low-dimensional ones unless named.

    The last step of a demonstration is terminal where its `dones` says so.  Raises ValueError for
    image keys, which are not supported yet, and for a filter that the file lacks.
    """
    file = HDF5(path)
    demos = [name for name in file.children("data") if name.startswith("demo_")]
    if mask:
        known = file.children("mask")
        if mask not in known:
            raise file.fail(
                f"filter: expected one of {', '.join(sorted(known)) or 'none'}, found {mask!r}"
            )
        wanted = set(file.texts(f"mask/{mask}"))
        demos = [name for name in demos if name in wanted]
    if not demos:
        raise file.fail("expected groups data/demo_0, data/demo_1, ..., found none to read")
    demos.sort(key=lambda name: (len(name), name))
    there = file.children(f"data/{demos[0]}/obs")
    images = sorted(k for k in there if len(file.shape(f"data/{demos[0]}/obs/{k}")) > 2)
    keys = keys or tuple(key for key in LOW_DIM if key in there)
    bad = [key for key in keys if key in images or key not in there]
    if bad or not keys:
        low = ", ".join(sorted(set(there) - set(images)))
        raise file.fail(
            f"keys: {', '.join(bad) or 'none of the usual ones is there'}: expected "
            f"low-dimensional observations ({low}); images are not supported yet "
            f"({', '.join(images) or 'none here'})"
        )
    ahead = all(file.has(f"data/{name}/next_obs/{key}") for name in demos for key in keys)
    parts = [f"obs/{key}" for key in keys] + ([f"next_obs/{key}" for key in keys] if ahead else [])
    parts += ["actions", "rewards", "dones"]
    found = file.numbers([f"data/{name}/{part}" for name in demos for part in parts])
    columns: list[list[Floats]] = [[] for _ in range(5)]
    for first in range(0, len(found), len(parts)):
        own = found[first : first + len(parts)]
        columns[0].append(side_by_side(path, "obs", own[: len(keys)]))
        after = own[len(keys) : 2 * len(keys)] if ahead else own[: len(keys)]
        columns[1].append(side_by_side(path, "next_obs", after))
        for place, column in enumerate(own[-3:]):
            ndim = 2 if place == 0 else 1
            if column.ndim != ndim or len(column) != len(columns[0][-1]):
                raise file.fail(
                    f"{parts[place - 3]}: expected a row per step, found {column.shape}"
                )
            columns[2 + place].append(column)
        if len(columns[0][-1]) == 0:
            raise file.fail("expected one or more steps in every demonstration, found none")
    last = np.zeros(sum(map(len, columns[0])), dtype=bool)
    last[np.cumsum([len(x) for x in columns[0]]) - 1] = True
    try:
        obs, next_obs, action, reward, done = (np.concatenate(column) for column in columns)
    except ValueError as error:
        raise file.fail(f"demonstrations differ in width ({error})") from None
    # Some files mark every step after success as done: only the last step ends the episode.
    return from_rows(
        path, obs, last, last & (done != 0), next_obs=next_obs if ahead else None, action=action,
        reward=reward,
    )  # fmt: skip
