"""d3rlpy's datasets, version 2 (`ReplayBuffer.dump`), read without the package.

Layout: HDF5 with `observations_<k>`, `actions_<k>` and `rewards_<k>` of T rows, and the flag
`terminated_<k>`, for each episode k. The observation after an episode's last action is not stored.
Version 1 (`MDPDataset.dump`) has D4RL's columns with `episode_terminals`; the reader of `d4rl:`
reads it.
"""

from pathlib import Path

import numpy as np

from fastifo.data.formats.actions import check_continuous
from fastifo.data.formats.assemble import from_rows
from fastifo.data.formats.ends import Ends
from fastifo.data.formats.groups import Column, read_groups
from fastifo.data.formats.hdf5 import HDF5
from fastifo.data.formats.options import DEFAULTS, ReadOptions
from fastifo.data.formats.source import Bools, ReadResult, Source

NAMES = ("observations", "actions", "rewards", "terminated")
FLAG = "terminated"


def read(path: Path, options: ReadOptions = DEFAULTS) -> ReadResult:
    """The episodes of a d3rlpy file; `from_rows` says what is dropped.

    options: `dones` says what the last step of every episode is, whatever `terminated` says.
    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.
    """
    file = HDF5(path)
    numbers = sorted(
        int(name.removeprefix("observations_"))
        for name in file.children("")
        if name.removeprefix("observations_").isdecimal() and len(name) < 30
    )
    if not numbers:
        raise file.error("expected observations_0, observations_1, ..., found none")
    for number in numbers:  # a group for each episode, as in other formats
        for name in NAMES:
            if file.has(f"{name}_{number}"):
                entry = file.objects[f"{name}_{number}"]
                at = entry.get("at", f"{name}_{number}")
                file.objects[f"episode_{number}/{name}"] = entry | {"at": at}
    source = Source(path, options, env_kwargs=options.env_kwargs)
    columns = [
        Column("observations", ndim=(2,)),
        Column("actions", ndim=(1, 2)),
        Column("rewards", squeezed=True),
    ]
    groups = [f"episode_{number}" for number in numbers]
    episodes = read_groups(file, source, groups, columns)
    values = episodes.values
    if "observations" not in values:
        raise file.error("expected observations in every episode, found episodes without them")
    action = np.concatenate(values["actions"]) if "actions" in values else None
    if action is not None:
        kinds = file.kinds(f"{group}/actions" for group in groups)
        check_continuous(source, "actions", kinds, action)
    lengths = [len(part) for part in values["observations"]]
    last: Bools = np.zeros(sum(lengths), bool)
    last[np.cumsum(lengths) - 1] = True
    terminal = last & (options.dones == "terminal")
    notes = dict(episodes.notes)
    if not options.dones:
        flags = [f"{group}/{FLAG}" for group in episodes.groups]
        if not all(map(file.has, flags)):
            name = "ends of episodes counted as time limits, since the file has no terminated"
            notes[name] = len(flags)
        else:
            ended = [bool(flag.any()) for flag in file.numbers(flags)]
            terminal[np.cumsum(lengths) - 1] = ended
    reward = np.concatenate(values["rewards"]) if "rewards" in values else None
    obs = np.concatenate(values["observations"])
    return from_rows(source, obs, Ends(last, terminal, notes), action=action, reward=reward)
