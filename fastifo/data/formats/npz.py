"""Plain `.npz` files: flat columns of all steps under D4RL's names. Never unpickles.

`observations` or columns named by `keys`, and where they are there `actions`, `rewards`,
`terminals`, `timeouts`, `next_observations`, `episode_lengths` (steps of each episode).
"""

import math
import zipfile
from pathlib import Path

import numpy as np

from fastifo.data.formats.assemble import Floats, Foreign, from_rows, side_by_side
from fastifo.utils.files import UNREADABLE, readable_bytes


class NPZ:
    """Arrays of one file, each read when asked for.  Raises ValueError naming the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left = readable_bytes(path, ".npz")
        try:
            with zipfile.ZipFile(path) as file:
                self.names = [name.removesuffix(".npy") for name in file.namelist()]
        except UNREADABLE as error:
            raise self.fail(f"not a sound .npz file ({error})") from None

    def fail(self, reason: str) -> ValueError:
        return ValueError(f"{self.path}: {reason}")

    def numbers(self, name: str) -> Floats:
        """One array as float32."""
        try:
            with zipfile.ZipFile(self.path) as file, file.open(f"{name}.npy") as member:
                size = file.getinfo(f"{name}.npy").file_size
                version = np.lib.format.read_magic(member)
                header = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, fortran, dtype = header(member)
                count = math.prod(shape)
                if dtype.kind not in "fiub" or min(shape, default=1) < 0:
                    raise self.fail(f"{name}: expected numbers, found dtype {dtype}")
                self.left -= count * max(dtype.itemsize, 4)
                if count * dtype.itemsize > size or self.left < 0:
                    raise self.fail(f"{name}: says that it holds {count} numbers, more than it can")
                content = member.read(count * dtype.itemsize)
                if len(content) != count * dtype.itemsize or member.read(1):
                    raise self.fail(f"{name}: expected {count} numbers, found another count")
        except (*UNREADABLE, KeyError, TypeError, SyntaxError) as error:
            if isinstance(error, ValueError) and str(error).startswith(str(self.path)):
                raise
            raise self.fail(f"{name}: not a sound array ({error})") from None
        with np.errstate(over="ignore", invalid="ignore"):
            flat = np.frombuffer(content, dtype).astype(np.float32)
        return flat.reshape(shape, order="F" if fortran else "C")


def read(path: Path, keys: tuple[str, ...] = ()) -> Foreign:
    """keys: arrays joined as the observation, `observations` unless named."""
    file = NPZ(path)
    chosen = keys or (("observations",) if "observations" in file.names else ("obs",))
    missing = [key for key in chosen if key not in file.names]
    if missing:
        raise file.fail(
            f"expected arrays {', '.join(chosen)}, found {', '.join(file.names)}; name the "
            "observation's with ,keys=a+b"
        )
    obs = side_by_side(path, "observations", [file.numbers(key) for key in chosen])
    rest = {
        name: file.numbers(name) if name in file.names else None
        for name in ("actions", "rewards", "terminals", "timeouts", "next_observations")
    }
    flags = [rest[name] for name in ("terminals", "timeouts")]
    terminal, last = (np.zeros(len(obs), bool) if flag is None else flag != 0 for flag in flags)
    if "episode_lengths" in file.names:
        lengths = file.numbers("episode_lengths").ravel().astype(np.int64)
        if (lengths < 1).any() or lengths.sum() != len(obs):
            raise file.fail(
                f"episode_lengths: expected numbers of 1 and more with sum {len(obs)}, found "
                f"{lengths.tolist()[:5]}... with sum {lengths.sum()}"
            )
        last = last.copy()
        last[lengths.cumsum() - 1] = True
    return from_rows(
        path, obs, last, terminal, next_obs=rest["next_observations"], action=rest["actions"],
        reward=rest["rewards"],
    )  # fmt: skip
