"""Named tensors as one safetensors file with a JSON header and its hash; no pickle."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fastifo.utils.files import parse_json, what_is, write_atomic
from fastifo.utils.schema import check_schema

VERSION = 1


def save_tensors(tensors: dict[str, Tensor], header: dict[str, Any], path: Path) -> None:
    """Writes a safetensors file atomically, with `header` as JSON metadata.  Raises OSError."""
    text = json.dumps(header)

    def write(temporary: Path) -> None:
        try:
            save_file(tensors, temporary, metadata={"fastifo": text, "sha256": _text_hash(text)})
        except SafetensorError as error:
            raise OSError(str(error)) from None
        _sort_metadata(temporary)

    write_atomic(path, write)


def _sort_metadata(path: Path) -> None:
    """Sorts the metadata's names, whose order safetensors draws at random.

    Equal tensors then make equal files.
    """
    with open(path, "r+b") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= size, (len(text), size)
        file.seek(8)
        file.write(text.ljust(size))


def load_tensors(path: Path, expected_format: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads a file that `save_tensors` wrote; returns its tensors and header.

    expected_format: the "format" entry that the header must have.
    Raises FileNotFoundError if there is no file; ValueError if it is damaged, has another format,
    or was written by a newer version.
    """
    if not path.is_file() or path.is_symlink():  # a link could lead out of the folder
        kind = "a link" if path.is_symlink() else what_is(path)
        raise FileNotFoundError(f"{path}: expected a {expected_format} file, found {kind}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a {expected_format} file, found a damaged or unrelated one "
            f"({error}); write it again"
        ) from None
    text = metadata.get("fastifo", "")
    unhashed = metadata.keys() <= {"fastifo"}  # as the first versions wrote it
    if text and not unhashed and metadata.get("sha256") != _text_hash(text):
        raise ValueError(f"{path}: its header is damaged (the hash differs); write it again")
    header = parse_json(text, path, "write it again") if text else {}
    file_format = header.get("format") if isinstance(header, dict) else None
    if file_format != expected_format:
        found = file_format if isinstance(file_format, str) else "a file of another program"
        raise ValueError(f"{path}: expected a {expected_format} file, found {found}")
    check_schema(header, {"version": int}, path, "write it again", "header")
    version = header["version"]
    if version > VERSION:
        raise ValueError(
            f"{path}: expected version {VERSION} or older, found {version}; update fastifo"
        )
    return tensors, header


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
