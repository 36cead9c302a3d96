"""Packs: a dataset in one file that is mapped into memory.

    "fastifo\\n"  length of the header (uint64)  header (JSON)  its SHA-256  zeros up to a page
    columns, each at a multiple of 64 bytes, with zeros in between
    frames of cameras, each at a multiple of a page; see pack_frames.py

The header has a CRC-32 for every block of the columns. Opening a pack reads the header only. The
blocks of a small file are checked when it is opened; those of a larger one when training begins, or
by `verify`.
"""

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastifo.data.episodes import Episodes
from fastifo.data.pack_checks import check_bounds, check_part
from fastifo.data.pack_frames import frames_header, open_frames, split_frames, write_frames
from fastifo.data.pack_header import FORMAT, VERSION, VERSION_WITHOUT_FRAMES, parse_header
from fastifo.utils.files import what_is, write_atomic

MAGIC = b"fastifo\n"
ALIGN, PAGE = 64, 4096
BLOCK = 1 << 20  # bytes of columns that share a checksum
MAX_HEADER = 64 << 20
CHECKED_WHEN_OPENED = 256 << 20  # bytes of columns; larger packs are checked before training
DTYPES = {
    "start": "int64",
    "terminal": "bool",
    "timeout": "bool",
    "success": "bool",
} | dict.fromkeys(("obs", "action", "reward", "action_low", "action_high"), "float32")
Bytes = NDArray[np.uint8]


def write_pack(
    path: Path,
    parts: Mapping[str, Episodes],
    bounds: Mapping[str, Tensor],
    env_id: str | None,
    info: Mapping[str, Any],
    **settings: Any,
) -> None:
    """Writes a pack atomically.

    parts: "background", and "expert" if there is one.  bounds: "action_low" and "action_high", or
    empty.  env_id, info: as in `Dataset`.
    settings: further fields of `Dataset` that are JSON values.
    Raises OSError naming the file.
    """
    columns = {
        f"{source}.{name}": column
        for source, episodes in parts.items()
        for name, column in episodes.columns().items()
    }
    columns |= bounds
    frames = {
        f"{source}.{camera}": value
        for source, episodes in parts.items()
        for camera, value in episodes.images.items()
    }
    views = [np.ascontiguousarray(v.numpy()).reshape(-1).view(np.uint8) for v in columns.values()]
    layout, offset = {}, 0
    for (name, value), view in zip(columns.items(), views, strict=True):
        dtype = str(value.dtype).removeprefix("torch.")
        layout[name] = {"dtype": dtype, "shape": list(value.shape), "offset": offset}
        offset += _aligned(len(view), ALIGN)
    entries, frame_bytes = frames_header(frames, offset)
    header = {
        "format": FORMAT,
        "version": VERSION if frames else VERSION_WITHOUT_FRAMES,
        "env_id": env_id,
        "info": dict(info),
        **settings,
        "columns": layout,
        "bytes": offset,
        "block": BLOCK,
        "crc32": [zlib.crc32(block) for block in _blocks(views)],
        **({"frames": entries, "frame_bytes": frame_bytes} if frames else {}),
    }

    def write(temporary: Path) -> None:
        head = _encode_header(header)
        with open(temporary, "wb") as file:
            file.write(head)
            for piece in _padded(views):
                file.write(piece)
            if frames:  # the header again, now with their checksums
                write_frames(file, len(head), frames, entries)
                file.seek(0)
                file.write(_encode_header(header))

    write_atomic(path, write)


def _encode_header(header: Mapping[str, Any]) -> bytes:
    """Everything in front of the columns."""
    text = json.dumps(header).encode()
    head = MAGIC + struct.pack("<Q", len(text)) + text
    head += hashlib.sha256(head).digest()
    return head.ljust(_aligned(len(head), PAGE), b"\0")


def _padded(views: list[Bytes]) -> Iterator[memoryview]:
    """The columns, each followed by zeros up to the next multiple of ALIGN."""
    for view in views:
        yield view.data
        yield memoryview(bytes(-len(view) % ALIGN))


def _blocks(views: list[Bytes]) -> Iterator[bytes]:
    """The padded columns, cut into blocks of BLOCK bytes."""
    buffer = bytearray()
    for piece in _padded(views):
        for first in range(0, len(piece), BLOCK):
            buffer += piece[first : first + BLOCK]
            while len(buffer) >= BLOCK:
                yield bytes(buffer[:BLOCK])
                del buffer[:BLOCK]
    if buffer:
        yield bytes(buffer)


