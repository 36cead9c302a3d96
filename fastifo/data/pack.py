"""A dataset as one file: safetensors columns, JSON metadata, a hash per column. No pickle."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fastifo.data.dataset import Dataset, Episodes
from fastifo.files import write_atomic

FORMAT = "fastifo-dataset"
VERSION = 1
DTYPES = {"start": torch.int64, "terminal": torch.bool, "timeout": torch.bool} | dict.fromkeys(
    ("obs", "action", "reward", "action_low", "action_high"), torch.float32
)


def save_dataset(dataset: Dataset, path: Path) -> None:
    """Writes `path` atomically.  Raises OSError naming it where the disk refuses."""
    columns = {f"background.{k}": v for k, v in dataset.background.columns().items()}
    if dataset.expert is not None:
        columns |= {f"expert.{k}": v for k, v in dataset.expert.columns().items()}
    for name in ("action_low", "action_high"):
        bound = getattr(dataset, name)
        if bound is not None:
            columns[name] = bound
    columns = {k: v.contiguous() for k, v in columns.items()}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "env_id": dataset.env_id,
        "info": dict(dataset.info),
        "sha256": {name: _hash(value) for name, value in columns.items()},
    }
    save_tensors(columns, header, path)


def save_tensors(tensors: dict[str, Tensor], header: dict[str, Any], path: Path) -> None:
    """Safetensors with `header` as JSON metadata, written atomically."""

    text = json.dumps(header)

    def write(temporary: Path) -> None:
        try:
            save_file(tensors, temporary, metadata={"fastifo": text, "sha256": _text_hash(text)})
        except SafetensorError as error:
            raise OSError(str(error)) from None

    write_atomic(path, write)


def load_tensors(path: Path, expected_format: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header.  Raises FileNotFoundError, or ValueError for a cut or foreign file."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing there"
        raise FileNotFoundError(f"{path}: expected a {expected_format} file, found {found}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a {expected_format} file, found one that is cut or foreign "
            f"({error}); write it again"
        ) from None
    text = metadata.get("fastifo", "")
    if metadata.get("sha256", _text_hash(text)) != _text_hash(text):
        raise ValueError(f"{path}: its header is damaged, the hash differs; write it again")
    try:
        header = json.loads(text)
        found, version = header["format"], header["version"]
    except (KeyError, TypeError, json.JSONDecodeError):
        found, version = "a safetensors file of another program", 0
    if found != expected_format:
        raise ValueError(f"{path}: expected a {expected_format} file, found {found}")
    if version > VERSION:
        raise ValueError(
            f"{path}: expected version {VERSION} or older, found {version}; update fastifo"
        )
    return tensors, header


def load_dataset(path: Path) -> Dataset:
    """The dataset that `Dataset.save` wrote.  Raises ValueError naming a damaged column."""
    tensors, header = load_tensors(path, FORMAT)
    for name in sorted({*tensors, *header["sha256"]}):
        value = tensors.get(name)
        if value is None or _hash(value) != header["sha256"].get(name):
            raise ValueError(
                f"{path}: column {name!r} is damaged, its hash differs; build it again"
            )
        if value.dtype != DTYPES[name.rpartition(".")[2]]:
            raise ValueError(f"{path}: column {name!r} is damaged, it is {value.dtype}")
    parts: dict[str, dict[str, Tensor]] = {"expert": {}, "background": {}}
    for name, value in tensors.items():
        source, _, column = name.partition(".")
        if column:
            parts[source][column] = value
    return Dataset(
        background=Episodes(**parts["background"]),
        expert=Episodes(**parts["expert"]) if parts["expert"] else None,
        env_id=header["env_id"],
        action_low=tensors.get("action_low"),
        action_high=tensors.get("action_high"),
        info=header["info"],
    )


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hash(value: Tensor) -> str:
    return hashlib.sha256(np.ascontiguousarray(value.numpy()).view(np.uint8).data).hexdigest()
