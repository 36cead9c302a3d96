"""The frames of one camera, in memory or in a file, read by row.

Frames are uint8 [H, W, C]. They stay where they are stored: selecting or joining episodes moves row
numbers, not pixels. Frames of a pack are compared with their checksums when they are first read.
Files are read, not mapped: with every page that it reads, a mapping takes the pages around it,
and a process that reads single frames soon holds most of the file.
"""

import os
import tempfile
import weakref
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Bytes of frames that share a checksum, rounded down to whole frames; part of a pack's format.
BLOCK_BYTES = 1 << 18
IN_MEMORY_BYTES = 256 << 20  # more frames than this are kept in a temporary file
READ_BYTES = 16 << 20  # of frames that a pass over all of them reads at a time


class FileBytes:
    """Bytes of a file that stays open as long as this object lives."""

    def __init__(self, descriptor: int, first: int, label: str) -> None:
        """descriptor: of the open file, closed here.  first: where the bytes begin.

        label: names the file, and its camera, in errors.
        """
        self.descriptor, self.first, self.label = descriptor, first, label
        weakref.finalize(self, os.close, descriptor)

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self.label}: frames in a file are neither copied nor pickled; save the dataset and "
            "load it there"
        )

    def read(self, position: int, out: NDArray[np.uint8]) -> None:
        """Fills an array from a position on.  Raises ValueError if the file ends before."""
        rest = out.reshape(-1).data
        while rest:
            count = os.preadv(self.descriptor, [rest], self.first + position)
            if count == 0:
                raise ValueError(f"{self.label}: the file was shortened; build it again")
            rest, position = rest[count:], position + count

    def write(self, position: int, values: NDArray[np.uint8]) -> None:
        """Writes an array at a position.  Raises OSError if there is no room."""
        rest = values.reshape(-1).data
        while rest:
            written = os.pwrite(self.descriptor, rest, self.first + position)
            rest, position = rest[written:], position + written


