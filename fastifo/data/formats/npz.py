"""Plain `.npz` files: flat columns with a row per step, under D4RL's names.  Never unpickles.

The names in OBS (or the arrays named by `keys`), and optionally those in ACTION, REWARD and
NEXT_OBS. Where episodes end must be said by a column whose name is in `end_names`, or by an option.
"""

import contextlib
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.data.formats.actions import BOUND_NAMES, check_continuous, stated_bounds
from fastifo.data.formats.assemble import check_rows, concatenate_columns, from_rows
from fastifo.data.formats.end_names import in_order, role_of
from fastifo.data.formats.ends import EACH_ROW, WHOLE_FILE, find_ends
from fastifo.data.formats.limits import read_limit
from fastifo.data.formats.options import DEFAULTS, ReadOptions
from fastifo.data.formats.source import Floats, ReadResult, Source
from fastifo.utils.files import UNREADABLE

OBS = ("observations", "obs")
ACTION = ("actions", "action", "acts")
REWARD = ("rewards", "reward", "rews")
NEXT_OBS = (
    "next_observations", "next_obs", "new_obs", "obs_next", "next_observation", "next_states",
)  # fmt: skip


class NPZ:
    """The arrays of one file, each read on demand.

    Raises FileNotFoundError, or ValueError naming the file if it is not a valid .npz file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.budget = read_limit(path, ".npz")  # bytes that may still be read
        self.kinds: dict[str, str] = {}  # NumPy's letter for the kind of each array read
        try:
            with zipfile.ZipFile(path) as file:
                self.names = [name.removesuffix(".npy") for name in file.namelist()]
        except UNREADABLE as error:
            raise self.error(f"not a valid .npz file ({error})") from None

    def error(self, reason: str) -> ValueError:
        """An error that names the file, to be raised."""
        return ValueError(f"{self.path}: {reason}")

    def first(self, names: tuple[str, ...]) -> Floats | None:
        """The first of these arrays that the file has, as float32; None if it has none."""
        name = next((name for name in names if name in self.names), None)
        return None if name is None else self.numbers(name)

    def numbers(self, name: str, dtype: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
        """One array as `dtype`, in its shape.

        Raises ValueError naming the file and the array if it is damaged, does not hold numbers, or
        is larger than this machine, or a valid file of this size, can hold.
        """
        try:
            with zipfile.ZipFile(self.path) as file, file.open(f"{name}.npy") as member:
                size = file.getinfo(f"{name}.npy").file_size
                version = np.lib.format.read_magic(member)
                read_header = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, fortran, stored = read_header(member)
                count = math.prod(shape)
                if stored.kind not in "fiub" or min(shape, default=1) < 0:
                    raise self.error(f"{name}: expected numbers, found dtype {stored}")
                self.kinds[name] = stored.kind
                self.budget -= count * max(stored.itemsize, 4)
                if count * stored.itemsize > size or self.budget < 0:
                    raise self.error(
                        f"{name}: declares {count} values, more than a file of this size can hold, "
                        "or than half of the free memory"
                    )
                content = member.read(count * stored.itemsize)
                if len(content) != count * stored.itemsize or member.read(1):
                    raise self.error(f"{name}: expected {count} values, found more or fewer")
        except (*UNREADABLE, KeyError, TypeError, SyntaxError) as error:
            if isinstance(error, ValueError) and str(error).startswith(str(self.path)):
                raise
            raise self.error(f"{name}: not a valid array ({error})") from None
        with np.errstate(over="ignore", invalid="ignore"):
            flat = np.frombuffer(content, stored).astype(dtype)
        return flat.reshape(shape, order="F" if fortran else "C")


def read(path: Path, options: ReadOptions = DEFAULTS) -> ReadResult:
    """The episodes of an .npz file; `find_ends` and `from_rows` say what is dropped.

    options: `keys` are arrays to concatenate as the observation, in this order.
    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.
    """
    file = NPZ(path)
    keys = options.keys or (next((n for n in OBS if n in file.names), OBS[0]),)
    if not set(keys) <= set(file.names):
        raise file.error(
            f"expected arrays {', '.join(keys)}, found {', '.join(file.names)}; name the arrays of "
            "the observation with ,keys=a+b"
        )
    obs = concatenate_columns(path, "observations", [file.numbers(key) for key in keys])
    count = check_rows(path, obs)
    action, reward, next_obs = (file.first(names) for names in (ACTION, REWARD, NEXT_OBS))
    arrays = [name for pair in BOUND_NAMES for name in pair if name in file.names]
    source = Source(
        path,
        options,
        env_kwargs={"max_episode_steps": options.max_steps} if options.max_steps else {},
        bounds=stated_bounds({name: file.numbers(name) for name in arrays}),
    )
    if action is not None:
        name = next(name for name in ACTION if name in file.names)
        check_continuous(source, name, file.kinds[name], action)
    if reward is not None and reward.shape == (count, 1):
        reward = reward[:, 0]
    ends = find_ends(
        path, _end_columns(file, options, count), count, options, has_next_obs=next_obs is not None
    )
    return from_rows(source, obs, ends, next_obs=next_obs, action=action, reward=reward)


def _end_columns(file: NPZ, options: ReadOptions, count: int) -> dict[str, NDArray[Any]]:
    """The columns that say, or may say, where episodes end, and those that the user names.

    count: rows of the file.  Raises ValueError for one that the file lacks.
    """
    columns = {}
    for name in in_order(file.names):
        if role_of(name):
            columns[name] = file.numbers(name, np.float64)
        else:  # by its name it could be anything
            with contextlib.suppress(ValueError):
                values = file.numbers(name, np.float64)
                if values.shape in ((count,), (count, 1)):
                    columns[name] = values
    for option in ("ends", "terminals"):
        name = getattr(options, option)
        if name in ("", WHOLE_FILE, EACH_ROW):
            continue
        if name not in file.names:
            known = ", ".join(file.names)
            raise file.error(f"{option}: expected one of {known}, found {name}")
        columns.setdefault(name, file.numbers(name, np.float64))
    return columns
