"""Plain `.npz` files: flat columns with a row per step, under D4RL's names.  Never unpickles.

`observations` (or `obs`, or the arrays named by `keys`), and optionally `actions`, `rewards`,
`terminals`, `timeouts`, `next_observations` and `episode_lengths` (steps of each episode).
"""

import math
import zipfile
from pathlib import Path

import numpy as np

from fastifo.data.formats.assemble import Floats, ReadResult, concatenate_columns, from_rows
from fastifo.utils.files import UNREADABLE, readable_bytes


class NPZ:
    """The arrays of one file, each read on demand.

    Raises FileNotFoundError, or ValueError naming the file if it is not a valid .npz file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.budget = readable_bytes(path, ".npz")  # bytes that may still be read
        try:
            with zipfile.ZipFile(path) as file:
                self.names = [name.removesuffix(".npy") for name in file.namelist()]
        except UNREADABLE as error:
            raise self.error(f"not a valid .npz file ({error})") from None

    def error(self, reason: str) -> ValueError:
        """An error that names the file, to be raised."""
        return ValueError(f"{self.path}: {reason}")

    def numbers(self, name: str) -> Floats:
        """One array as float32, in its shape.

        Raises ValueError naming the file and the array if it is damaged, does not hold numbers, or
        is larger than a file of this size can hold.
        """
        try:
            with zipfile.ZipFile(self.path) as file, file.open(f"{name}.npy") as member:
                size = file.getinfo(f"{name}.npy").file_size
                version = np.lib.format.read_magic(member)
                read_header = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, fortran, dtype = read_header(member)
                count = math.prod(shape)
                if dtype.kind not in "fiub" or min(shape, default=1) < 0:
                    raise self.error(f"{name}: expected numbers, found dtype {dtype}")
                self.budget -= count * max(dtype.itemsize, 4)
                if count * dtype.itemsize > size or self.budget < 0:
                    raise self.error(
                        f"{name}: declares {count} values, more than a file of this size can hold"
                    )
                content = member.read(count * dtype.itemsize)
                if len(content) != count * dtype.itemsize or member.read(1):
                    raise self.error(f"{name}: expected {count} values, found more or fewer")
        except (*UNREADABLE, KeyError, TypeError, SyntaxError) as error:
            if isinstance(error, ValueError) and str(error).startswith(str(self.path)):
                raise
            raise self.error(f"{name}: not a valid array ({error})") from None
        with np.errstate(over="ignore", invalid="ignore"):
            flat = np.frombuffer(content, dtype).astype(np.float32)
        return flat.reshape(shape, order="F" if fortran else "C")


def read(path: Path, keys: tuple[str, ...] = ()) -> ReadResult:
    """All episodes of an .npz file; `from_rows` says what is dropped.

    keys: arrays to concatenate as the observation, in this order; `observations` or `obs` if empty.
    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.
    """
    file = NPZ(path)
    keys = keys or (("observations",) if "observations" in file.names else ("obs",))
    if not set(keys) <= set(file.names):
        raise file.error(
            f"expected arrays {', '.join(keys)}, found {', '.join(file.names)}; name the arrays of "
            "the observation with ,keys=a+b"
        )
    obs = concatenate_columns(path, "observations", [file.numbers(key) for key in keys])
    columns = {
        name: file.numbers(name) if name in file.names else None
        for name in ("actions", "rewards", "terminals", "timeouts", "next_observations")
    }
    flags = (columns["terminals"], columns["timeouts"])
    terminal, last = (np.zeros(len(obs), bool) if flag is None else flag != 0 for flag in flags)
    if "episode_lengths" in file.names:
        lengths = file.numbers("episode_lengths").ravel().astype(np.int64)
        if (lengths < 1).any() or lengths.sum() != len(obs):
            raise file.error(
                f"episode_lengths: expected numbers of at least 1 with sum {len(obs)}, found "
                f"{lengths.tolist()[:5]}... with sum {lengths.sum()}"
            )
        last = last.copy()
        last[lengths.cumsum() - 1] = True
    return from_rows(
        path, obs, last, terminal, next_obs=columns["next_observations"],
        action=columns["actions"], reward=columns["rewards"],
    )  # fmt: skip
