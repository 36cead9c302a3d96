"""`fastifo.load`: a dataset from a file or a spec, or from two, an expert's and a background's.

The docstring of `load` is the reference for the spec grammar, hence its length.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastifo.data.combine import NO_ENV, load_all, named, with_expert
from fastifo.data.dataset import Dataset
from fastifo.data.formats.options import as_bound
from fastifo.data.specs import BUILDERS, register
from fastifo.utils.ambient import standard_torch

__all__ = ["BUILDERS", "NO_ENV", "load", "register"]

Specs = str | Path | Sequence[str | Path]


@standard_torch()
def load(
    spec: Specs | None = None,
    *,
    expert: Specs | None = None,
    background: Specs | None = None,
    env_id: str | None = None,
    action_key: str | None = None,
    action_low: Any = None,
    action_high: Any = None,
    clip_actions: bool = False,
    skip_bad: bool = False,
    progress: bool = True,
) -> Dataset:
    """Reads, downloads or generates a dataset.

    spec: where the dataset comes from, in the format below; or a list of specs, which are combined
        into one dataset. They must agree in observation and action sizes, environment and cameras.
    expert, background: a spec or list for each part, instead of `spec`. The expert's episodes are
        the expert part of the first, or its background part if it has no expert part; rewards are
        dropped, and actions are kept for privileged methods such as `sqil`. The background is the
        background part of the second. Both must have the same observation size and, unless
        `env_id` is given, the same environment. `background` alone is the same as
        `spec`.
    env_id: the environment's id in EnvPool or Gymnasium; replaces the one that the source names.
        "none" means no environment: policies cannot be evaluated.
    action_low, action_high: bounds of the environment's actions, each a number or [A]; they
        replace those that a file of another format states. Actions are mapped from them to [-1, 1].
    action_key: the column or HDF5 dataset that holds the actions, if not the format's usual one.
    clip_actions: accept files in which more than 0.1 % of the actions have to be clipped.
    skip_bad: accept files in which more than half of the episodes are damaged; of several files,
        leave out those that cannot be read. The notes count both.
    progress: whether to show a progress bar while data are downloaded or generated.

    A spec is one of

        <file>                             a pack, written by `Dataset.save` or `fastifo data`; or
                                           a file of another format whose layout is recognised
        sibench:<env>/d=<n>[,...]          generated once and cached; <env>/image: with images; for
                                           the options see
                                           `fastifo.benchmarks.sibench_spec.SIBenchSpec`
        bimodal:<env>/expert=<n>[,...]     generated once and cached; for the options see
                                           `fastifo.benchmarks.bimodal.BimodalSpec`
        d4rl:<file or name>[,...]          D4RL's HDF5 layout
        minari:<folder or id>[,...]        a Minari dataset
        robomimic:<file>[,...]             robomimic's HDF5 layout, low-dimensional observations
        npz:<file>[,...]                   NumPy arrays under D4RL's names
        csv:<file>[,...]                   a table with a header and a row per step
        parquet:<file>[,...]               the same, in Parquet or Arrow
        lerobot:<folder>[,...]             a LeRobot dataset, version 2 or 3
        ogbench:<file>[,...]               OGBench's trajectories
        d3rlpy:<file>[,...]                written by version 2 of d3rlpy
        imitation:<folder or file>[,...]   trajectories of the package imitation
        maniskill:<file>[,...]             ManiSkill's trajectories, with observations
        robosuite:<file>[,...]             robosuite's own demonstrations, replayed by it
    with these options for files (an unknown option's error lists those of its kind):
        episodes=<n>          only the first n episodes of the file; all kinds
        keys=<a>+<b>          observations to concatenate, in this order; where they have names
        action_key=<name>     as the argument
        cameras=<a>+<b>       cameras whose frames are read; lerobot, minari and robomimic
        filter=<mask>         only the demonstrations listed in mask/<mask>; robomimic
        object_layout=1.5     `object` as in robosuite 1.5, or 1.4; robomimic and robosuite
        max_steps=<n>         the task's time limit
        ends=<column>         a column that marks the last row of every episode; `file`: the file is
                              one episode; `rows`: each row is one, as in a shuffled buffer; in
                              flat layouts
        terminals=<column>    a column that marks ends of the task; in flat layouts
        dones=terminal        ends of unknown kind are ends of the task (terminal) or of the time
              timeout         limit (timeout)
        action_low=<x>[+...]  as the argument, one number or one for each dimension; all kinds
        action_high=<x>[+...]
        clip=true             as `clip_actions`; all kinds
        skip_bad=true         as the argument, of one file; all kinds

    d4rl: a name such as hopper-medium-v2 (Gym-MuJoCo) or door-human-v1 (Adroit) is downloaded once
        to the cache, which needs the package pooch (pip install 'fastifo[download]'). `env_id` and
        the time limit follow from the name of one of D4RL's own datasets.
    minari: a dataset's folder, or its id below $MINARI_DATASETS_PATH (~/.minari/datasets by
        default). Dictionary observations need `keys`. The environment with its settings, the
        action bounds and the reference returns of the score come from metadata.json.
    robomimic: the default keys are object, robot0_eef_pos, robot0_eef_quat and
        robot0_gripper_qpos, if they exist; with cameras, object is left out. Frames are read from
        <camera>_image, the environment from env_args.
    npz: `observations` (or `obs`, or the arrays named by `keys`), [N, D], and optionally `actions`,
        `rewards`, `next_observations`, `action_low` and `action_high`.
    lerobot: `cameras` are video features, with or without the prefix observation.images.; they need
        the package av (pip install 'fastifo[video]').
    csv, parquet: as npz; numbered columns such as obs_0, obs_1, ... form one column, obs.
    `fastifo/data/README.md` lists the layouts, their pitfalls, and how they are handled.

    The package that wrote a file is not needed; Parquet and Arrow files need pyarrow (pip install
    'fastifo[lerobot]'). A file must contain at least observations and the ends of episodes.

    Ends of episodes in the flat layouts: d4rl, npz, csv, parquet and lerobot. They come from
    any of the columns `terminals` (or `terminations`), `timeouts` (`truncations`), `dones`,
    `episode_terminals`, `episode_ends`, `episode_starts`, `episode_lengths`, `episode_ids`,
    `masks` and `discounts` (`data/formats/end_names.py` has all names), and from
    `next_observations` that differ from the next row's observation, as in a replay buffer that
    wrapped around. A file is rejected if it does not mark its ends; if it has only `dones` or only
    `terminals`, unless its time limit is known or an option says what they mean; if a column under
    an unknown name may mark ends; or if next observations differ in more than half of the rows.

    What is kept. Minari stores T + 1 observations for T steps, and every transition is kept. In the
    other layouts an episode ends where the file says so and at its last row; all ends but terminals
    count as timeouts. If the file has next observations, all transitions are kept, and the last one
    before a timeout has its true next observation. If it has none, or they are placeholders or the
    next episode's first observation, that transition is dropped. The last transition before a
    terminal is kept, with its own observation as the next one; no method bootstraps from it. A
    terminal state is never paired with the first state of the next episode.

    What is changed or dropped is counted in `info["notes"]`; `Dataset.summary`, `fastifo data
    inspect` and `fastifo train` print it. Actions outside their bounds, or outside [-1, 1] if the
    file states none, are clipped; the file is rejected if they are more than 0.1 % of the
    transitions. Episodes with damaged or missing values are dropped; the file is rejected if they
    are more than half. Discrete actions are rejected, and so are integers of at least 0 without
    bounds.

    Untrusted files. HDF5 files are read in a separate process with limits on memory (four times the
    file's size plus 100 MiB), values (half of the free memory) and CPU time (4 s per object or
    block of rows). Links to other files, external storage and virtual datasets are rejected.
    Parquet and Arrow files are read in the same way (20 s per file). .npz files are never
    unpickled. Observations count as damaged if they are not finite or exceed 1e8, and actions if
    they are not finite or exceed 10 on the scale [-1, 1].

    >>> load("sibench:Hopper-v4/d=5,episodes=200")
    >>> load("d4rl:hopper-medium-v2,episodes=100")
    >>> load("robomimic:lift.hdf5,keys=robot0_eef_pos+object,filter=train")
    >>> load("npz:rollouts.npz,dones=terminal", action_low=-2, action_high=2)
    >>> load(
    ...     expert="d4rl:hopper-expert-v2,episodes=10",
    ...     background="minari:mujoco/hopper/simple-v0",
    ...     env_id="Hopper-v4",  # the two sources name different versions
    ... )

    Raises FileNotFoundError if the file or folder does not exist; ValueError naming the spec or the
    file for an unknown kind or option, a damaged or unsuitable file, or an expert and a background
    that do not fit together; TypeError for arguments of another type; ImportError without pooch and
    OSError without a network if a download is needed.
    """
    if spec is not None and (expert is not None or background is not None):
        raise ValueError("dataset: expected one spec, or expert= and background=, found both")
    if spec is None and background is None:
        raise ValueError("background: expected a file or a spec, found none")
    given = {
        "action_key": action_key,
        "action_low": as_bound("action_low", action_low),
        "action_high": as_bound("action_high", action_high),
        "clip": bool(clip_actions),
        "skip_bad": bool(skip_bad),
    }
    stated = {name: value for name, value in given.items() if value not in (None, False)}
    if expert is not None and background is not None:
        return with_expert(_listed(expert), _listed(background), env_id, stated, progress)
    dataset = load_all(_listed(background if spec is None else spec), stated, progress, env_id)
    return dataset if env_id is None else dataclasses.replace(dataset, env_id=named(env_id))


def _listed(specs: Any) -> list[Any]:
    """One or several specs as a list; what is no spec is refused later."""
    return list(specs) if isinstance(specs, list | tuple) else [specs]
