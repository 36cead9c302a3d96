"""`fastifo.load`: a dataset by file or by spec, or one of an expert's and a background's."""

import dataclasses
from pathlib import Path
from typing import Protocol

from fastifo.data.dataset import Dataset, load_dataset
from fastifo.data.download import fetch
from fastifo.data.formats import d4rl, minari, npz, robomimic
from fastifo.data.formats.assemble import Foreign

OPTIONS = {  # of foreign kinds, written kind:file,option=value
    "d4rl": ("episodes",),
    "minari": ("episodes", "keys"),
    "robomimic": ("episodes", "keys", "filter"),
    "npz": ("episodes", "keys"),
}


class Builder(Protocol):
    """Builds, or opens from the cache, the dataset of a spec such as sibench:Hopper-v4/d=5."""

    def __call__(self, spec: str, /, *, progress: bool) -> Dataset: ...


BUILDERS: dict[str, Builder] = {}  # kind of spec -> what builds its dataset


def register(kind: str, build: Builder) -> None:
    """Makes `load` understand specs that start with `kind:`."""
    BUILDERS[kind] = build


def load(
    spec: str | Path | None = None,
    *,
    expert: str | Path | None = None,
    background: str | Path | None = None,
    env_id: str | None = None,
    progress: bool = True,
) -> Dataset:
    """A dataset by one spec, or from an expert's and a background's.

    spec: a file that `Dataset.save` wrote, or
    sibench:<env>/d=<n>[,episodes=<n>][,seed=<n>][,demos=<n>][,...], made once and cached,
    bimodal:<env>/expert=<n>[,total=1000][,seed=<n>][,...], made once and cached,
    d4rl:<file or name>, minari:<folder or id>[,keys=<a>+<b>], npz:<file>[,keys=<a>+<b>],
    robomimic:<file>[,filter=<mask>][,keys=<a>+<b>]; these also take ,episodes=<first n>.
    expert, background: specs too; the expert's observations alone are used, and of a file with
    both parts the part that is asked for.  env_id: EnvPool's name, where the files don't say it.
    Raises FileNotFoundError, ValueError or TypeError naming what is wrong with the spec or the
    file, ImportError or OSError where a download lacks pooch or the network.
    """
    if spec is not None:
        if expert is not None or background is not None:
            raise ValueError("dataset: expected one spec, or expert= and background=, found both")
        whole = _load_one(spec, progress)
        return whole if env_id is None else dataclasses.replace(whole, env_id=env_id)
    if background is None:
        raise ValueError("background: expected a file or a spec, found none")
    base = _load_one(background, progress)
    if expert is None:
        return base if env_id is None else dataclasses.replace(base, env_id=env_id)
    shown = _load_one(expert, progress)
    demos = shown.expert or shown.background
    if demos.obs_dim != base.obs_dim:
        raise ValueError(
            f"expert {expert}: observations are {demos.obs_dim} wide, those of the background "
            f"{background} {base.obs_dim}; both must come from the same observation space"
        )
    if shown.env_id and base.env_id and shown.env_id != base.env_id and env_id is None:
        raise ValueError(
            f"expert {expert} is of {shown.env_id}, background {background} of {base.env_id}; "
            "name the environment to evaluate in with env_id if they share observations"
        )
    return dataclasses.replace(
        base,
        expert=demos.without_rewards(),
        env_id=env_id or base.env_id or shown.env_id,
        info={"background": dict(base.info), "expert": dict(shown.info)},
    )


def _load_one(spec: str | Path, progress: bool) -> Dataset:
    if not isinstance(spec, str | Path):
        found = type(spec).__name__
        raise TypeError(f"dataset: expected a Dataset, a file's path or a spec, found {found}")
    text = str(spec)
    kind, colon, rest = text.partition(":")
    if kind in BUILDERS:
        return BUILDERS[kind](text, progress=progress)
    if kind in OPTIONS:
        return _foreign(text, kind, rest, progress)
    if colon and kind.isalnum() and not Path(text).exists():
        known = ", ".join([*BUILDERS, *OPTIONS])
        raise ValueError(f"{text!r}: unknown kind of dataset {kind!r}; known: {known}, or a file")
    return load_dataset(Path(text))


def _foreign(text: str, kind: str, rest: str, progress: bool) -> Dataset:
    name, *given = rest.split(",")
    values: dict[str, str] = {}
    for option in given:
        key, equals, value = option.partition("=")
        if not equals or not value or key not in OPTIONS[kind]:
            raise ValueError(
                f"{text!r}: unknown option {option!r}; known: {', '.join(OPTIONS[kind])}"
            )
        values[key] = value
    count = values.get("episodes", "0")
    if not count.isdigit():
        raise ValueError(f"{text!r}: episodes must be a number, found {count!r}")
    keys = tuple(key for key in values.get("keys", "").split("+") if key)
    path = Path(name).expanduser()
    if kind == "d4rl":
        if not path.exists() and d4rl.NAME.fullmatch(name):
            path = fetch(d4rl.address(name), f"{name}.hdf5", progress=progress)
        found = d4rl.read(path)
    elif kind == "minari":
        found = minari.read(path, keys)
    elif kind == "robomimic":
        found = robomimic.read(path, keys, values.get("filter", ""))
    else:
        found = npz.read(path, keys)
    return _as_dataset(text, found, int(count))


def _as_dataset(text: str, found: Foreign, count: int) -> Dataset:
    episodes = found.episodes
    if count:
        if count > episodes.num_episodes:
            raise ValueError(f"{text!r}: it holds {episodes.num_episodes} episodes, not {count}")
        episodes = episodes.take(range(count))
    info = {"spec": text} | ({"notes": dict(found.notes)} if found.notes else {})
    return Dataset(episodes, env_id=found.env_id, info=info)
