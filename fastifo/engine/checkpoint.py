"""A run's weights on disk: safetensors files and a manifest with hashes, written atomically."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastifo.algos.learner import Learner, tensors
from fastifo.engine.tensorfile import load_tensors, save_tensors
from fastifo.utils.files import read_json, sha256_file, write_json

FORMAT = "fastifo-checkpoint"


class Checkpoints:
    """`checkpoint/` of a run folder: the newest state of each population and stage.

    A key names a population and a stage, such as "0-train".
    """

    def __init__(self, folder: Path) -> None:
        """Reads the manifest, if there is one.  Raises ValueError if it is another file."""
        self.folder = folder
        self.manifest = folder / "manifest.json"
        self.entries: dict[str, dict[str, Any]] = {}
        self.metrics_bytes = 0  # size of metrics.jsonl at the last checkpoint
        self.train_s = 0.0  # seconds spent in updates so far, by all processes
        self.failed: dict[int, int] = {}  # diverged member -> update
        if self.manifest.exists():
            content = read_json(self.manifest)
            try:
                required = ("file", "sha256", "num_updates")
                self.entries = {
                    key: {name: entry[name] for name in required}
                    | {"owes_callbacks": bool(entry.get("owes_callbacks"))}
                    for key, entry in content["files"].items()
                }
                self.metrics_bytes = int(content["metrics_bytes"])
                self.train_s = float(content.get("train_s", 0.0))
                self.failed = {int(k): int(v) for k, v in content.get("failed", {}).items()}
            except (AttributeError, KeyError, TypeError, ValueError):
                raise ValueError(
                    f"{self.manifest}: expected a fastifo manifest, found another file"
                ) from None

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
        name = f"{key}-{learner.num_updates:09d}.safetensors"
        state = {k: v.detach().cpu().contiguous() for k, v in tensors(learner).items()}
        state |= {f"engine.{k}": v.detach().cpu().contiguous() for k, v in extra.items()}
        header = {"format": FORMAT, "version": 1, "num_updates": learner.num_updates}
        save_tensors(state, header, self.folder / name)
        old = self.entries.get(key, {}).get("file")
        digest = sha256_file(self.folder / name)
        self.entries[key] = {
            "file": name, "sha256": digest, "num_updates": learner.num_updates,
            "owes_callbacks": pending_callbacks,
        }  # fmt: skip
        self.metrics_bytes = metrics_bytes
        write_json(
            self.manifest,
            {
                "files": self.entries,
                "metrics_bytes": metrics_bytes,
                "train_s": self.train_s,
                "failed": self.failed,
            },
        )
        if old not in (None, name):
            (self.folder / old).unlink(missing_ok=True)

    def num_updates(self, key: str) -> int:
        """Updates that the saved state has made; 0 if there is none."""
        return int(self.entries.get(key, {}).get("num_updates", 0))

    def has_pending_callbacks(self, key: str) -> bool:
        """Whether the callbacks of the saved update must be called again."""
        return bool(self.entries.get(key, {}).get("owes_callbacks"))

    def load(self, key: str, learner: Learner) -> dict[str, Tensor] | None:
        """Copies the saved state into `learner`; returns the tensors saved as `extra`.

        Returns None and changes nothing if no state is saved.
        Raises FileNotFoundError or ValueError naming the file that is missing, damaged or of other
        shapes.
        """
        entry = self.entries.get(key)
        if entry is None:
            return None
        path = self.folder / entry["file"]
        state, header = load_tensors(path, FORMAT)
        if sha256_file(path) != entry["sha256"]:
            raise ValueError(f"{path}: damaged, its hash differs from {self.manifest}")
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
        learner.num_updates = header["num_updates"]
        return extra
