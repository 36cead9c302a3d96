"""A dataset as one file that is mapped into memory: a JSON header, columns, a checksum per block.

    "fastifo\\n"  header's length (uint64)  header (JSON)  its SHA-256  zeros up to a page
    columns, each at a multiple of 64 bytes, zeros between them

Opening reads the header alone. Small files are checked whole when they are opened; the blocks of
larger ones when training begins, or by `verify`.
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
from fastifo.utils.files import write_atomic

FORMAT = "fastifo-dataset"
VERSION = 2
MAGIC = b"fastifo\n"
ALIGN, PAGE, BLOCK = 64, 4096, 1 << 20
MAX_HEADER = 64 << 20
CHECKED_WHEN_OPENED = 256 << 20  # bytes; larger files are checked before training
DTYPES = {"start": "int64", "terminal": "bool", "timeout": "bool"} | dict.fromkeys(
    ("obs", "action", "reward", "action_low", "action_high"), "float32"
)
Bytes = NDArray[np.uint8]


def write_pack(
    path: Path,
    parts: Mapping[str, Episodes],
    bounds: Mapping[str, Tensor],
    env_id: str | None,
    info: Mapping[str, Any],
) -> None:
    """Writes a dataset's columns to `path` atomically.  Raises OSError naming the file.

    parts: background, and expert if there is one.  bounds: action_low and action_high, or empty.
    """
    columns = {
        f"{source}.{name}": column
        for source, episodes in parts.items()
        for name, column in episodes.columns().items()
    }
    columns |= bounds
    views = [np.ascontiguousarray(v.numpy()).reshape(-1).view(np.uint8) for v in columns.values()]
    described, offset = {}, 0
    for (name, value), view in zip(columns.items(), views, strict=True):
        dtype = str(value.dtype).removeprefix("torch.")
        described[name] = {"dtype": dtype, "shape": list(value.shape), "offset": offset}
        offset += _aligned(len(view), ALIGN)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "env_id": env_id,
        "info": dict(info),
        "columns": described,
        "bytes": offset,
        "block": BLOCK,
        "crc32": [zlib.crc32(block) for block in _blocks(views)],
    }
    text = json.dumps(header).encode()
    start = MAGIC + struct.pack("<Q", len(text)) + text
    start += hashlib.sha256(start).digest()

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            file.write(start.ljust(_aligned(len(start), PAGE), b"\0"))
            for piece in _padded(views):
                file.write(piece)

    write_atomic(path, write)


def _padded(views: list[Bytes]) -> Iterator[memoryview]:
    for view in views:
        yield view.data
        yield memoryview(bytes(-len(view) % ALIGN))


def _blocks(views: list[Bytes]) -> Iterator[bytes]:
    """The columns end to end, cut into blocks."""
    left = bytearray()
    for piece in _padded(views):
        for first in range(0, len(piece), BLOCK):
            left += piece[first : first + BLOCK]
            while len(left) >= BLOCK:
                yield bytes(left[:BLOCK])
                del left[:BLOCK]
    if left:
        yield bytes(left)


def read_pack(path: Path) -> dict[str, Any]:
    """The fields of the `Dataset` in a pack, its columns mapped into memory.

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
    for source, own in parts.items():
        _check_part(path, source, own)
    return {
        "background": Episodes(**parts["background"]),
        "expert": Episodes(**parts["expert"]) if parts["expert"] else None,
        "env_id": header["env_id"],
        "action_low": columns.get("action_low"),
        "action_high": columns.get("action_high"),
        "info": header["info"],
        "unverified": () if small else (path,),
    }