class FrameStore:
    """Frames stored end to end, in memory or in a file."""

    def __init__(
        self, shape: Sequence[int], storage: Tensor | FileBytes,
        crc32: NDArray[np.uint32] | None = None,
    ) -> None:  # fmt: skip
        """shape: (n, H, W, C).  storage: a contiguous uint8 tensor of this shape, or a file.

        crc32: of each block; None: there are no checksums.
        """
        self.shape = tuple(int(n) for n in shape)
        self.storage, self.crc32 = storage, crc32
        self.frame_bytes = int(np.prod(self.shape[1:]))
        self.per_block = frames_per_block(self.shape)
        # Blocks that have not been compared.
        self.unchecked = np.ones(0 if crc32 is None else len(crc32), bool)

    def read(self, rows: Tensor, out: Tensor) -> None:
        """Copies frames.  rows: [n] int64.  out: [n, H, W, C] uint8.

        Raises ValueError naming the file and the frames of a damaged block.
        """
        if isinstance(self.storage, Tensor):
            torch.index_select(self.storage.flatten(1), 0, rows, out=out.flatten(1))
            return
        if self.unchecked.any():
            self.check(np.unique(rows.numpy() // self.per_block))
        for row, frame in zip(rows.tolist(), out.numpy(), strict=True):
            self.storage.read(row * self.frame_bytes, frame)

    def write(self, rows: NDArray[np.int64], frames: NDArray[np.uint8]) -> None:
        """Stores frames.  rows: [n], their numbers.  frames: [n, H, W, C].

        Raises OSError if the disk is full.
        """
        if isinstance(self.storage, Tensor):
            self.storage[torch.from_numpy(rows)] = torch.from_numpy(frames)
            return
        for row, frame in zip(rows.tolist(), frames, strict=True):
            self.storage.write(row * self.frame_bytes, np.ascontiguousarray(frame))

    def check(self, blocks: NDArray[np.int64] | None = None) -> None:
        """Compares the checksums of blocks that have not been compared yet; of all by default."""
        if self.crc32 is None or isinstance(self.storage, Tensor):
            return
        chosen = np.arange(len(self.crc32)) if blocks is None else blocks
        buffer = np.empty(self.per_block * self.frame_bytes, np.uint8)
        for block in chosen[self.unchecked[chosen]].tolist():
            first = block * self.per_block
            count = min(self.per_block, self.shape[0] - first)
            content = buffer[: count * self.frame_bytes]
            self.storage.read(first * self.frame_bytes, content)
            if zlib.crc32(content.data) != int(self.crc32[block]):
                raise ValueError(
                    f"{self.storage.label}: frames {first} to {first + count - 1} are damaged; "
                    "build it again"
                )
            self.unchecked[block] = False


class Frames:
    """M frames of one camera, [M, H, W, C] uint8; indexing gives tensors."""

    def __init__(self, stores: Sequence[FrameStore], rows: Tensor | None = None) -> None:
        """stores: frames of one size.  rows: the number of each frame within all stores, one after
        the other, [M] int64; None: all of them in order.
        """
        self.stores = tuple(stores)
        self.rows = rows
        counts = [store.shape[0] for store in self.stores]
        self.first = np.concatenate([[0], np.cumsum(counts)])  # frame at which a store begins
        height, width, channels = self.stores[0].shape[1:]
        self.size = (height, width, channels)

    def __len__(self) -> int:
        """M."""
        return int(self.first[-1]) if self.rows is None else len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, H, W, C)."""
        return (len(self), *self.size)

    @property
    def dtype(self) -> torch.dtype:
        """torch.uint8."""
        return torch.uint8

    @property
    def size_bytes(self) -> int:
        """Bytes of all frames."""
        return int(np.prod(self.shape))

    def __repr__(self) -> str:
        return f"Frames(uint8{list(self.shape)})"

    def __eq__(self, other: object) -> bool:
        """Whether all frames are equal; those of packs are if their checksums are."""
        if not isinstance(other, Frames):
            return NotImplemented
        if self is other or self.shape != other.shape:
            return self is other
        ours, theirs = self.stored_checksums, other.stored_checksums
        if ours is not None and theirs is not None:
            return np.array_equal(ours, theirs)
        return all(torch.equal(a, b) for a, b in zip(self.chunks(), other.chunks(), strict=True))

    def __hash__(self) -> int:
        return hash(self.shape)

    def __getitem__(self, index: Any) -> Tensor:
        """The frames of an integer, a slice or a list of rows, copied."""
        rows = torch.arange(len(self), device="cpu")[index]
        return self.read(rows.reshape(-1)).view(*rows.shape, *self.size)

    def read(self, index: Tensor, out: Tensor | None = None) -> Tensor:
        """The frames with these numbers.

        index: [n] int64 on the CPU.  out: where to write them, [n, H, W, C] uint8; None: a new
        tensor.  Raises ValueError naming the file of frames whose checksums differ.
        """
        if out is None:
            out = torch.empty(len(index), *self.size, dtype=torch.uint8, device="cpu")
        assert out.is_contiguous()
        rows = index if self.rows is None else self.rows[index]
        if len(self.stores) == 1:
            self.stores[0].read(rows, out)
            return out
        owner = np.searchsorted(self.first, rows.numpy(), side="right") - 1
        for number, store in enumerate(self.stores):
            here = torch.from_numpy(np.flatnonzero(owner == number))
            if len(here):
                part = torch.empty(len(here), *self.size, dtype=torch.uint8, device="cpu")
                store.read(rows[here] - int(self.first[number]), part)
                out[here] = part
        return out

    def chunks(self, count: int = 0) -> Iterator[Tensor]:
        """All frames in order, some at a time.  count: how many; 0: about READ_BYTES."""
        step = count or max(1, READ_BYTES // int(np.prod(self.size)))
        for first in range(0, len(self), step):
            yield self[first : first + step]

    def take(self, rows: Tensor) -> "Frames":
        """The frames with these numbers, which stay where they are.  rows: [n] int64."""
        return Frames(self.stores, rows if self.rows is None else self.rows[rows])

    @staticmethod
    def joined(parts: Sequence["Frames"]) -> "Frames":
        """The frames of all parts, in order; they have one size and stay where they are."""
        stores = [store for part in parts for store in part.stores]
        if all(part.rows is None for part in parts):
            return Frames(stores)
        before = np.cumsum([0, *(int(part.first[-1]) for part in parts)])
        rows = [
            (torch.arange(len(part), device="cpu") if part.rows is None else part.rows) + int(first)
            for part, first in zip(parts, before, strict=False)
        ]
        return Frames(stores, torch.cat(rows))

    @property
    def stored_checksums(self) -> NDArray[np.uint32] | None:
        """The checksums of a pack, if these are all of its frames of a camera in order."""
        return self.stores[0].crc32 if self.rows is None and len(self.stores) == 1 else None

    def checksums(self) -> NDArray[np.uint32]:
        """CRC-32 of each block of frames.  Those of a pack are not computed again."""
        stored = self.stored_checksums
        if stored is not None:
            return stored
        blocks = self.chunks(frames_per_block(self.shape))
        return np.array([zlib.crc32(block.numpy().data) for block in blocks], np.uint32)

    def verify(self) -> None:
        """Compares all checksums.  Raises ValueError naming the file and the damaged frames."""
        for store in self.stores:
            store.check()


def has_channels_first(shape: Sequence[int]) -> bool:
    """Whether frames of this shape, read as [T, H, W, C], are rather [T, C, H, W]."""
    return shape[1] in (1, 3, 4) and min(shape[2:]) > 4


def frames_per_block(shape: Sequence[int]) -> int:
    """How many frames share a checksum.  shape: (M, H, W, C)."""
    return max(1, BLOCK_BYTES // max(1, int(np.prod(shape[1:]))))


def as_frames(value: "Frames | Tensor") -> Frames:
    """Frames as they are, or those of a tensor, uint8 [M, H, W, C] on the CPU, which they share.

    Raises TypeError or ValueError for a tensor of another kind.
    """
    if isinstance(value, Frames):
        return value
    if value.dtype != torch.uint8 or value.device.type != "cpu":
        raise TypeError(f"images: expected uint8 on the CPU, found {value.dtype} on {value.device}")
    if value.ndim != 4 or 0 in value.shape:
        raise ValueError(f"images: expected [M, H, W, C], found shape {list(value.shape)}")
    return Frames([FrameStore(value.shape, value.contiguous())])


def new_frames(shape: Sequence[int]) -> FrameStore:
    """Frames to be filled, in memory, or in a temporary file if there are many.

    shape: (M, H, W, C).  The file is in the folder for temporary files, without a name: it is gone
    when nothing refers to the frames.  Raises OSError if it cannot be made.
    """
    size_bytes = int(np.prod(shape))
    if size_bytes <= IN_MEMORY_BYTES:
        return FrameStore(shape, torch.empty(*shape, dtype=torch.uint8, device="cpu"))
    with tempfile.TemporaryFile() as file:
        file.truncate(size_bytes)
        return FrameStore(shape, FileBytes(os.dup(file.fileno()), 0, "the temporary file"))


def check_cameras(
    expected: Sequence[tuple[str, int, int, int]],
    found: Mapping[str, Sequence[int]],
    where: str,
) -> None:
    """Raises ValueError unless every expected camera is there, with frames of the expected size.

    expected: name, height, width and channels of each camera, as `InputSpec.images`.
    found: (H, W, C) of each camera by its name.  where: what has them, to begin the message with.
    """
    for name, *size in expected:
        if name not in found:
            known = ", ".join(found) or "none"
            raise ValueError(f"{where}: expected frames of the camera {name!r}, found {known}")
        if tuple(found[name]) != tuple(size):
            want, have = (" x ".join(map(str, shape)) for shape in (size, found[name]))
            raise ValueError(f"{where}: camera {name!r}: expected frames of {want}, found {have}")
