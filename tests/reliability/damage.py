"""Runs to damage, and manifests that say something else with a right hash."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastifo
from fastifo.engine.checkpoint import _content_hash
from helpers import SMALL, random_dataset

FIELDS: dict[str, Any] = {"progress": False, "log_every": 2, "checkpoint_every": 5} | SMALL


def make_run(folder: Path, num_updates: int = 10, **fields: Any) -> fastifo.Run:
    """A run of vfo_disc with two members, or the next part of it."""
    return fastifo.train(
        "vfo_disc", random_dataset(), num_updates=num_updates, disc_updates=4, seeds=[0, 1],
        out=folder, **FIELDS | fields,
    )  # fmt: skip


def change_manifest(run: Path, change: Callable[[Any], object]) -> None:
    """Changes the content of a run's manifest and gives it the hash of the new content."""
    path = run / "checkpoint" / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    if isinstance(content, dict):
        content["sha256"] = _content_hash(content)
    path.write_text(json.dumps(content))
