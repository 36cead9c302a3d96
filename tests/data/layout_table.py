"""The layouts that `layouts.py` writes and reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.layout_files import (
    BOX,
    Arrays,
    Truth,
    d4rl_ends,
    flat_file,
    linked,
    make,
    minari,
    next_step_reset,
    no_rewards,
    numbers,
    ogbench,
    ogbench_masks,
    own_file,
    robomimic,
    same_step_reset,
    sparse,
    starts,
    write_hdf5,
    write_npz,
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """One layout: how its file is written, and what reading it must give."""

    name: str
    kind: str  # of the spec
    write: Callable[[Path, Truth], None]
    file: str = "a.file"
    truth: Truth = field(default_factory=make)
    options: str = ""  # that the spec needs
    arguments: Arrays = field(default_factory=dict)  # of `load`
    refused: str = ""  # words of the error without these; empty: nothing is left open
    kept: str = "known"  # "all" transitions, or those with a "known" next observation
    timeouts: bool = False  # every end counts as a time limit
    episodes: tuple[int, ...] | None = None  # those that are read; None: all


WIDE = make(low=-2.0, high=2.0)
EQUAL = make((200,) * 4, (False,) * 4)
FALLS = make(terminal=(True,) * 5)
NO_FALLS = make(terminal=(False,) * 5)

LAYOUTS = (
    Layout("D4RL, complete", "d4rl", flat_file(write_hdf5, d4rl_ends, next_obs=True), kept="all"),
    Layout("D4RL, no next_observations", "d4rl", flat_file(write_hdf5, d4rl_ends)),
    Layout(
        "D4RL, only next_observations", "d4rl", flat_file(write_hdf5, lambda t: {}, next_obs=True),
        truth=NO_FALLS, kept="all",
    ),
    Layout(
        "D4RL's pen, no timeouts", "d4rl",
        flat_file(write_hdf5, lambda t: {"terminals": t.task}), file="pen-human-v0.hdf5",
        truth=make((100,) * 6, (False,) * 6),
    ),
    Layout(
        "D4RL's door by its first name, no timeouts", "d4rl",
        flat_file(write_hdf5, lambda t: {"terminals": t.task}),
        file="door-v0_demos_clipped.hdf5", truth=make((200, 90, 200), (False, True, False)),
    ),
    Layout(
        "unknown task, no timeouts", "d4rl", flat_file(write_hdf5, lambda t: {"terminals": t.task}),
        truth=EQUAL, options=",max_steps=200", refused="terminals alone",
    ),
    Layout(
        "D4RL, no rewards and terminals", "d4rl",
        flat_file(write_hdf5, lambda t: {"timeouts": t.last}, without=("rewards",)),
        truth=NO_FALLS,
    ),
    Layout(
        "d3rlpy 1, episode_terminals", "d4rl",
        flat_file(
            write_hdf5,
            lambda t: {
                "terminals": t.task.astype("f4"), "episode_terminals": t.last.astype("f4"),
                "discrete_action": False, "version": "1.0",
            },
        ),
    ),
    Layout(
        "terminations and truncations, HDF5", "d4rl",
        flat_file(
            write_hdf5, lambda t: {"terminations": t.task, "truncations": t.last & ~t.task}
        ),
    ),
    Layout(
        "terminations and truncations, npz", "npz",
        flat_file(write_npz, lambda t: {"terminations": t.task, "truncations": t.last & ~t.task}),
    ),
    Layout(
        "stable-baselines, episode_starts", "npz",
        flat_file(
            write_npz, lambda t: {"episode_starts": starts(t), "episode_returns": np.zeros(5)}
        ),
        timeouts=True,
    ),
    Layout(
        "dones that are the task's", "npz", flat_file(write_npz, lambda t: {"dones": t.last}),
        truth=FALLS, options=",dones=terminal", refused="whether the task or the time limit",
    ),
    Layout(
        "dones that are the time limit's", "d4rl",
        flat_file(write_hdf5, lambda t: {"dones": t.last}),
        options=",dones=timeout", refused="whether the task or the time limit", timeouts=True,
    ),
    Layout(
        "dones and a time limit", "npz", flat_file(write_npz, lambda t: {"dones": t.last}),
        truth=make((80, 40, 80, 7, 80), (False, True, False, True, False)),
        options=",max_steps=80", refused="whether the task or the time limit",
    ),
    Layout(
        "dones and timeouts", "npz",
        flat_file(write_npz, lambda t: {"dones": t.last, "timeouts": t.last & ~t.task}),
    ),
    Layout(
        "an end column of another name", "npz",
        flat_file(write_npz, lambda t: {"finished": t.last}),
        options=",ends=finished", refused="says where episodes end", timeouts=True,
    ),
    Layout(
        "episode_lengths and terminals", "npz",
        flat_file(
            write_npz,
            lambda t: {"episode_lengths": [len(r) for r in t.reward], "terminals": t.task},
        ),
    ),
    Layout(
        "episode_ends as positions", "npz",
        flat_file(
            write_npz,
            lambda t: {"episode_ends": np.flatnonzero(t.last) + 1, "terminals": t.task},
        ),
    ),
    Layout(
        "numbers of episodes", "npz",
        flat_file(write_npz, lambda t: {"episode_index": numbers(t), "terminals": t.task}),
    ),
    Layout(
        "jaxrl, masks and dones_float", "npz",
        flat_file(write_npz, lambda t: {"masks": 1.0 - t.task, "dones_float": t.last.astype("f4")}),
    ),
    Layout(
        "OGBench", "npz", ogbench, truth=EQUAL, options=",dones=timeout",
        refused="as in OGBench", kept="all", timeouts=True,
    ),
    Layout("OGBench with masks", "npz", ogbench_masks, kept="all", timeouts=True),
    Layout(
        "resets in the same step", "d4rl", same_step_reset,
    ),
    Layout("resets in the next step", "d4rl", next_step_reset, kept="all"),
    Layout("a sparse file", "d4rl", sparse, truth=make((20, 30), (True, False))),
    Layout("soft links within the file", "d4rl", linked),
    Layout("rewards that are NaN, HDF5", "d4rl", no_rewards(write_hdf5)),
    Layout("rewards that are NaN, npz", "npz", no_rewards(write_npz)),
    Layout(
        "a comma in the folder", "d4rl", flat_file(write_hdf5, d4rl_ends),
        file="lr=0.1,seed=3/a.hdf5",
    ),
    Layout("no kind, HDF5", "", flat_file(write_hdf5, d4rl_ends), file="a.hdf5"),
    Layout("no kind, npz", "", flat_file(write_npz, d4rl_ends), file="a.npz"),
    Layout(
        "fastifo's own D4RL file with bounds", "d4rl", own_file, truth=WIDE, kept="all",
    ),
    Layout(
        "actions beyond [-1, 1], bounds as arguments", "d4rl", flat_file(write_hdf5, d4rl_ends),
        truth=WIDE, arguments={"action_low": -2, "action_high": [2, 2]},
        refused="does not state their bounds",
    ),
    Layout(
        "actions beyond [-1, 1], bounds in the spec", "npz", flat_file(write_npz, d4rl_ends),
        truth=WIDE, options=",action_low=-2+-4,action_high=2",
        refused="does not state their bounds",
    ),
    Layout("Minari", "minari", minari(), kept="all"),
    Layout(
        "Minari with a Box", "minari", minari(action_space=BOX), truth=WIDE, kept="all",
    ),
    Layout(
        "Minari without a Box", "minari", minari(), truth=WIDE,
        options=",action_low=-2,action_high=2",
        refused="does not state their bounds", kept="all",
    ),
    Layout(
        "Minari with an incomplete episode", "minari", minari(damage=2), kept="all",
        episodes=(0, 1, 3, 4),
    ),
    Layout(
        "Minari, the first episodes, an incomplete one behind", "minari", minari(damage=4),
        options=",episodes=3", kept="all", episodes=(0, 1, 2),
    ),
    Layout(
        "Minari with a dictionary", "minari", minari(keyed=True), options=",keys=b+a",
        refused="observations are a dictionary", kept="all",
    ),
    Layout("robomimic", "robomimic", robomimic(), kept="all"),
    Layout(
        "robomimic without rewards, dones and next_obs", "robomimic", robomimic(full=False),
        timeouts=True,
    ),
    Layout(
        "robomimic with absolute actions", "robomimic", robomimic(), truth=WIDE,
        options=",action_low=-2,action_high=2", refused="does not state their bounds", kept="all",
    ),
    Layout(
        "robomimic, an unusual name in a mask", "robomimic",
        robomimic(mask=("take_3", "demo_1")), options=",filter=some", kept="all", episodes=(1, 3),
    ),
    Layout(
        "RLDS: is_first, is_last, is_terminal", "npz",
        flat_file(
            write_npz, lambda t: {"is_first": starts(t), "is_last": t.last, "is_terminal": t.task}
        ),
    ),
    Layout(
        "RLlib: eps_id, terminateds, truncateds", "d4rl",
        flat_file(
            write_hdf5,
            lambda t: {
                "eps_id": numbers(t), "terminateds": t.task, "truncateds": t.last & ~t.task,
            },
        ),
    ),
    Layout(
        "Acme: timeouts and discounts", "npz",
        flat_file(
            write_npz, lambda t: {"timeouts": t.last & ~t.task, "discounts": 0.99 * ~t.task}
        ),
    ),
    Layout(
        "ends of the task under an unknown name", "d4rl",
        flat_file(write_hdf5, lambda t: {"timeouts": t.last & ~t.task, "has_fallen": t.task}),
        options=",terminals=has_fallen", refused="has_fallen: may mark ends",
    ),
    Layout(
        "terminals that mark time limits too", "npz",
        flat_file(write_npz, lambda t: {"terminals": t.last, "timeouts": t.last & ~t.task}),
        options=",dones=timeout", refused="every end by the time limit is marked",
    ),
    Layout(
        "next observations that are zeros at ends", "d4rl",
        flat_file(
            write_hdf5,
            lambda t: d4rl_ends(t) | {
                "next_observations": t.flat(next_obs=True)["next_observations"] * ~t.last[:, None]
            },
        ),
    ),
    Layout(
        "bounds as arrays of other names", "d4rl",
        flat_file(
            write_hdf5,
            lambda t: d4rl_ends(t) | {"action_space_low": [-2, -2], "action_space_high": [2, 2]},
        ),
        truth=WIDE,
    ),
)  # fmt: skip
