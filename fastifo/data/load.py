"""`fastifo.load`: a dataset from a file or a spec, or from two, an expert's and a background's.

The docstring of `load` is the reference for the spec grammar, hence its length.
"""

import dataclasses
from pathlib import Path
from typing import Protocol

from fastifo.data.dataset import Dataset, load_dataset
from fastifo.data.download import fetch
from fastifo.data.formats import d4rl, minari, npz, robomimic
from fastifo.data.formats.assemble import ReadResult
from fastifo.utils.ambient import standard_torch

FILE_OPTIONS = {  # kind of file -> options in its spec, <kind>:<file>,<option>=<value>
    "d4rl": ("episodes",),
    "minari": ("episodes", "keys"),
    "robomimic": ("episodes", "keys", "filter"),
    "npz": ("episodes", "keys"),
}
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
    progress: bool = True,
) -> Dataset:
    """Reads, downloads or generates a dataset.

    spec: where the dataset comes from, in the grammar below.
    expert, background: two specs instead of one. The expert's episodes are the expert part of the
        first, or its background part if it has no other; their rewards are dropped, and actions
        are kept for the privileged method `sqil`. The background is the background part of the
        second. Both must have the same observation width and, unless `env_id` is given, the same
        environment. Without `expert`, `background` is the same as `spec`.
    env_id: EnvPool's name of the environment; replaces the one that the source names. "none" is
        no environment: nothing can be evaluated.
    progress: whether to show a progress bar while data are downloaded or generated.

    A spec is one of

        <file>                             a pack, written by `Dataset.save` or `fastifo data`
        sibench:<env>/d=<n>[,...]          generated once and cached; for the options see
                                           `fastifo.benchmarks.sibench.SIBenchSpec`
        bimodal:<env>/expert=<n>[,...]     generated once and cached; for the options see
                                           `fastifo.benchmarks.bimodal.BimodalSpec`
        d4rl:<file or name>[,...]          D4RL's HDF5 layout
        minari:<folder or id>[,...]        a Minari dataset
        robomimic:<file>[,...]             robomimic's HDF5 layout, low-dimensional observations
        npz:<file>[,...]                   NumPy arrays under D4RL's names

    with these options for the last four:

        episodes=<n>     only the first n episodes of the file; all kinds
        keys=<a>+<b>     observations to concatenate, in this order; minari, robomimic and npz
        filter=<mask>    only the demonstrations listed in mask/<mask>; robomimic

    d4rl: a name such as hopper-medium-v2 (Gym-MuJoCo) or door-human-v1 (Adroit) is downloaded once
        to the cache, which needs the package pooch (pip install 'fastifo[download]'). `env_id`
        follows from the name. Files without `timeouts` get a time limit of 1000 steps.
    minari: a dataset's folder, or its id below $MINARI_DATASETS_PATH (~/.minari/datasets by
        default). Dictionary observations need `keys`. `env_id` comes from metadata.json.
    robomimic: the default keys are object, robot0_eef_pos, robot0_eef_quat and
        robot0_gripper_qpos, as far as they exist. Images are not supported.
    npz: `observations` (or `obs`, or the arrays named by `keys`), [N, D], and optionally `actions`,
        `rewards`, `terminals`, `timeouts`, `next_observations` and `episode_lengths`.

    The packages d4rl, minari, robomimic and gym are not needed.

    What is kept. Minari stores T + 1 observations for T steps, and every transition is kept. In the
    other layouts an episode ends at a terminal, at a timeout, at the last row, and where
    `next_observations` differs from the next row's observation, as in a replay buffer that wrapped
    around; all but terminals count as timeouts. If the file has next observations, all transitions
    are kept, and the last one before a timeout has its true next observation. If it has none, that
    transition is dropped; the last transition before a terminal is kept with its own observation as
    the next one, which no method bootstraps from. A terminal state is never paired with the first
    state of the next episode. Actions beyond [-1, 1] are clipped. `info["notes"]` counts everything
    that was dropped, repeated, cut or clipped; `Dataset.summary` and `fastifo data inspect` show
    it.

    Untrusted files. A separate process reads HDF5 files, limited in memory (four times the file's
    size plus 100 MiB) and in processor time (4 s per object or block of rows). Links to other
    files, external storage and virtual datasets are refused. .npz files are never unpickled.
    Observations and rewards that are not finite or exceed 1e8, and actions that are not finite or
    exceed 10, are refused as damaged.

    >>> load("sibench:Hopper-v4/d=5,episodes=200")
    >>> load("d4rl:hopper-medium-v2,episodes=100")
    >>> load("robomimic:lift.hdf5,keys=robot0_eef_pos+object,filter=train")
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
    if expert is not None and background is not None:
        return _combine(expert, background, env_id, progress)
    dataset = _load_one(background if spec is None else spec, progress)
    return dataset if env_id is None else dataclasses.replace(dataset, env_id=_named(env_id))


def _combine(
    expert: str | Path, background: str | Path, env_id: str | None, progress: bool
) -> Dataset:
    """One source's expert episodes with another's background."""
    base = _load_one(background, progress)
    source = _load_one(expert, progress)
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
    return dataclasses.replace(
        base,
        expert=demos.without_rewards(),
        env_id=_named(env_id or base.env_id or source.env_id),
        info={"background": dict(base.info), "expert": dict(source.info)},
    )


def _named(env_id: str | None) -> str | None:
    return None if env_id == NO_ENV else env_id


def _load_one(spec: str | Path | None, progress: bool) -> Dataset:
    if not isinstance(spec, str | Path):
        raise TypeError(
            f"dataset: expected a Dataset, a file's path or a spec, found {type(spec).__name__}"
        )
    text = str(spec)
    kind, colon, argument = text.partition(":")
    if kind in BUILDERS:
        return BUILDERS[kind](text, progress=progress)
    if kind in FILE_OPTIONS:
        return _load_file(text, kind, argument, progress)
    if colon and kind.isalnum() and not Path(text).exists():
        known = ", ".join([*BUILDERS, *FILE_OPTIONS])
        raise ValueError(f"{text!r}: unknown kind of dataset {kind!r}; known: {known}, or a file")
    return load_dataset(Path(text))


def _load_file(text: str, kind: str, argument: str, progress: bool) -> Dataset:
    """text: the spec, for errors.  argument: the part after `kind:`."""
    name, *options = argument.split(",")
    values = _parse_options(text, kind, options)
    keys = tuple(key for key in values.get("keys", "").split("+") if key)
    path = Path(name).expanduser()
    if kind == "d4rl":
        if not path.exists() and d4rl.NAME.fullmatch(name):
            path = fetch(d4rl.address(name), f"{name}.hdf5", progress=progress)
        result = d4rl.read(path)
    elif kind == "minari":
        result = minari.read(path, keys)
    elif kind == "robomimic":
        result = robomimic.read(path, keys, values.get("filter", ""))
    else:
        result = npz.read(path, keys)
    return _as_dataset(text, result, int(values.get("episodes", "0")))


def _parse_options(text: str, kind: str, options: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not value or key not in FILE_OPTIONS[kind]:
            raise ValueError(
                f"{text!r}: unknown option {option!r}; known: {', '.join(FILE_OPTIONS[kind])}"
            )
        values[key] = value
    if not values.get("episodes", "0").isdigit():
        raise ValueError(f"{text!r}: episodes: expected a number, found {values['episodes']!r}")
    return values


def _as_dataset(text: str, result: ReadResult, count: int) -> Dataset:
    """The first `count` episodes as a background; all of them if it is 0."""
    episodes = result.episodes
    if count > episodes.num_episodes:
        raise ValueError(
            f"{text!r}: episodes: expected at most {episodes.num_episodes}, the file's number of "
            f"episodes, found {count}"
        )
    if count:
        episodes = episodes.take(range(count))
    info = {"spec": text} | ({"notes": dict(result.notes)} if result.notes else {})
    return Dataset(episodes, env_id=result.env_id, info=info)
