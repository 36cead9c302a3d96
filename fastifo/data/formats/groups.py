"""HDF5 files with a group per episode: which columns they share, and which episodes are whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fastifo.data.formats.assemble import check_count
from fastifo.data.formats.finish import DROPPED, check_share
from fastifo.data.formats.hdf5 import HDF5
from fastifo.data.formats.source import Floats, Source


class Column(NamedTuple):
    """A dataset of every episode's group."""

    name: str  # within the group
    extra: int = 0  # rows beyond one per step
    ndim: tuple[int, ...] = (1,)  # dimensions that it may have
    squeezed: bool = False  # a trailing dimension of 1 is dropped
    reads: bool = True  # False: its shape is checked, its values are left in the file


@dataclass(frozen=True)
class EpisodeColumns:
    """The columns of the E episodes that are whole."""

    values: dict[str, list[Floats]]  # column -> [E] arrays; no entry for columns the file lacks
    notes: dict[str, int]
    groups: list[str]  # [E], their names


def common_columns(file: HDF5, groups: Sequence[str], columns: Sequence[Column]) -> list[Column]:
    """The columns that more than half of the episodes have."""
    half = 0.5 * len(groups)
    return [c for c in columns if sum(file.has(f"{g}/{c.name}") for g in groups) > half]


def read_groups(
    file: HDF5, source: Source, groups: Sequence[str], columns: Sequence[Column]
) -> EpisodeColumns:
    """The columns of the first `source.options.episodes` groups, those that are whole.

    columns: the first one tells an episode's number of steps; those that more than half of the
    episodes lack are left out.
    An episode that lacks a column, or has one of another shape than the others, is dropped and
    counted.  Raises ValueError naming the file and the first fault if too many would be.
    """
    check_count(source, len(groups))
    chosen = groups[: source.options.episodes or None]
    present = common_columns(file, chosen, columns)
    if not present:
        known = ", ".join(sorted(file.children(chosen[0]))) or "none"
        raise file.error(f"{chosen[0]}: expected {columns[0].name}, found {known}")
    widths = _usual_widths(file, chosen, present)
    whole: list[str] = []
    faults: list[str] = []
    for group in chosen:
        fault = _fault(file, group, present, widths)
        if fault:
            faults.append(fault)
        else:
            whole.append(group)
    if faults:
        check_share(source, len(faults), len(chosen), faults[0])
    read = [column for column in present if column.reads]
    names = [f"{group}/{column.name}" for group in whole for column in read]
    arrays = iter(file.numbers(names))
    values: dict[str, list[Floats]] = {column.name: [] for column in read}
    for _ in whole:
        for column in read:
            array = next(arrays)
            squeeze = column.squeezed and array.ndim == 2
            values[column.name].append(array[:, 0] if squeeze else array)
    return EpisodeColumns(values, {DROPPED: len(faults)} if faults else {}, whole)


def _usual_widths(
    file: HDF5, groups: Sequence[str], columns: Sequence[Column]
) -> dict[str, tuple[int, ...]]:
    """The shape of a row of each column in most episodes."""
    widths = {}
    for column in columns:
        names = [f"{group}/{column.name}" for group in groups]
        shapes = [file.shape(name)[1:] for name in names if file.has(name)]
        widths[column.name] = max(dict.fromkeys(shapes), key=shapes.count)
    return widths


def _fault(
    file: HDF5, group: str, columns: Sequence[Column], widths: dict[str, tuple[int, ...]]
) -> str:
    """What keeps an episode from being read; empty if it is whole."""
    lacking = [column.name for column in columns if not file.has(f"{group}/{column.name}")]
    if lacking:
        return f"{group}: expected a dataset {lacking[0]!r}, which other episodes have"
    first = file.shape(f"{group}/{columns[0].name}")
    steps = (first[0] if first else 0) - columns[0].extra
    for column in columns:
        shape, width = file.shape(f"{group}/{column.name}"), widths[column.name]
        ndim = len(shape) - (column.squeezed and shape[1:] == (1,))
        if ndim not in column.ndim:
            kinds = {1: "a number", 2: "a vector", 4: "a frame"}
            expected = " or ".join(kinds[count] for count in column.ndim)
            return f"{group}/{column.name}: expected {expected} in each row, found shape {shape}"
        if shape[0] != steps + column.extra or shape[1:] != width:
            rows = f"{steps + column.extra} rows"
            return (
                f"{group}/{column.name}: expected {rows} of shape {width} with {columns[0].name} "
                f"of {first}, found {shape}"
            )
        if 0 in shape:
            return f"{group}/{column.name}: expected one or more steps, found shape {shape}"
    return ""
