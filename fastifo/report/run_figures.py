"""The figure of runs that do not belong to a study: returns, learning curves and values."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.envs.returns import MEAN_OF
from fastifo.report.plotting import color_of, png_figure
from fastifo.report.runs import RunSummary, by_dataset


def draw_runs(runs: Sequence[RunSummary], path: Path) -> None:
    """Writes one PNG: final returns, returns during training, and learned values.

    Levels of background and expert are drawn when all runs share one dataset.
    """
    groups = by_dataset(runs)
    with png_figure(path, 1, 3, (15, 4.6)) as (figure, axes):
        _draw_returns(axes[0], runs)
        _draw_curves(axes[1], runs)
        if len(groups) == 1:
            for axis in axes[:2]:
                _draw_levels(axis, runs[0])
        _draw_values(axes[2], runs)
        for axis in axes:
            if axis.get_legend_handles_labels()[0]:
                axis.legend(fontsize=8)
        tasks = dict.fromkeys(group[0].env_id or "no environment" for group in groups)
        figure.suptitle(", ".join(tasks))


def _draw_levels(axis: Any, run: RunSummary) -> None:
    """Horizontal lines at the mean returns of background and expert."""
    for label, returns, style in (
        ("background", run.background_returns, ":"),
        ("expert", run.expert_returns, "--"),
    ):
        if returns:
            axis.axhline(np.mean(returns), color="0.35", ls=style, lw=1.2, label=label)


def _draw_returns(axis: Any, runs: Sequence[RunSummary]) -> None:
    """Mean return of each evaluated run with its interval; a dot for each member."""
    evaluated = [(i, run) for i, run in enumerate(runs) if run.returns is not None]
    for x, (i, run) in enumerate(evaluated):
        assert run.returns is not None
        low, high = run.returns.interval
        mean, color = run.returns.mean, color_of(i)
        axis.errorbar(x, mean, [[mean - low], [high - mean]], fmt="o", ms=8, capsize=6, color=color)
        members = run.returns.per_member
        axis.plot(np.full(len(members), x + 0.18), members, ".", color=color, alpha=0.6)
    axis.set_xticks(range(len(evaluated)), [run.label for _, run in evaluated], rotation=15)
    axis.set_xlim(-0.6, len(evaluated) - 0.4)
    axis.set_ylabel("return, 95 % interval; dots: seeds")
    axis.set_title("final policies, sampled actions")


def _draw_curves(axis: Any, runs: Sequence[RunSummary]) -> None:
    """Mean return over updates, from evaluations during training."""
    for i, run in enumerate(runs):
        for deterministic, style in ((False, "-o"), (True, "--o")):
            updates, means = _metric_means(run, MEAN_OF[deterministic])
            if updates:
                label = f"{run.label}, mode" if deterministic else run.label
                axis.plot(updates, means, style, ms=3, color=color_of(i), label=label)
    axis.set_xlabel("updates")
    axis.set_ylabel("return")
    axis.set_title("during training")


def _draw_values(axis: Any, runs: Sequence[RunSummary]) -> None:
    """Mean value of background and expert states over updates, for runs that log both."""
    for i, run in enumerate(runs):
        if not _metric_means(run, "value_mean_expert")[0]:
            continue
        for source, style in (("background", "-"), ("expert", "--")):
            updates, means = _metric_means(run, f"value_mean_{source}")
            if updates:
                label = f"{run.label}, {source} states"
                axis.plot(updates, means, style, color=color_of(i), label=label)
    axis.set_xlabel("updates")
    axis.set_ylabel("learned value")
    axis.set_title("values")


def _metric_means(run: RunSummary, name: str) -> tuple[list[int], list[float]]:
    """Updates at which a metric was logged, and its mean over members."""
    values: dict[int, list[float]] = defaultdict(list)
    for row in run.metrics:
        if row.get(name) is not None:
            values[row["update"]].append(row[name])
    updates = sorted(values)
    return updates, [float(np.mean(values[update])) for update in updates]
