"""A report's numbers as one CSV file, a line for each policy."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.envs.returns import normalized_score
from fastifo.report.runs import Entry
from fastifo.utils.files import write_bytes

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
        background = entry.dataset.get("background_returns")
        swept = _swept([member.get("config", {}) for member in entry.config["members"]])
        for place, member in enumerate(entry.members):
            about, episodes = entry.config["members"][member], entry.returns.returns[place]
            mean = float(episodes.mean())
            score = normalized_score(entry.returns.env_id, mean)
            mode, config = entry.deterministic, about.get("config", {})
            rows.append(
                {
                    "env_id": entry.returns.env_id,
                    "set": entry.set_name,
                    "background": f"{np.mean(background):.1f}" if background else "",
                    "algorithm": entry.config["algorithm"],
                    "run": entry.folder.relative_to(root).as_posix(),
                    "member": member,
                    "seed": about["seed"],
                    "swept": " ".join(f"{name}={config[name]}" for name in swept),
                    "updates": entry.returns.num_updates,
                    "episodes": len(episodes),
                    "return": f"{mean:.1f}",
                    "std": f"{episodes.std():.1f}",
                    "mode": "" if mode is None else f"{mode.returns[place].mean():.1f}",
                    "score": "" if score is None else f"{score:.2f}",
                }
            )
    return rows


def _swept(configs: Sequence[dict[str, Any]]) -> list[str]:
    """The fields in which a run's members differ."""
    first = configs[0]
    return [name for name in first if any(config.get(name) != first[name] for config in configs)]


def write_results(entries: Sequence[Entry], root: Path, path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(result_rows(entries, root))
    write_bytes(path, text.getvalue().encode())
