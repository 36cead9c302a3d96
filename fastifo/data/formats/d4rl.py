"""D4RL's HDF5 files, read without the `d4rl` package.

Layout: flat columns of all steps, `observations`, `actions`, `rewards`, `terminals`, `timeouts`,
and in gym-mujoco's `next_observations`. `terminals` are true ends of the task, `timeouts` the
clock's; where the oldest files lack `timeouts`, the clock rang every 1000th step.
"""

import re
from pathlib import Path

import numpy as np
from torch import Tensor

from fastifo.data.episodes import Episodes
from fastifo.data.formats.assemble import Foreign, from_rows
from fastifo.data.formats.hdf5 import HDF5
from fastifo.utils.files import write_atomic

OLD_TIME_LIMIT = 1000
ENVIRONMENTS = {  # the beginning of D4RL's names -> EnvPool's, whose observations are the same
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


def read(path: Path) -> Foreign:
    """Raises FileNotFoundError, or ValueError naming the file and what is wrong."""
    file = HDF5(path)
    names = ["observations", "actions", "rewards", "terminals"]
    names += [name for name in ("timeouts", "next_observations") if file.has(name)]
    found = dict(zip(names, file.numbers(names), strict=True))
    count = found["observations"].shape[:1]
    for name in ("rewards", "terminals", "timeouts"):
        if name in found and found[name].shape == (*count, 1):
            found[name] = found[name][:, 0]
    terminal = found["terminals"] != 0
    if "timeouts" in found:
        timeout = found["timeouts"] != 0
    elif terminal.shape == count:
        timeout = _clock(terminal)
    else:
        timeout = terminal
    return from_rows(
        path, found["observations"], timeout, terminal, action=found["actions"],
        next_obs=found.get("next_observations"), reward=found["rewards"], env_id=env_of(path.stem),
    )  # fmt: skip


def write(path: Path, episodes: Episodes, low: Tensor | None, high: Tensor | None) -> None:
    """The background in this layout, `next_observations` included, actions in the task's bounds.

    What was there before stays until the new file is complete.  Raises ValueError where there are
    no actions or rewards.
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
        with h5py.File(temporary, "w") as file:
            for name, column in columns.items():
                file.create_dataset(name, data=column.numpy(), compression="gzip")

    write_atomic(path, fill)


def _in_bounds(action: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    """Actions of [-1, 1] as the environment takes them."""
    if low is None or high is None:
        return action
    return low + 0.5 * (action + 1.0) * (high - low)


def _clock(terminal: np.ndarray) -> np.ndarray:
    """Where 1000 steps have passed since the episode began."""
    ends = np.flatnonzero(terminal)
    begun = np.concatenate([[0], ends + 1])
    row = np.arange(len(terminal))
    since = row - begun[np.searchsorted(ends, row)]
    return np.asarray((since + 1) % OLD_TIME_LIMIT == 0)


def env_of(name: str) -> str | None:
    match = NAME.match(name)
    return ENVIRONMENTS.get(match["env"]) if match else None


def address(name: str) -> str:
    """Where D4RL keeps the file of a name such as hopper-medium-v2.  Raises ValueError."""
    match = NAME.fullmatch(name)
    if match is None or match["env"] not in ENVIRONMENTS:
        raise ValueError(
            f"d4rl:{name}: expected a file, or a name such as hopper-medium-v2 or door-human-v1"
        )
    env, kind, version = match["env"], match["kind"].replace("-", "_"), match["version"]
    if env in ("pen", "door", "hammer", "relocate"):
        return f"{HOST}/hand_dapg_v{version}/{env}-{kind}-v{version}.hdf5"
    return f"{HOST}/gym_mujoco_v{version}/{env}_{kind}-v{version}.hdf5"
