"""A report's numbers as one CSV file, a line for each policy."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.entries import Entry
from fastifo.evaluate import normalized_score
from fastifo.files import write_bytes

COLUMNS = (
    "env_id", "set", "background", "algorithm", "run", "member", "seed", "swept", "updates",
    "episodes", "return", "std", "mode", "score",
)  # fmt: skip


def result_rows(entries: Sequence[Entry], root: Path) -> list[dict[str, Any]]:
    """One row for every member of every evaluated run.

    set: what the data's spec counts, such as d=5.  background: mean return of the data.  run: the
    folder below `root`.  swept: the fields in which a run's members differ.  return, std: over
    episodes of the sampled policy; mode: mean return of the deterministic one.  score: D4RL's.
    """
    rows = []
    for entry in entries:
        if entry.returns is None:
            continue
        spec = entry.dataset["info"].get("spec") or {}
        background = entry.dataset.get("background_returns")
        for place, member in enumerate(entry.members):
            about, episodes = entry.config["members"][member], entry.returns.returns[place]
            mean = float(episodes.mean())
            score = normalized_score(entry.returns.env_id, mean)
            mode = entry.deterministic
            rows.append(
                {
                    "env_id": entry.returns.env_id,
                    "set": next((f"{k}={spec[k]}" for k in ("d", "expert") if k in spec), ""),
                    "background": f"{np.mean(background):.1f}" if background else "",
                    "algorithm": entry.config["algorithm"],
                    "run": entry.folder.relative_to(root).as_posix(),
                    "member": member,
                    "seed": about["seed"],
                    "swept": _swept(entry, about.get("config", {})),
                    "updates": entry.returns.num_updates,
                    "episodes": len(episodes),
                    "return": f"{mean:.1f}",
                    "std": f"{episodes.std():.1f}",
                    "mode": "" if mode is None else f"{mode.returns[place].mean():.1f}",
                    "score": "" if score is None else f"{score:.2f}",
                }
            )
    return rows


def _swept(entry: Entry, config: dict[str, Any]) -> str:
    """The member's values of the fields in which the members of its run differ."""
    others = [member.get("config", {}) for member in entry.config["members"]]
    return " ".join(
        f"{name}={value}"
        for name, value in config.items()
        if any(other.get(name) != value for other in others)
    )


def write_results(entries: Sequence[Entry], root: Path, path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(result_rows(entries, root))
    write_bytes(path, text.getvalue().encode())
