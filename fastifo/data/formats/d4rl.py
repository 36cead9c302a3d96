"""D4RL's HDF5 files, read and written without the `d4rl` package.

Layout: flat columns with a row per step, `observations`, `actions`, `rewards`, `terminals`,
`timeouts`, and in Gym-MuJoCo files `next_observations`. `terminals` mark ends of the task,
`timeouts` ends by the time limit. The oldest files have no `timeouts`; their limit is 1000 steps.
"""

import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from fastifo.data.episodes import Episodes
from fastifo.data.formats.assemble import ReadResult, from_rows
from fastifo.data.formats.hdf5 import HDF5
from fastifo.utils.files import write_atomic

OLD_TIME_LIMIT = 1000
ENVIRONMENTS = {  # prefix of D4RL's name -> EnvPool's environment with the same observations
    "halfcheetah": "HalfCheetah-v4",
    "hopper": "Hopper-v4",
    "walker2d": "Walker2d-v4",
    "ant": "Ant-v3",
    "pen": "AdroitHandPen-v1",
    "door": "AdroitHandDoor-v1",
    "hammer": "AdroitHandHammer-v1",
    "relocate": "AdroitHandRelocate-v1",
}
NAME = re.compile(r"(?P<env>[a-z0-9]+)[-_](?P<kind>[a-z-]+?)-v(?P<version>\d+)")
HOST = "http://rail.eecs.berkeley.edu/datasets/offline_rl"


def read(path: Path) -> ReadResult:
    """All episodes of a D4RL file; `from_rows` says what is dropped.

    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.
    """
    file = HDF5(path)
    names = ["observations", "actions", "rewards", "terminals"]
    names += [name for name in ("timeouts", "next_observations") if file.has(name)]
    columns = dict(zip(names, file.numbers(names), strict=True))
    count = columns["observations"].shape[:1]
    for name in ("rewards", "terminals", "timeouts"):
        if name in columns and columns[name].shape == (*count, 1):
            columns[name] = columns[name][:, 0]
    terminal = columns["terminals"] != 0
    if "timeouts" in columns:
        timeout = columns["timeouts"] != 0
    elif terminal.shape == count:
        timeout = _time_limits(terminal)
    else:
        timeout = terminal  # `from_rows` refuses its shape
    return from_rows(
        path, columns["observations"], timeout, terminal, action=columns["actions"],
        next_obs=columns.get("next_observations"), reward=columns["rewards"],
        env_id=env_id_of(path.stem),
    )  # fmt: skip


def write(path: Path, episodes: Episodes, low: Tensor | None, high: Tensor | None) -> None:
    """Writes episodes in D4RL's layout, with `next_observations`, atomically.

    low, high: [A], the environment's action bounds, which actions are mapped to if both are known.
    Raises ValueError without actions or without one reward per transition, OSError naming the file.
    """
    import h5py

    if episodes.action is None or episodes.reward is None or episodes.reward.ndim != 1:
        raise ValueError(f"{path}: expected a background with actions and rewards to write")
    row = episodes.rows()
    columns = {
        "observations": episodes.obs[row],
        "next_observations": episodes.obs[row + 1],
        "actions": _in_bounds(episodes.action, low, high),
        "rewards": episodes.reward,
        "terminals": episodes.terminal,
        "timeouts": episodes.timeout,
    }

    def fill(temporary: Path) -> None:
        with open(temporary, "r+b", buffering=0) as raw:
            target = _Target(raw)
            with h5py.File(target, "w") as file:
                for name, column in columns.items():
                    file.create_dataset(name, data=column.numpy(), compression="gzip")
            if target.error is not None:
                raise target.error

    write_atomic(path, fill)


class _Target:
    """The file that the HDF5 library writes to; remembers the first error of a write.

    The library crashes where it cannot write what it must when a file is closed. After an error
    further writes are therefore dropped, and the caller raises the error afterwards.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self.raw = raw
        self.error: OSError | None = None
        self.place = self.size = 0

    def write(self, content: Any) -> int:
        """Writes all of `content`, or drops it after an error."""
        view = memoryview(content).cast("B")
        done = 0
        while done < len(view) and self.error is None:
            try:
                done += self.raw.write(view[done:])
            except OSError as error:
                self.error = error
        self.place += len(view)
        self.size = max(self.size, self.place)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Reads what was written; zeros where that was dropped."""
        view = memoryview(buffer).cast("B")
        view[:] = bytes(len(view))
        self.raw.seek(self.place)
        content = self.raw.read(len(view)) or b""
        view[: len(content)] = content
        self.place += len(view)
        self.raw.seek(self.place)
        return len(view)

    def read(self, size: int) -> bytes:
        """The next bytes; see `readinto`."""
        buffer = bytearray(size)
        self.readinto(buffer)
        return bytes(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves the place of the next read or write."""
        self.place = offset + (0, self.place, self.size)[whence]
        self.raw.seek(self.place)
        return self.place

    def tell(self) -> int:
        """The place of the next read or write."""
        return self.place

    def truncate(self, size: int | None = None) -> int:
        """Sets the size of the file."""
        self.size = self.place if size is None else size
        if self.error is None:
            try:
                self.raw.truncate(self.size)
            except OSError as error:
                self.error = error
        return self.size

    def flush(self) -> None:
        """Does nothing: `write_atomic` syncs the file."""


def _in_bounds(action: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    """Actions mapped from [-1, 1] to the environment's bounds."""
    if low is None or high is None:
        return action
    return low + 0.5 * (action + 1.0) * (high - low)


def _time_limits(terminal: np.ndarray) -> np.ndarray:
    """[N] bool, every 1000th row after a terminal or the start of the file."""
    ends = np.flatnonzero(terminal)
    first = np.concatenate([[0], ends + 1])
    row = np.arange(len(terminal))
    step = row - first[np.searchsorted(ends, row)]
    return np.asarray((step + 1) % OLD_TIME_LIMIT == 0)


def env_id_of(name: str) -> str | None:
    """EnvPool's name of the environment that a D4RL name starts with; None if it is unknown."""
    match = NAME.match(name)
    return ENVIRONMENTS.get(match["env"]) if match else None


def address(name: str) -> str:
    """URL of a dataset by name, as in hopper-medium-v2.  Raises ValueError for an unknown name."""
    match = NAME.fullmatch(name)
    if match is None or match["env"] not in ENVIRONMENTS:
        raise ValueError(
            f"d4rl:{name}: expected a file, or a name such as hopper-medium-v2 or door-human-v1"
        )
    env, kind, version = match["env"], match["kind"].replace("-", "_"), match["version"]
    if env in ("pen", "door", "hammer", "relocate"):
        return f"{HOST}/hand_dapg_v{version}/{env}-{kind}-v{version}.hdf5"
    return f"{HOST}/gym_mujoco_v{version}/{env}_{kind}-v{version}.hdf5"
