"""`fastifo.load`: a dataset from a file or a spec, or from two, an expert's and a background's.

The docstring of `load` is the reference for the spec grammar, hence its length.
"""

import dataclasses
from pathlib import Path
from typing import Any, Protocol

from fastifo.data.dataset import Dataset, load_dataset
from fastifo.data.download import fetch
from fastifo.data.episodes import Episodes
from fastifo.data.formats import d4rl, minari, npz, robomimic
from fastifo.data.formats.actions import from_unit, to_unit
from fastifo.data.formats.detect import kind_of
from fastifo.data.formats.options import FILE_OPTIONS, as_bound, parse_options, split_spec
from fastifo.data.formats.robosuite import check_same_layout
from fastifo.data.formats.source import ReadResult
from fastifo.utils.ambient import standard_torch
from fastifo.utils.records import same

NO_ENV = "none"  # as `env_id`


class Builder(Protocol):
    """Generates the dataset of a spec such as sibench:Hopper-v4/d=5, or opens it from the cache."""

    def __call__(self, spec: str, /, *, progress: bool) -> Dataset: ...


BUILDERS: dict[str, Builder] = {}  # kind of spec -> its builder


def register(kind: str, build: Builder) -> None:
    """Makes `load` call `build` for specs that start with `kind:`."""
    BUILDERS[kind] = build


