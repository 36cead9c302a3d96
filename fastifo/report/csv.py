"""A report's numbers as one CSV file with a line for each policy."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.engine.summary import differing_fields
from fastifo.envs.returns import Returns
from fastifo.report.runs import name_below
from fastifo.report.summary import RunSummary
from fastifo.utils.files import write_bytes
from fastifo.utils.text import decimals_for

COLUMNS = (
    "env_id", "set", "background", "algorithm", "run", "member", "seed", "swept", "updates",
    "episodes", "return", "std", "mode", "score", "success", "success_mode",
)  # fmt: skip


def result_rows(runs: Sequence[RunSummary], root: Path) -> list[dict[str, Any]]:
    """One row for every member of every evaluated run.

    set: the number of a benchmark's set, such as d=5.  background: mean return of the data.  run:
    the folder below `root`, which is resolved.  swept: the fields in which a run's members differ.
    return, std: over episodes of sampled actions; mode: mean return of the policy's mode.  score:
    D4RL's, of sampled actions.  success, success_mode: share of episodes in which the task
    succeeded, of samples and of the mode.
    """
    rows = []
    for run in runs:
        if run.returns is None:
            continue
        digits = max(1, decimals_for(run.returns.per_member))
        swept = differing_fields([run.member_config(i) for i in range(len(run.config["members"]))])
        for index, member in enumerate(run.members):
            episodes = run.returns.returns[index]  # [E]
            mean = float(run.returns.per_member[index])
            score = run.returns.score_of(mean)
            mode, config = run.deterministic, run.member_config(member)
            rows.append(
                {
                    "env_id": run.returns.env_id,
                    "set": run.set_name,
                    "background": f"{run.background_mean:.{digits}f}"
                    if run.background_returns
                    else "",
                    "algorithm": run.algorithm,
                    "run": name_below(root, run.folder),
                    "member": member,
                    "seed": run.config["members"][member]["seed"],
                    "swept": " ".join(f"{name}={config[name]}" for name in swept),
                    "updates": run.returns.num_updates,
                    "episodes": len(episodes),
                    "return": f"{mean:.{digits}f}",
                    "std": f"{np.nanstd(episodes):.{digits}f}",
                    "mode": "" if mode is None else f"{mode.per_member[index]:.{digits}f}",
                    "score": "" if score is None else f"{score:.2f}",
                    "success": _success(run.returns, index),
                    "success_mode": _success(mode, index),
                }
            )
    return rows


def _success(returns: Returns | None, index: int) -> str:
    """A member's share of episodes that succeeded; empty where that is not known."""
    rates = None if returns is None else returns.success_per_member
    return "" if rates is None else f"{rates[index]:.3f}"


def write_results(runs: Sequence[RunSummary], root: Path, path: Path) -> None:
    """Writes the rows of `result_rows` below a header.  Raises OSError naming the file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(result_rows(runs, root))
    write_bytes(path, text.getvalue().encode())