def read_pack(path: Path) -> dict[str, Any]:
    """The fields of the `Dataset` in a pack; its columns are mapped into memory.

    Raises FileNotFoundError, or ValueError naming the file and what is damaged.
    """
    header, data, begin = _open(path)
    small = len(data) <= CHECKED_WHEN_OPENED
    if small:
        _check_blocks(path, header, data)
    columns = {name: _column(path, name, c, data) for name, c in header["columns"].items()}
    parts: dict[str, dict[str, Tensor]] = {"expert": {}, "background": {}}
    for name, value in columns.items():
        source, _, column = name.partition(".")
        if column:
            parts[source][column] = value
    for source, part in parts.items():
        check_part(path, source, part)
    check_bounds(path, columns)
    images = split_frames(path, open_frames(path, begin, header), parts)
    episodes = {
        source: Episodes(**part, images=images[source]) for source, part in parts.items() if part
    }
    return {
        "background": episodes["background"],
        "expert": episodes.get("expert"),
        "env_id": header["env_id"],
        "action_low": columns.get("action_low"),
        "action_high": columns.get("action_high"),
        "info": header["info"],
        "unverified": () if small else (path,),
        "env_kwargs": header.get("env_kwargs") or {},  # older packs have neither
        "reference_returns": _pair(header.get("reference_returns")),
        "obs_keys": tuple(header.get("obs_keys") or ()),
    }


def _pair(values: Any) -> tuple[float, float] | None:
    return None if values is None else (float(values[0]), float(values[1]))


def verify(path: Path) -> int:
    """Reads a pack completely, compares all checksums and returns the file's size in bytes.

    Raises FileNotFoundError, or ValueError naming the file and the first damaged columns.
    """
    header, data, begin = _open(path)
    _check_blocks(path, header, data)
    for frames in open_frames(path, begin, header).values():
        frames.verify()
    return path.stat().st_size


def verify_columns(path: Path) -> None:
    """As `verify`, without frames, which are checked as they are read."""
    header, data, _ = _open(path)
    _check_blocks(path, header, data)


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a pack.

    Raises FileNotFoundError, or ValueError naming the file if its header is damaged.
    """
    return _open(path)[0]


def _open(path: Path) -> tuple[dict[str, Any], Bytes, int]:
    """The header, checked, the columns, unchecked, and where they begin in the file.

    The columns are mapped into memory.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a {FORMAT} file, found {what_is(path)}")
    size = path.stat().st_size
    with open(path, "rb") as file:
        prefix = file.read(16)
        length = struct.unpack("<Q", prefix[8:])[0] if len(prefix) == 16 else 0
        if prefix[:8] != MAGIC or not 0 < length <= min(size, MAX_HEADER):
            raise ValueError(
                f"{path}: expected a {FORMAT} file, found one that is truncated or of another "
                "format; build it again"
            )
        text = file.read(length)
        digest = file.read(32)
        padding = file.read(-(16 + length + 32) % PAGE)
    if hashlib.sha256(prefix + text).digest() != digest or padding.strip(b"\0"):
        raise ValueError(f"{path}: the header is damaged, its hash differs; build the file again")
    header = parse_header(text, path)
    if header["block"] != BLOCK:
        raise ValueError(
            f"{path}: header.block: expected {BLOCK}, found {header['block']}; build it again"
        )
    first = _aligned(16 + length + 32, PAGE)
    count = header["bytes"]
    expected = first + count + header.get("frame_bytes", 0)
    if size != expected:
        raise ValueError(
            f"{path}: expected {expected} bytes, found {size}: truncated or of another format; "
            "build it again"
        )
    if count == 0:
        return header, np.empty(0, np.uint8), first
    # Private pages: a tensor may be written to without changing the file.
    return header, np.memmap(path, np.uint8, "c", offset=first, shape=(count,)), first


def _check_blocks(path: Path, header: dict[str, Any], data: Bytes) -> None:
    """Raises ValueError naming the columns of the first damaged block."""

    def crc32(first: int) -> int:
        return zlib.crc32(data[first : first + BLOCK].data)

    starts = range(0, len(data), header["block"])
    with ThreadPoolExecutor(max_workers=4) as pool:
        actual = list(pool.map(crc32, starts))
    expected = header["crc32"]
    damaged = [i for i in range(len(starts)) if i >= len(expected) or actual[i] != expected[i]]
    if damaged:
        begin = damaged[0] * header["block"]
        end = begin + BLOCK
        names = [
            name
            for name, column in header["columns"].items()
            if column["offset"] < end and column["offset"] + max(_size(column), 1) > begin
        ]
        raise ValueError(
            f"{path}: damaged between bytes {begin} and {end} of its columns "
            f"({', '.join(names)}); build it again"
        )


def _column(path: Path, name: str, column: dict[str, Any], data: Bytes) -> Tensor:
    dtype, first = DTYPES.get(name.rpartition(".")[2], ""), column["offset"]
    size = _size(column) if column["dtype"] == dtype else -1
    if size < 0 or first % ALIGN or first < 0 or first + size > len(data):
        raise ValueError(f"{path}: column {name!r} is damaged; build it again")
    flat = torch.from_numpy(data[first : first + size])
    return flat.view(getattr(torch, dtype)).view(column["shape"])


def _size(column: dict[str, Any]) -> int:
    return int(math.prod(column["shape"])) * {"int64": 8, "bool": 1, "float32": 4}[column["dtype"]]


def _aligned(size: int, step: int) -> int:
    return -(-size // step) * step
