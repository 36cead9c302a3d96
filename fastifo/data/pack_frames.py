"""Frames in a pack: they follow its columns, each camera's at a multiple of a page.

The header has a CRC-32 for every block of frames. Neither opening nor training reads them all: a
block is checked when one of its frames is first read, and `fastifo data verify` checks all of them.
"""

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from torch import Tensor

from fastifo.data.frames import FileBytes, Frames, FrameStore, frames_per_block

PAGE = 4096
DIGITS = 8  # of a checksum, in hexadecimal: the header's size is known before the checksums are


def frames_header(frames: Mapping[str, Frames], first: int) -> tuple[dict[str, Any], int]:
    """What the header says of frames, with checksums of 0, and the bytes of frames and padding.

    frames: by their name in the pack, such as "background.agentview".  first: the bytes in front
    of them, from the start of the columns.
    """
    entries: dict[str, Any] = {}
    end = first
    for name, value in frames.items():
        offset = -(-end // PAGE) * PAGE
        blocks = -(-len(value) // frames_per_block(value.shape))
        entries[name] = {
            "shape": list(value.shape), "offset": offset, "crc32": "0" * DIGITS * blocks
        }  # fmt: skip
        end = offset + value.size_bytes
    return entries, end - first


def write_frames(
    file: IO[bytes], start: int, frames: Mapping[str, Frames], entries: Mapping[str, Any]
) -> None:
    """Writes frames block by block and fills in their checksums.

    start: where the columns begin in the file.  entries: from `frames_header`.
    """
    for name, value in frames.items():
        entry = entries[name]
        file.seek(start + entry["offset"])
        digits = []
        for block in value.chunks(frames_per_block(value.shape)):
            content = block.numpy().data
            digits.append(f"{zlib.crc32(content):0{DIGITS}x}")
            file.write(content)
        entry["crc32"] = "".join(digits)


def open_frames(path: Path, start: int, header: Mapping[str, Any]) -> dict[str, Frames]:
    """The frames of a pack by their names, neither read nor checked yet.

    start: where the columns begin in the file, which has the size that the header says.
    Raises ValueError naming the file and a camera whose entry in the header is damaged.
    """
    size = header["bytes"] + header.get("frame_bytes", 0)
    result = {}
    for name, entry in (header.get("frames") or {}).items():
        shape, offset = entry["shape"], entry["offset"]
        if len(shape) != 4 or 0 in shape or offset % PAGE or offset < header["bytes"]:
            raise ValueError(f"{path}: frames of {name!r} are damaged; build it again")
        count = int(np.prod(shape, dtype=object))
        blocks = -(-shape[0] // frames_per_block(shape))
        try:
            crc32 = np.frombuffer(bytes.fromhex(entry["crc32"]), ">u4").astype(np.uint32)
        except ValueError:
            crc32 = np.empty(0, np.uint32)
        if offset + count > size or len(crc32) != blocks:
            raise ValueError(f"{path}: frames of {name!r} are damaged; build it again")
        content = FileBytes(os.open(path, os.O_RDONLY), start + offset, f"{path}: {name}")
        result[name] = Frames([FrameStore(shape, content, crc32)])
    return result


def split_frames(
    path: Path, frames: Mapping[str, Frames], parts: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, dict[str, Frames]]:
    """The frames of each part by camera.  parts: the columns of each part.

    Raises ValueError naming the file where there is not one frame for each observation.
    """
    result: dict[str, dict[str, Frames]] = {source: {} for source in parts}
    for name, value in frames.items():
        source, _, camera = name.partition(".")
        rows = len(parts[source]["obs"]) if parts.get(source) else 0
        if not camera or len(value) != rows:
            raise ValueError(f"{path}: {name}: expected {rows} frames, found {len(value)}")
        result[source][camera] = value
    return result
