"""`.npz` files: flat columns with a row per step, or imitation's trajectories.  Never unpickles.

`flat.py` has the names of the columns.
"""

import dataclasses
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.data.formats.flat import read_columns
from fastifo.data.formats.limits import read_limit
from fastifo.data.formats.options import DEFAULTS, ReadOptions
from fastifo.data.formats.source import ReadResult
from fastifo.utils.files import UNREADABLE


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
    """The episodes of an .npz file of flat columns; see `read_columns`.

    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.
    """
    return read_columns(NPZ(path), options)


def read_ogbench(path: Path, options: ReadOptions = DEFAULTS) -> ReadResult:
    """The trajectories of an OGBench file.

    Its `terminals` mark the last row of every trajectory, which is its final observation with an
    action that means nothing. They are ends by the time limit: no task is given.
    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.
    """
    file = NPZ(path)
    if "terminals" not in file.names:
        raise file.error(f"expected OGBench's terminals, found {', '.join(file.names)}")
    return read_columns(file, dataclasses.replace(options, dones="timeout"))
