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
    "background_success",
)  # fmt: skip


def result_rows(runs: Sequence[RunSummary], root: Path) -> list[dict[str, Any]]:
    """One row for every member of every evaluated run.

    set: the number of a benchmark's set, such as d=5.  background: mean return of the data.  run:
    the folder below `root`, which is resolved.  swept: the fields in which a run's members differ.
    return, std: over episodes of sampled actions; mode: mean return of the policy's mode.  score:
    D4RL's, of sampled actions.  success, success_mode: share of episodes in which the task
    succeeded, of samples and of the mode; background_success: of the data.  Columns of sampled
    actions are empty for a run of which only the mode was played; updates and episodes are then the
    mode's.
    """
    rows = []
    for run in runs:
        played = run.deterministic if run.returns is None else run.returns
        if played is None:
            continue
        digits = max(1, decimals_for(played.per_member))
        swept = differing_fields([run.member_config(i) for i in range(len(run.config["members"]))])
        for index, member in enumerate(run.members):
            mean, std, score = _sampled(run.returns, index, digits)
            mode, config = run.deterministic, run.member_config(member)
            rows.append(
                {
                    "env_id": played.env_id,
                    "set": run.set_name,
                    "background": f"{run.background_mean:.{digits}f}"
                    if run.background_returns
                    else "",
                    "algorithm": run.algorithm,
                    "run": name_below(root, run.folder),
                    "member": member,
                    "seed": run.config["members"][member]["seed"],
                    "swept": " ".join(f"{name}={config[name]}" for name in swept),
                    "updates": played.num_updates,
                    "episodes": played.returns.shape[1],
                    "return": mean,
                    "std": std,
                    "mode": "" if mode is None else f"{mode.per_member[index]:.{digits}f}",
                    "score": score,
                    "success": _success(run.returns, index),
                    "success_mode": _success(mode, index),
                    "background_success": ""
                    if run.background_success is None
                    else f"{run.background_success:.3f}",
                }
            )
    return rows


def _sampled(returns: Returns | None, index: int, digits: int) -> tuple[str, str, str]:
    """A member's mean return, its deviation and D4RL's score; empty where they are not known."""
    if returns is None:
        return "", "", ""
    mean = float(returns.per_member[index])
    score = returns.score_of(mean)
    deviation = np.nanstd(returns.returns[index])
    return (
        f"{mean:.{digits}f}", f"{deviation:.{digits}f}", "" if score is None else f"{score:.2f}"
    )  # fmt: skip


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
    write_bytes(path, text.getvalue().encode(errors="replace"))
