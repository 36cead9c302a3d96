"""A run's weights on disk: safetensors files and a manifest with hashes, written atomically.

The manifest also holds the hashes of `config.json` and of the rows of `metrics.jsonl`, so that a
damaged file is never taken for a sound one.  Older manifests without them are accepted.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastifo.algos.learner import Learner, tensors
from fastifo.engine.metrics import MetricsHash, check_metrics, read_metrics
from fastifo.engine.tensorfile import load_tensors, save_tensors
from fastifo.utils.files import (
    read_json,
    sha256_file,
    sweep,
    to_json_bytes,
    write_bytes,
    write_json,
)
from fastifo.utils.schema import Count, Map, Optional, check_schema

FORMAT = "fastifo-checkpoint"
WEIGHTS = re.compile(r"\d+-\w+-\d{9,}\.safetensors")  # names of files with weights
SCHEMA = {
    "files": Map(
        {
            "file": str,
            "sha256": str,
            "num_updates": Count(0),
            "owes_callbacks": Optional(bool),
        }
    ),
    "metrics_bytes": Count(0),
    "train_s": Optional(float),
    "failed": Optional(Map(Count(0))),
    "metrics_sha256": Optional(str),
    "config_sha256": Optional([str]),
    "sha256": Optional(str),
}
UNHASHED = {"files", "metrics_bytes", "train_s", "failed"}  # all that manifests without a hash had
REMEDY = "restore it from a copy, or train in another folder"


class Checkpoints:
    """`checkpoint/` of a run folder: the newest state of each population and stage.

    A key names a population and a stage, such as "0-train".
    """

    def __init__(self, folder: Path) -> None:
        """Reads the manifest, if there is one.

        Raises ValueError naming the file if it is damaged or another file, or if there are weights
        without a manifest.
        """
        self.folder = folder
        self.manifest = folder / "manifest.json"
        self.config = folder.parent / "config.json"
        self.metrics_hash = MetricsHash(folder.parent / "metrics.jsonl")
        self.entries: dict[str, dict[str, Any]] = {}
        self.metrics_bytes = 0  # size of metrics.jsonl at the last checkpoint
        self.metrics_sha256: str | None = None  # of those bytes; None: not known
        # Of config.json: two while it is rewritten, so that a crash leaves a known one.
        self.config_sha256: list[str] = []
        self.train_s = 0.0  # seconds spent in updates so far, by all processes
        self.failed: dict[int, int] = {}  # diverged member -> update
        if folder.is_symlink():  # its files could be another run's
            raise ValueError(f"{folder}: expected a folder, found a link; {REMEDY}")
        if self.manifest.exists():
            self._read_manifest()
        elif weights := next(folder.glob("*.safetensors"), None):
            raise ValueError(
                f"{self.manifest}: expected the manifest of {weights.name}, found nothing there; "
                f"{REMEDY}"
            )

    def _read_manifest(self) -> None:
        content = read_json(self.manifest, REMEDY)
        if not isinstance(content, dict) or not {"files", "metrics_bytes"} <= set(content):
            raise ValueError(f"{self.manifest}: expected a fastifo manifest, found another file")
        check_schema(content, SCHEMA, self.manifest, REMEDY)
        if _claimed_hash(content) != _content_hash(content):
            raise ValueError(f"{self.manifest}: damaged, its hash differs; {REMEDY}")
        for key, entry in content["files"].items():
            expected = _file_name(key, entry["num_updates"])
            if entry["file"] != expected or not WEIGHTS.fullmatch(expected):
                raise ValueError(
                    f"{self.manifest}: files.{key}.file: expected {expected!r}, a file in this "
                    f"folder, found {entry['file']!r}: damaged; {REMEDY}"
                )
        self.entries = {
            key: {name: entry[name] for name in ("file", "sha256", "num_updates")}
            | {"owes_callbacks": entry.get("owes_callbacks", False)}
            for key, entry in content["files"].items()
        }
        self.metrics_bytes = content["metrics_bytes"]
        self.metrics_sha256 = content.get("metrics_sha256")
        self.config_sha256 = content.get("config_sha256", [])
        self.train_s = float(content.get("train_s", 0.0))
        try:
            self.failed = {int(k): v for k, v in content.get("failed", {}).items()}
        except ValueError:
            raise ValueError(
                f"{self.manifest}: failed: expected members' numbers, found "
                f"{', '.join(content['failed'])[:60]}; {REMEDY}"
            ) from None

    def _write_manifest(self) -> None:
        content = {
            "files": self.entries,
            "metrics_bytes": self.metrics_bytes,
            "metrics_sha256": self.metrics_sha256,
            "config_sha256": self.config_sha256,
            "train_s": self.train_s,
            "failed": {str(member): update for member, update in self.failed.items()},
        }
        known = {name: value for name, value in content.items() if value is not None}
        write_json(self.manifest, known | {"sha256": _content_hash(known)})

    def save(
        self,
        key: str,
        learner: Learner,
        extra: Mapping[str, Tensor],
        metrics_bytes: int,
        pending_callbacks: bool = False,
    ) -> None:
        """Writes the state, then the manifest that names it, and then removes the old state.

        learner: its parameters, targets and optimizer state are saved.
        extra: tensors of the training loop.
        metrics_bytes: size of metrics.jsonl now.
        pending_callbacks: those of this update were cut short and are called again on resume.
        Raises OSError.
        """
        state = {k: v.detach().cpu().contiguous() for k, v in tensors(learner).items()}
        state |= {f"engine.{k}": v.detach().cpu().contiguous() for k, v in extra.items()}
        self.save_state(key, state, learner.num_updates, metrics_bytes, pending_callbacks)

    def save_state(
        self,
        key: str,
        state: dict[str, Tensor],
        num_updates: int,
        metrics_bytes: int,
        pending_callbacks: bool = False,
    ) -> None:
        """As `save`, for tensors as a checkpoint holds them, after `num_updates`."""
        name = _file_name(key, num_updates)
        header = {"format": FORMAT, "version": 1, "num_updates": num_updates}
        save_tensors(state, header, self.folder / name)
        before = self.entries.get(key)
        digest = sha256_file(self.folder / name)
        self.entries[key] = {
            "file": name, "sha256": digest, "num_updates": num_updates,
            "owes_callbacks": pending_callbacks,
        }  # fmt: skip
        self.metrics_bytes = metrics_bytes
        self.metrics_sha256 = self.metrics_hash.of(metrics_bytes)
        if not self.config_sha256 and self.config.exists():
            self.config_sha256 = [sha256_file(self.config)]
        self._write_manifest()
        if before is not None and before["file"] != name:
            (self.folder / before["file"]).unlink(missing_ok=True)

    def num_updates(self, key: str) -> int:
        """Updates that the saved state has made; 0 if there is none."""
        return int(self.entries.get(key, {}).get("num_updates", 0))

    def has_pending_callbacks(self, key: str) -> bool:
        """Whether the callbacks of the saved update must be called again."""
        return bool(self.entries.get(key, {}).get("owes_callbacks"))

    def load(self, key: str, learner: Learner) -> dict[str, Tensor] | None:
        """Copies the saved state into `learner`; returns the tensors saved as `extra`.

        Returns None and changes nothing if no state is saved.
        Raises what `read_state` raises, and ValueError naming the file if it has other shapes.
        """
        if key not in self.entries:
            return None
        state = self.read_state(key)
        path = self.folder / self.entries[key]["file"]
        if any(name.startswith("adam.") for name in state):
            learner.start_optimizer()
        current = dict(tensors(learner))
        extra = {k.removeprefix("engine."): v for k, v in state.items() if k.startswith("engine.")}
        saved = {k: v for k, v in state.items() if not k.startswith("engine.")}
        shapes = {k: tuple(v.shape) for k, v in saved.items()}
        if shapes != {k: tuple(v.shape) for k, v in current.items()}:
            raise ValueError(f"{path}: its nets differ from those that config.json describes")
        with torch.no_grad():
            for name, value in saved.items():
                current[name].copy_(value)
        learner.num_updates = self.num_updates(key)
        return extra

    def read_state(self, key: str) -> dict[str, Tensor]:
        """The tensors of a saved state.

        Raises FileNotFoundError or ValueError naming the file that is missing or damaged.
        """
        entry = self.entries[key]
        path = self.folder / entry["file"]
        state, header = load_tensors(path, FORMAT)
        if sha256_file(path) != entry["sha256"]:
            raise ValueError(f"{path}: damaged, its hash differs from {self.manifest}")
        check_schema(header, {"num_updates": Count(0)}, path, REMEDY, "header")
        if header["num_updates"] != entry["num_updates"]:
            raise ValueError(
                f"{self.manifest}: files.{key}.num_updates: expected {header['num_updates']}, as "
                f"in {path.name}, found {entry['num_updates']}: damaged; {REMEDY}"
            )
        return state

    def write_config(self, content: Mapping[str, Any]) -> None:
        """Writes `config.json` and its hash; a crash at any point leaves a config that is known.

        Raises OSError.
        """
        text = to_json_bytes(content)
        digest = hashlib.sha256(text).hexdigest()
        old = self.config.read_bytes() if self.config.exists() else None
        if old == text and self.config_sha256 == [digest] and self.manifest.exists():
            return
        if old is not None and self.manifest.exists():
            self.config_sha256 = [*{hashlib.sha256(old).hexdigest(): 0, digest: 0}]
            self._write_manifest()
        if old != text:
            write_bytes(self.config, text)
        self.config_sha256 = [digest]
        self._write_manifest()

    def check_config(self) -> None:
        """Raises ValueError if `config.json` is not the file that the manifest knows."""
        if self.config_sha256 and sha256_file(self.config) not in self.config_sha256:
            raise ValueError(
                f"{self.config}: damaged, its hash differs from {self.manifest}; {REMEDY}"
            )

    def check_metrics(self) -> None:
        """Raises ValueError if `metrics.jsonl` lacks or changes rows of the last checkpoint."""
        check_metrics(self.metrics_hash.path, self.metrics_bytes, self.metrics_sha256)

    def sweep(self) -> None:
        """Removes what a killed process left: old weights, temporary files, a config's hash.

        The run is locked.
        """
        sweep(self.folder)
        if len(self.config_sha256) > 1:
            self.config_sha256 = [sha256_file(self.config)]
            self._write_manifest()
        named = {entry["file"] for entry in self.entries.values()}
        for path in self.folder.glob("*.safetensors"):
            if WEIGHTS.fullmatch(path.name) and path.name not in named:
                path.unlink(missing_ok=True)


def checked_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl` in a run folder.  Raises ValueError if the file is damaged."""
    Checkpoints(folder / "checkpoint").check_metrics()
    return read_metrics(folder / "metrics.jsonl")


def _file_name(key: str, num_updates: int) -> str:
    return f"{key}-{num_updates:09d}.safetensors"


def _claimed_hash(content: dict[str, Any]) -> str:
    """The hash that a manifest states; that of its content if it is too old to state one."""
    if "sha256" not in content and content.keys() <= UNHASHED:
        return _content_hash(content)
    return str(content.get("sha256"))


def _content_hash(content: Mapping[str, Any]) -> str:
    """Hash of a manifest's content, except the time, in which equal runs differ."""
    hashed = {k: v for k, v in content.items() if k not in ("train_s", "sha256")}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()
