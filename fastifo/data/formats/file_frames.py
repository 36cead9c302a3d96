"""Frames in HDF5 files, read a few episodes at a time: what `Frames` holds is never read whole."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fastifo.data.formats.hdf5 import HDF5
from fastifo.data.formats.source import Ints, ReadResult
from fastifo.data.frames import Frames, FrameStore, has_channels_first, new_frames

PART_BYTES = 32 << 20  # of frames that are read at a time, or one frame


class FrameColumns(NamedTuple):
    """Datasets of one camera below an episode's group."""

    obs: str  # the frame of each row
    next_obs: str = ""  # the frame after each row; empty: the file has none


def with_frames(
    file: HDF5,
    result: ReadResult,
    groups: Sequence[str],
    lengths: Sequence[int],
    cameras: Mapping[str, FrameColumns],
) -> ReadResult:
    """The episodes with the frames of their observations.

    result: its `rows` say which row of the file each observation is.
    groups, lengths: name and number of rows of each episode of the file, in the order of its rows.
    cameras: the datasets of each camera; all have one size, and a row for each of the file's.
    Raises ValueError naming the file and the dataset for frames that are not uint8.
    """
    if not cameras:
        return result
    assert result.rows is not None
    images = {
        camera: Frames([_read(file, result.rows, groups, lengths, columns)])
        for camera, columns in cameras.items()
    }
    return dataclasses.replace(result, episodes=dataclasses.replace(result.episodes, images=images))


def check_frames(file: HDF5, names: Sequence[str]) -> None:
    """Raises ValueError naming a dataset that does not hold uint8 frames [T, H, W, C]."""
    for name in names:
        if len(file.shape(name)) != 4 or file.kind(name) != "u" or file.item_bytes(name) != 1:
            raise file.error(
                f"{name}: expected frames, uint8 [T, H, W, C], found shape {file.shape(name)} of "
                f"kind {file.kind(name)!r} with {file.item_bytes(name)} bytes a value"
            )
        if has_channels_first(file.shape(name)):
            raise file.error(
                f"{name}: expected frames, uint8 [T, H, W, C], found shape {file.shape(name)}, "
                "with channels first; transpose them to (0, 2, 3, 1)"
            )


def _read(
    file: HDF5, rows: Ints, groups: Sequence[str], lengths: Sequence[int], columns: FrameColumns
) -> FrameStore:
    """The frames of observations.  rows: as `ReadResult.rows`."""
    names = [f"{group}/{columns.obs}" for group in groups]
    check_frames(file, names)
    size = file.shape(names[0])[1:]
    store = new_frames((len(rows), *size))
    first = np.concatenate([[0], np.cumsum(lengths)])
    is_next = rows >= first[-1]
    row = rows - is_next * first[-1]
    owner = np.searchsorted(first, row, side="right") - 1
    most = max(1, PART_BYTES // int(np.prod(size)))
    for index, group in enumerate(groups):
        for column, kind in ((columns.obs, False), (columns.next_obs, True)):
            wanted = np.flatnonzero((owner == index) & (is_next == kind))
            for begin, end, part in _parts(row[wanted] - first[index], most):
                frames = file.rows(f"{group}/{column}", begin, end)
                offset = row[wanted[part]] - first[index] - begin
                store.write(wanted[part], frames[offset])
    return store


def _parts(rows: Ints, most: int) -> Iterator[tuple[int, int, Ints]]:
    """Ranges [begin, end) of at most `most` rows that cover the given ones, and which are in each.

    rows: ascending.
    """
    done = 0
    while done < len(rows):
        begin = int(rows[done])
        stop = int(np.searchsorted(rows, begin + most))
        yield begin, int(rows[stop - 1]) + 1, np.arange(done, stop)
        done = stop
