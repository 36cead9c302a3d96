"""Minari's Arrow and Parquet datasets, read by pyarrow, without the `minari` package.

Layout: a folder for each episode, `<id>/data/<k>/part-*.arrow` (or .parquet), with a row for each
of T + 1 observations; the last row of `actions`, `rewards`, `terminations` and `truncations` is
padding. Observations of a Dict space are structures.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastifo.data.formats.arrow import Table
from fastifo.data.formats.assemble import check_count, concatenate_columns
from fastifo.data.formats.finish import DROPPED, check_share
from fastifo.data.formats.groups import EpisodeColumns
from fastifo.data.formats.source import Floats, Source
from fastifo.utils.text import leaves_of

SCALARS = ("rewards", "terminations", "truncations")


def read_episodes(source: Source) -> tuple[EpisodeColumns, set[str]]:
    """The columns `observations`, `actions` and SCALARS of the episodes, and the actions' kinds.

    source: `path` is the folder with the episodes' folders; its keys are entries of a Dict
    observation to concatenate.
    An episode that cannot be read, or has another width than the others, is dropped and counted.
    Raises ValueError naming the file and the first fault if too many would be; ImportError.
    """
    folders = sorted((p for p in source.path.iterdir() if p.name.isdecimal()), key=_number)
    if not folders:
        raise source.error("expected folders 0, 1, ... of episodes, found none")
    check_count(source, len(folders))
    chosen = folders[: source.options.episodes or None]
    parts: list[dict[str, Floats]] = []
    faults: list[str] = []
    kinds: set[str] = set()
    for folder in chosen:
        try:
            part, kind = _episode(source, folder)
        except ValueError as error:
            faults.append(str(error).removeprefix(f"{source.path}: "))
        else:
            parts.append(part)
            kinds.add(kind)
    shapes = [{name: array.shape[1:] for name, array in part.items()} for part in parts]
    usual = max(shapes, key=shapes.count, default={})
    faults += [f"expected columns {usual}, found {shape}" for shape in shapes if shape != usual]
    whole = [part for part, shape in zip(parts, shapes, strict=True) if shape == usual]
    if faults:
        check_share(source, len(faults), len(chosen), faults[0])
    values = {name: [part[name] for part in whole] for name in usual}
    notes = {DROPPED: len(faults)} if faults else {}
    names = [folder.name for folder in chosen]
    return EpisodeColumns(values, notes, names), kinds


def observation_names(source: Source, leaves: Sequence[str]) -> list[str]:
    """The columns that hold the observations.

    leaves: entries of a Dict observation, "a/b" in a nested one; none if it is a vector.
    Raises ValueError if the keys are missing, name something else, or name something twice.
    """
    known, keys = sorted(leaves), source.options.keys
    if known and not keys:
        raise source.error(
            f"observations are a dictionary of {', '.join(known)}; choose some with ,keys="
            f"{'+'.join(known[:2])}"
        )
    chosen = [leaves_of(key, known) for key in keys]
    if not all(chosen):
        raise source.error(
            f"keys: expected some of {', '.join(known) or 'none'}, the observations of the "
            f"dataset, found {'+'.join(keys)}"
        )
    names = [f"observations/{name}" for found in chosen for name in found]
    if len({*names}) < len(names):
        raise source.error(f"keys: expected each observation once, found {'+'.join(keys)}")
    return names or ["observations"]


def _episode(source: Source, folder: Path) -> tuple[dict[str, Floats], str]:
    """The columns of one episode.  Raises ValueError naming its file."""
    files = sorted(path for path in folder.glob("part-*") if path.is_file())
    if not files:
        raise source.error(f"{folder.name}: expected files part-*, found none")
    table = Table(files)
    names = observation_names(source, table.fields("observations"))
    if table.rows < 2:
        raise table.error(f"expected two or more rows, found {table.rows}")
    obs = [table.numbers(name) for name in names]
    part = {"observations": concatenate_columns(table.path, "observations", obs)}
    kind = "f"
    if "actions" in table.names:
        action = table.numbers("actions")
        kind = table.kinds["actions"]
        part["actions"] = (action[:, None] if action.ndim == 1 else action)[:-1]
    part |= {name: table.numbers(name).ravel()[:-1] for name in SCALARS if name in table.names}
    if len(np.unique([len(x) for name, x in part.items() if name != "observations"])) > 1:
        raise table.error("expected columns of one length")
    return part, kind


def _number(path: Path) -> int:
    return int(path.name)