@standard_torch()
def load(
    spec: str | Path | None = None,
    *,
    expert: str | Path | None = None,
    background: str | Path | None = None,
    env_id: str | None = None,
    action_low: Any = None,
    action_high: Any = None,
    clip_actions: bool = False,
    progress: bool = True,
) -> Dataset:
    """Reads, downloads or generates a dataset.

    spec: where the dataset comes from, in the grammar below.
    expert, background: two specs instead of one. The expert's episodes are the expert part of the
        first, or its background part if it has no other; their rewards are dropped, and actions
        are kept for the privileged method `sqil`. The background is the background part of the
        second. Both must have the same observation width and, unless `env_id` is given, the same
        environment. Without `expert`, `background` is the same as `spec`.
    env_id: the environment's id in EnvPool or Gymnasium; replaces the one that the source names.
        "none" is no environment: nothing can be evaluated.
    action_low, action_high: bounds of the environment's actions, each a number or [A]; they
        replace those that a file of another format states. Actions are mapped from them to [-1, 1].
    clip_actions: accept files of which more than 0.1 % of the actions have to be clipped.
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
        robosuite:<file>[,...]             robosuite's own demonstrations, replayed by it
    with these options for the last five:
        episodes=<n>          only the first n episodes of the file; all kinds
        keys=<a>+<b>          observations to concatenate, in this order; minari, robomimic and npz
        cameras=<a>+<b>       whose frames to read, for policies that see; minari and robomimic
        filter=<mask>         only the demonstrations listed in mask/<mask>; robomimic
        object_layout=1.5     `object` as in robosuite 1.5, or 1.4; robomimic and robosuite
        max_steps=<n>         the task's time limit; d4rl, npz and minari
        ends=<column>         a column that marks the last row of every episode; `file`: the file is
                              one episode; `rows`: each row is one, as in a shuffled buffer; d4rl
                              and npz
        terminals=<column>    a column that marks ends of the task; d4rl and npz
        dones=terminal        ends that the file does not tell apart are the task's (terminal) or
              timeout         the time limit's (timeout); d4rl, npz and robomimic
        action_low=<x>[+...]  as the argument, one number or one for each dimension; all kinds
        action_high=<x>[+...]
        clip=true             as `clip_actions`; all kinds

    d4rl: a name such as hopper-medium-v2 (Gym-MuJoCo) or door-human-v1 (Adroit) is downloaded once
        to the cache, which needs the package pooch (pip install 'fastifo[download]'). `env_id` and
        the time limit follow from the name of one of D4RL's own datasets.
    minari: a dataset's folder, or its id below $MINARI_DATASETS_PATH (~/.minari/datasets by
        default). Dictionary observations need `keys`. The environment with its settings, the
        action bounds and the reference returns of the score come from metadata.json.
    robomimic: the default keys are object, robot0_eef_pos, robot0_eef_quat and
        robot0_gripper_qpos, as far as they exist, with cameras without object. Frames are those of
        <camera>_image. The environment is that of env_args.
    npz: `observations` (or `obs`, or the arrays named by `keys`), [N, D], and optionally `actions`,
        `rewards`, `next_observations`, `action_low` and `action_high`.

    The packages d4rl, minari, robomimic and gym are not needed. Only observations and the ends of
    episodes have to be in a file.

    Ends of episodes in the flat layouts, d4rl and npz. They come from any of the columns
    `terminals` (or `terminations`), `timeouts` (`truncations`), `dones`, `episode_terminals`,
    `episode_ends`, `episode_starts`, `episode_lengths`, `episode_ids`, `masks` and `discounts`
    (`data/formats/end_names.py` has all names), and from `next_observations` that differ from the
    next row's observation, as in a replay buffer that wrapped around. A file that says nothing of
    its ends is refused, and so is one with `dones` only, or `terminals` only, unless its time limit
    is known or an option says what they mean; one with a column that may mark ends under an unknown
    name; and one whose next observations differ in more than half of the rows.

    What is kept. Minari stores T + 1 observations for T steps, and every transition is kept. In the
    other layouts an episode ends where the file says so and at its last row; all ends but terminals
    count as timeouts. If the file has next observations, all transitions are kept, and the last one
    before a timeout has its true next observation. If it has none, or they are fillers or the next
    episode's first observation, that transition is dropped; the last transition before a terminal
    is kept with its own observation as the next one, which no method bootstraps from. A terminal
    state is never paired with the first state of the next episode.

    What is changed or dropped is counted in `info["notes"]`; `Dataset.summary`, `fastifo data
    inspect` and `fastifo train` print it. Actions outside their bounds, or outside [-1, 1] if the
    file states none, are clipped, and refused if they are more than 0.1 % of the transitions.
    Episodes with damaged or missing values are dropped, and the file is refused if they are more
    than half. Actions of a Discrete space are refused, as are whole numbers of at least 0 whose
    bounds nobody states.

    Untrusted files. A separate process reads HDF5 files, limited in memory (four times the file's
    size plus 100 MiB), in values (half of the free memory) and in processor time (4 s per object or
    block of rows). Links to other files, external storage and virtual datasets are refused. .npz
    files are never unpickled. Observations that are not finite or exceed 1e8, and actions that are
    not finite or exceed 10 on the scale [-1, 1], are damaged.

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
        "action_low": as_bound("action_low", action_low),
        "action_high": as_bound("action_high", action_high),
        "clip": bool(clip_actions),
    }
    stated = {name: value for name, value in given.items() if value not in (None, False)}
    if expert is not None and background is not None:
        return _combine(expert, background, env_id, stated, progress)
    dataset = _load_one(background if spec is None else spec, stated, progress)
    return dataset if env_id is None else dataclasses.replace(dataset, env_id=_named(env_id))


def _combine(
    expert: str | Path,
    background: str | Path,
    env_id: str | None,
    stated: dict[str, Any],
    progress: bool,
) -> Dataset:
    """One source's expert episodes with another's background."""
    expert_is_pack, background_is_pack = _is_pack(expert), _is_pack(background)
    for_base = {} if background_is_pack and not expert_is_pack else stated
    base = _load_one(background, for_base, progress)
    source = _load_one(expert, {} if expert_is_pack else stated, progress)
    demos = source.expert or source.background
    if demos.obs_dim != base.obs_dim:
        raise ValueError(
            f"expert {expert}: observations have width {demos.obs_dim}, those of the background "
            f"{background} {base.obs_dim}; both must come from the same observation space"
        )
    if source.env_id and base.env_id and source.env_id != base.env_id and env_id is None:
        raise ValueError(
            f"expert {expert} is from {source.env_id}, background {background} from {base.env_id}; "
            "if they share observations, name the environment to evaluate in with env_id"
        )
    check_same_layout((expert, source.env_id, source.env_kwargs), (base.env_id, base.env_kwargs))
    settings, others = base.env_kwargs or source.env_kwargs, source.env_kwargs
    info: dict[str, Any] = {"background": dict(base.info), "expert": dict(source.info)}
    differing = [name for name in {*settings, *others} if settings.get(name) != others.get(name)]
    if others and differing:
        info["notes"] = {"settings of the expert's environment that differ": len(differing)}
    return dataclasses.replace(
        base,
        expert=_rescaled(demos.without_rewards(), source, base),
        env_id=_named(env_id or base.env_id or source.env_id),
        env_kwargs=settings,
        reference_returns=base.reference_returns or source.reference_returns,
        info=info,
    )


def _named(env_id: str | None) -> str | None:
    return None if env_id == NO_ENV else env_id


def _rescaled(demos: Episodes, source: Dataset, base: Dataset) -> Episodes:
    """The expert's episodes with their actions on the background's scale."""
    bounds = [(d.action_low, d.action_high) for d in (source, base)]
    if demos.action is None or same(*bounds) or demos.action.shape[1] != base.action_dim:
        return demos
    action = demos.action
    for convert, (low, high) in zip((from_unit, to_unit), bounds, strict=True):
        if low is not None and high is not None:
            action = convert(action, low, high)
    return dataclasses.replace(demos, action=action)


def _is_pack(spec: str | Path) -> bool:
    """Whether a spec names no file of another format."""
    text = str(spec)
    return text.partition(":")[0] not in FILE_OPTIONS and not kind_of(Path(split_spec(text)[0]))


def _load_one(spec: str | Path | None, stated: dict[str, Any], progress: bool) -> Dataset:
    """stated: options that were given as arguments of `load`."""
    if not isinstance(spec, str | Path):
        raise TypeError(
            f"dataset: expected a Dataset, a file's path or a spec, found {type(spec).__name__}"
        )
    text = str(spec)
    kind, colon, argument = text.partition(":")
    if kind in FILE_OPTIONS:
        return _load_file(text, kind, argument, stated, progress)
    if stated and _is_pack(text):
        raise ValueError(
            f"{text!r}: {next(iter(stated))}: expected a file of another format; the actions of "
            "this dataset are in [-1, 1] already"
        )
    if kind in BUILDERS:
        return BUILDERS[kind](text, progress=progress)
    kind_of_file = kind_of(Path(split_spec(text)[0]).expanduser())
    if kind_of_file:
        return _load_file(text, kind_of_file, text, stated, progress)
    if colon and kind.isalnum() and not Path(text).exists():
        known = ", ".join([*BUILDERS, *FILE_OPTIONS])
        raise ValueError(f"{text!r}: unknown kind of dataset {kind!r}; known: {known}, or a file")
    if d4rl.is_name(text) and not Path(text).exists():
        raise FileNotFoundError(f"{text}: no such file; D4RL's dataset of this name is d4rl:{text}")
    return load_dataset(Path(text))


def _load_file(
    text: str, kind: str, argument: str, stated: dict[str, Any], progress: bool
) -> Dataset:
    """text: the spec, for errors.  argument: the part after `kind:`."""
    name, given = split_spec(argument)
    options = dataclasses.replace(parse_options(text, kind, given), **stated)
    path = Path(name).expanduser()
    if kind == "d4rl":
        known = ""
        if not path.exists() and d4rl.is_name(name):
            path, known = fetch(d4rl.address(name), f"{name}.hdf5", progress=progress), name
        result = d4rl.read(path, options, known)
    else:
        readers = {"minari": minari.read, "robomimic": robomimic.read, "npz": npz.read}
        result = readers[kind](path, options)
    return _as_dataset(text, result)


def _as_dataset(text: str, result: ReadResult) -> Dataset:
    """The episodes of a file as a background."""
    source = result.source
    info = {"spec": text} | {k: v for k, v in source.info.items() if k != "notes"}
    return Dataset(
        result.episodes,
        env_id=source.env_id,
        action_low=result.action_low,
        action_high=result.action_high,
        info=info | ({"notes": dict(result.notes)} if result.notes else {}),
        env_kwargs=dict(source.env_kwargs),
        reference_returns=source.reference_returns,
        obs_keys=source.obs_keys,
    )
