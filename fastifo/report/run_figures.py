"""The figure of runs that do not belong to a study: returns, learning curves and values."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.envs.returns import MEAN_OF, SUCCESS_OF, Returns
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
                _draw_levels(axis, runs[0], _shows_success(runs))
        _draw_values(axes[2], runs)
        for axis in axes:
            if axis.get_legend_handles_labels()[0]:
                axis.legend(fontsize=8)
        tasks = dict.fromkeys(group[0].env_id or "no environment" for group in groups)
        figure.suptitle(", ".join(tasks))


def _shows_success(runs: Sequence[RunSummary]) -> bool:
    """Whether the figure shows rates of success: they are known of every policy."""
    evaluated = [run.returns for run in runs if run.returns is not None]
    return bool(evaluated) and all(returns.success is not None for returns in evaluated)


def _draw_levels(axis: Any, run: RunSummary, success: bool) -> None:
    """Horizontal lines at the mean returns, or rates of success, of background and expert."""
    for label, returns, rate, style in (
        ("background", run.background_returns, run.background_success, ":"),
        ("expert", run.expert_returns, run.expert_success, "--"),
    ):
        level = rate if success else np.mean(returns) if returns else None
        if level is not None:
            axis.axhline(level, color="0.35", ls=style, lw=1.2, label=label)


def _statistics(returns: Returns, success: bool) -> tuple[float, tuple[float, float], Any]:
    """Mean, interval and means of the members, [P], of returns or of success."""
    if not success:
        return returns.mean, returns.interval, returns.per_member
    assert returns.success is not None
    assert returns.success_interval is not None
    return returns.success, returns.success_interval, returns.success_per_member


def _draw_returns(axis: Any, runs: Sequence[RunSummary]) -> None:
    """Mean return, or success, of each evaluated run with its interval; a dot per member."""
    success = _shows_success(runs)
    evaluated = [(i, run) for i, run in enumerate(runs) if run.returns is not None]
    for x, (i, run) in enumerate(evaluated):
        assert run.returns is not None
        mean, (low, high), members = _statistics(run.returns, success)
        color = color_of(i)
        axis.errorbar(x, mean, [[mean - low], [high - mean]], fmt="o", ms=8, capsize=6, color=color)
        axis.plot(np.full(len(members), x + 0.18), members, ".", color=color, alpha=0.6)
    axis.set_xticks(range(len(evaluated)), [run.label for _, run in evaluated], rotation=15)
    axis.set_xlim(-0.6, len(evaluated) - 0.4)
    axis.set_ylabel(f"{'success' if success else 'return'}, 95 % interval; dots: seeds")
    axis.set_title("final policies, sampled actions")


def _draw_curves(axis: Any, runs: Sequence[RunSummary]) -> None:
    """Mean return, or success, over updates, from evaluations during training."""
    success = _shows_success(runs)
    name_of = SUCCESS_OF if success else MEAN_OF
    for i, run in enumerate(runs):
        for deterministic, style in ((False, "-o"), (True, "--o")):
            updates, means = _metric_means(run, name_of[deterministic])
            if updates:
                label = f"{run.label}, mode" if deterministic else run.label
                axis.plot(updates, means, style, ms=3, color=color_of(i), label=label)
    axis.set_xlabel("updates")
    axis.set_ylabel("success" if success else "return")
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
