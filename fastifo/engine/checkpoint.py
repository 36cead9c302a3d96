"""A run's weights on disk: safetensors, a manifest with hashes, every step of writing atomic."""

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
    """`checkpoint/` of a run folder: the newest state of each population and stage."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = folder / "manifest.json"
        self.entries: dict[str, dict[str, Any]] = {}
        self.metrics_bytes = 0
        self.train_s = 0.0  # spent in updates by all processes so far
        self.failed: dict[int, int] = {}  # member -> update where it broke
        if self.manifest.exists():
            content = read_json(self.manifest)
            try:
                kept = ("file", "sha256", "num_updates")
                files = content["files"].items()
                self.entries = {
                    key: {name: entry[name] for name in kept}
                    | {"owes_callbacks": bool(entry.get("owes_callbacks"))}
                    for key, entry in files
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
        owes_callbacks: bool = False,
    ) -> None:
        """Writes the state, then the manifest that names it, then removes what it replaces.

        owes_callbacks: those of this update were cut short and are to be called again.
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
            "owes_callbacks": owes_callbacks,
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
        """Updates in the saved state of a population and stage; 0 where none is saved."""
        return int(self.entries.get(key, {}).get("num_updates", 0))

    def owes_callbacks(self, key: str) -> bool:
        """Whether those of the saved update are still to be called."""
        return bool(self.entries.get(key, {}).get("owes_callbacks"))

    def load(self, key: str, learner: Learner) -> dict[str, Tensor] | None:
        """Puts the saved state into `learner`; returns the engine's own tensors, or None.

        Raises ValueError naming the file where it is damaged or of another shape.
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
        own = dict(tensors(learner))
        engine = {k.removeprefix("engine."): v for k, v in state.items() if k.startswith("engine.")}
        saved = {k: v for k, v in state.items() if not k.startswith("engine.")}
        shapes = {k: tuple(v.shape) for k, v in saved.items()}
        if shapes != {k: tuple(v.shape) for k, v in own.items()}:
            raise ValueError(f"{path}: its nets are not the ones config.json describes")
        with torch.no_grad():
            for name, value in saved.items():
                own[name].copy_(value)
        learner.num_updates = header["num_updates"]
        return engine