def verify(path: Path) -> int:
    """Reads every byte; returns how many.  Raises ValueError naming the first damaged column."""
    header, data = _open(path)
    _check_blocks(path, header, data)
    return path.stat().st_size


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a sound file."""
    return _open(path)[0]


def _open(path: Path) -> tuple[dict[str, Any], Bytes]:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing there"
        raise FileNotFoundError(f"{path}: expected a {FORMAT} file, found {found}")
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(16)
        length = struct.unpack("<Q", start[8:])[0] if len(start) == 16 else 0
        if start[:8] != MAGIC or not 0 < length <= min(size, MAX_HEADER):
            raise ValueError(
                f"{path}: expected a {FORMAT} file, found one that is cut or foreign; build it "
                "again"
            )
        text = file.read(length)
        digest = file.read(32)
        rest = file.read(-(16 + length + 32) % PAGE)
    if hashlib.sha256(start + text).digest() != digest or rest.strip(b"\0"):
        raise ValueError(f"{path}: its header is damaged, the hash differs; build it again")
    header = json.loads(text)
    if header.get("format") != FORMAT or header["version"] > VERSION:
        found = f"{header.get('format')} version {header.get('version')}"
        raise ValueError(
            f"{path}: expected {FORMAT} version {VERSION} or older, found {found}; update fastifo"
        )
    first = _aligned(16 + length + 32, PAGE)
    if size != first + header["bytes"]:
        raise ValueError(
            f"{path}: expected {first + header['bytes']} bytes, found {size}: cut or foreign; "
            "build it again"
        )
    # Private pages, so that a tensor may be written to and the file never is.
    data = np.memmap(path, np.uint8, "c", offset=first) if size > first else np.empty(0, np.uint8)
    return header, data


def _check_blocks(path: Path, header: dict[str, Any], data: Bytes) -> None:
    def found(first: int) -> int:
        return zlib.crc32(data[first : first + BLOCK].data)

    places = range(0, len(data), header["block"])
    with ThreadPoolExecutor(max_workers=4) as pool:
        sums = list(pool.map(found, places))
    expected = header["crc32"]
    bad = [i for i in range(len(places)) if i >= len(expected) or sums[i] != expected[i]]
    if bad:
        at = bad[0] * header["block"]
        names = [
            name
            for name, column in header["columns"].items()
            if column["offset"] < at + BLOCK and column["offset"] + max(_size(column), 1) > at
        ]
        raise ValueError(
            f"{path}: damaged between bytes {at} and {at + BLOCK} of its columns "
            f"({', '.join(names)}); build it again"
        )


def _column(path: Path, name: str, column: dict[str, Any], data: Bytes) -> Tensor:
    kind, first = DTYPES.get(name.rpartition(".")[2], ""), column["offset"]
    size = _size(column) if column["dtype"] == kind else -1
    if size < 0 or first % ALIGN or first < 0 or first + size > len(data):
        raise ValueError(f"{path}: column {name!r} is damaged; build it again")
    flat = torch.from_numpy(data[first : first + size])
    return flat.view(getattr(torch, kind)).view(column["shape"])


def _check_part(path: Path, source: str, own: dict[str, Tensor]) -> None:
    """That offsets and lengths fit together."""
    if source == "expert" and not own:
        return
    missing = {"obs", "start", "terminal", "timeout"} - set(own)
    if missing:
        raise ValueError(f"{path}: {source} lacks {', '.join(sorted(missing))}")
    start, steps = own["start"], own["terminal"].shape[-1]
    if (
        start.ndim != 1 or len(start) < 2 or int(start[0]) != 0 or int(start[-1]) != steps
        or bool((start.diff() < 1).any()) or len(own["obs"]) != steps + len(start) - 1
    ):  # fmt: skip
        raise ValueError(f"{path}: {source}: episodes and columns do not fit together")
    for name in ("action", "reward", "timeout"):
        if name in own and own[name].shape[-1 if name == "reward" else 0] != steps:
            raise ValueError(f"{path}: {source}.{name}: expected {steps} rows")


def _size(column: dict[str, Any]) -> int:
    return int(math.prod(column["shape"])) * {"int64": 8, "bool": 1, "float32": 4}[column["dtype"]]


def _aligned(size: int, step: int) -> int:
    return -(-size // step) * step
