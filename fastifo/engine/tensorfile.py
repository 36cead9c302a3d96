"""Named tensors as one safetensors file with a JSON header and its hash; no pickle."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fastifo.utils.files import write_atomic

VERSION = 1


def save_tensors(tensors: dict[str, Tensor], header: dict[str, Any], path: Path) -> None:
    """Writes a safetensors file atomically, with `header` as JSON metadata.  Raises OSError."""
    text = json.dumps(header)

    def write(temporary: Path) -> None:
        try:
            save_file(tensors, temporary, metadata={"fastifo": text, "sha256": _text_hash(text)})
        except SafetensorError as error:
            raise OSError(str(error)) from None

    write_atomic(path, write)


def load_tensors(path: Path, expected_format: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads a file that `save_tensors` wrote; returns its tensors and header.

    expected_format: the "format" entry that the header must have.
    Raises FileNotFoundError if there is no file; ValueError if it is damaged, has another format,
    or was written by a newer version.
    """
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "nothing there"
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
    if metadata.get("sha256", _text_hash(text)) != _text_hash(text):
        raise ValueError(f"{path}: its header is damaged (the hash differs); write it again")
    try:
        header = json.loads(text)
        file_format, version = header["format"], header["version"]
    except (KeyError, TypeError, json.JSONDecodeError):
        file_format, version = "a safetensors file of another program", 0
    if file_format != expected_format:
        raise ValueError(f"{path}: expected a {expected_format} file, found {file_format}")
    if version > VERSION:
        raise ValueError(
            f"{path}: expected version {VERSION} or older, found {version}; update fastifo"
        )
    return tensors, header


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
