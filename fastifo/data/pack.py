"""Packs: a dataset in one file that is mapped into memory.

    "fastifo\\n"  length of the header (uint64)  header (JSON)  its SHA-256  zeros up to a page
    columns, each at a multiple of 64 bytes, with zeros in between

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
from fastifo.data.pack_header import FORMAT, VERSION, parse_header
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
    views = [np.ascontiguousarray(v.numpy()).reshape(-1).view(np.uint8) for v in columns.values()]
    layout, offset = {}, 0
    for (name, value), view in zip(columns.items(), views, strict=True):
        dtype = str(value.dtype).removeprefix("torch.")
        layout[name] = {"dtype": dtype, "shape": list(value.shape), "offset": offset}
        offset += _aligned(len(view), ALIGN)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "env_id": env_id,
        "info": dict(info),
        **settings,
        "columns": layout,
        "bytes": offset,
        "block": BLOCK,
        "crc32": [zlib.crc32(block) for block in _blocks(views)],
    }
    head = _encode_header(header)

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            file.write(head)
            for piece in _padded(views):
                file.write(piece)

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
    header, data = _open(path)
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
        _check_part(path, source, part)
    _check_bounds(path, columns)
    return {
        "background": Episodes(**parts["background"]),
        "expert": Episodes(**parts["expert"]) if parts["expert"] else None,
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
    header, data = _open(path)
    _check_blocks(path, header, data)
    return path.stat().st_size


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a pack.

    Raises FileNotFoundError, or ValueError naming the file if its header is damaged.
    """
    return _open(path)[0]


def _open(path: Path) -> tuple[dict[str, Any], Bytes]:
    """The header, checked, and the columns, unchecked.  The latter are mapped into memory."""
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
    if size != first + header["bytes"]:
        raise ValueError(
            f"{path}: expected {first + header['bytes']} bytes, found {size}: truncated or of "
            "another format; build it again"
        )
    # Private pages: a tensor may be written to without changing the file.
    data = np.memmap(path, np.uint8, "c", offset=first) if size > first else np.empty(0, np.uint8)
    return header, data


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


def _check_part(path: Path, source: str, columns: dict[str, Tensor]) -> None:
    """Raises ValueError if a column is missing, or if offsets and lengths do not fit together."""
    if source == "expert" and not columns:
        return
    missing = {"obs", "start", "terminal", "timeout"} - set(columns)
    if missing:
        raise ValueError(f"{path}: {source} lacks {', '.join(sorted(missing))}")
    start, steps = columns["start"], columns["terminal"].shape[-1]
    if (
        start.ndim != 1 or len(start) < 2 or int(start[0]) != 0 or int(start[-1]) != steps
        or bool((start.diff() < 1).any()) or len(columns["obs"]) != steps + len(start) - 1
    ):  # fmt: skip
        raise ValueError(f"{path}: {source}: episodes and columns do not fit together")
    if "success" in columns and columns["success"].shape != (len(start) - 1,):
        raise ValueError(f"{path}: {source}.success: expected one value per episode")
    for name in ("action", "reward", "timeout"):
        axis = -1 if name == "reward" else 0
        if name in columns and columns[name].shape[axis] != steps:
            raise ValueError(f"{path}: {source}.{name}: expected {steps} rows")


def _check_bounds(path: Path, columns: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless both action bounds are there, one number per action, or none."""
    bounds = [columns[name] for name in ("action_low", "action_high") if name in columns]
    action = columns.get("background.action")
    widths = {tuple(bound.shape) for bound in bounds}
    if bounds and (len(bounds) < 2 or action is None or widths != {(action.shape[-1],)}):
        raise ValueError(f"{path}: action_low, action_high: expected one number per action each")


def _size(column: dict[str, Any]) -> int:
    return int(math.prod(column["shape"])) * {"int64": 8, "bool": 1, "float32": 4}[column["dtype"]]


def _aligned(size: int, step: int) -> int:
    return -(-size // step) * step
