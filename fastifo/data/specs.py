"""One dataset spec: the file it names is read, or the set it describes is generated."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from fastifo.data.dataset import Dataset, load_dataset
from fastifo.data.download import fetch
from fastifo.data.formats import (
    d3rlpy,
    d4rl,
    imitation,
    lerobot,
    maniskill,
    minari,
    npz,
    robomimic,
    tables,
)
from fastifo.data.formats.detect import kind_of
from fastifo.data.formats.options import FILE_OPTIONS, ReadOptions, parse_options, split_spec
from fastifo.data.formats.source import ReadResult


class Builder(Protocol):
    """Generates the dataset of a spec such as sibench:Hopper-v4/d=5, or opens it from the cache."""

    def __call__(self, spec: str, /, *, progress: bool) -> Dataset: ...


BUILDERS: dict[str, Builder] = {}  # kind of spec -> its builder


def register(kind: str, build: Builder) -> None:
    """Makes `load` call `build` for specs that start with `kind:`."""
    BUILDERS[kind] = build


# Kind of file -> its reader.  d4rl also reads files by name; see `_load_file`.
READERS: dict[str, Callable[[Path, ReadOptions], ReadResult]] = {
    "d4rl": d4rl.read,
    "minari": minari.read,
    "robomimic": robomimic.read,
    "npz": npz.read,
    "csv": tables.read_csv,
    "parquet": tables.read_parquet,
    "lerobot": lerobot.read,
    "ogbench": npz.read_ogbench,
    "d3rlpy": d3rlpy.read,
    "imitation": imitation.read,
    "maniskill": maniskill.read,
}


def is_pack(spec: str | Path) -> bool:
    """Whether a spec names no file of another format."""
    text = str(spec)
    return text.partition(":")[0] not in FILE_OPTIONS and not kind_of(Path(split_spec(text)[0]))


def load_spec(spec: str | Path | None, stated: dict[str, Any], progress: bool) -> Dataset:
    """stated: options that were given as arguments of `load`."""
    if not isinstance(spec, str | Path):
        raise TypeError(
            f"dataset: expected a Dataset, a file's path or a spec, found {type(spec).__name__}"
        )
    text = str(spec)
    kind, colon, argument = text.partition(":")
    if kind in FILE_OPTIONS:
        return _load_file(text, kind, argument, stated, progress)
    others = [name for name in stated if name != "skip_bad"]
    if others and is_pack(text):
        raise ValueError(
            f"{text!r}: {others[0]}: expected a file of another format; the actions of "
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
    return load_dataset(Path(text).expanduser())


def _load_file(
    text: str, kind: str, argument: str, stated: dict[str, Any], progress: bool
) -> Dataset:
    """text: the spec, for errors.  argument: the part after `kind:`."""
    unknown = [option for option in stated if option not in FILE_OPTIONS[kind]]
    if unknown:
        raise ValueError(
            f"{text!r}: {unknown[0]}: not an option of {kind} files; known: "
            f"{', '.join(FILE_OPTIONS[kind])}"
        )
    name, given = split_spec(argument)
    options = dataclasses.replace(parse_options(text, kind, given), **stated)
    path = Path(name).expanduser()
    if kind == "d4rl" and not path.exists() and d4rl.is_name(name):
        path = fetch(d4rl.address(name), f"{name}.hdf5", progress=progress)
        result = d4rl.read(path, options, name)
    else:
        result = READERS[kind](path, options)
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
