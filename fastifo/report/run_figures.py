"""The figure of runs that do not belong to a study: returns, learning curves and values."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.engine.metrics import RESERVED
from fastifo.envs.returns import MEAN_OF
from fastifo.report.measure import Measure, measure_of
from fastifo.report.plotting import color_of, png_figure
from fastifo.report.runs import by_dataset
from fastifo.report.summary import RunSummary

Panel = Callable[[Any, Sequence[RunSummary]], None]
FEW_POINTS = 20  # of a curve


def draw_runs(runs: Sequence[RunSummary], path: Path) -> None:
    """Writes one PNG: final returns, returns during training, and learned values.

    A panel is drawn only where there is something to show; training losses take the place of what
    is missing. The settings of a sweep are drawn apart. Levels of background and expert are drawn
    when all runs share one dataset.
    """
    groups = by_dataset(runs)
    lines = [line for run in runs for line in run.by_setting()]
    panels: list[Panel] = []
    if any(line.is_evaluated for line in lines):
        panels.append(_draw_returns)
    if any(_metric_means(line, name)[0] for line in lines for name in MEAN_OF.values()):
        panels.append(_draw_curves)
    with_levels = len(panels)
    if any(_metric_means(line, "value_mean_expert")[0] for line in lines):
        panels.append(_draw_values)
    if len(panels) < 2:
        panels.append(_draw_losses)
    count = len(panels)
    with png_figure(path, 1, count, (max(5.0 * count, 8.0), 4.8)) as (figure, axes):
        for axis, draw in zip(axes, panels, strict=True):
            draw(axis, lines)
        if len(groups) == 1:
            for axis in axes[:with_levels]:
                _draw_levels(axis, runs[0], measure_of(runs))
        for axis in axes:
            if axis.get_legend_handles_labels()[0]:
                axis.legend(fontsize=8)
        tasks = dict.fromkeys(group[0].env_id or "no environment" for group in groups)
        figure.suptitle(", ".join(tasks))


def _draw_levels(axis: Any, run: RunSummary, measure: Measure) -> None:
    """Horizontal lines at the means of background and expert."""
    levels = {"background": (measure.background(run), ":"), "expert": (measure.expert(run), "--")}
    for label, (level, style) in levels.items():
        if level is not None:
            axis.axhline(level, color="0.35", ls=style, lw=1.2, label=label)


def _draw_returns(axis: Any, lines: Sequence[RunSummary]) -> None:
    """Mean of each line with its interval, sampled and mode; a dot for each member."""
    measure = measure_of(lines)
    drawn = [(color_of(i), line) for i, line in enumerate(lines) if line.is_evaluated]
    for x, (color, line) in enumerate(drawn):
        for shift, marker, returns in (
            (-0.14, "o", line.returns),
            (0.14, "D", line.deterministic),
        ):
            if returns is None or np.isnan(returns.returns).all():
                continue
            mean, low, high = measure.mean(returns)
            members, fill = measure.members(returns), color if shift < 0 else "white"
            axis.errorbar(
                x + shift, mean, [[mean - low], [high - mean]], fmt=marker, ms=7, capsize=5,
                color=color, mfc=fill,
            )  # fmt: skip
            if len(members) > 1:
                axis.plot(np.full(len(members), x + shift), members, ".", color=color, alpha=0.5)
    axis.plot([], [], "o", color="0.3", label="sampled actions")
    axis.plot([], [], "D", color="0.3", mfc="white", label="mode")
    names = [line.name.replace(", ", "\n") for _, line in drawn]
    widest = max(len(part) for name in names for part in name.split("\n"))
    few = widest * len(names) < 48  # characters that fit side by side
    angle = {"fontsize": 9} if few else {"rotation": 35, "ha": "right", "fontsize": 8}
    axis.set_xticks(range(len(names)), names, **angle)
    axis.set_xlim(-0.6, len(names) - 0.4)
    axis.set_ylabel(f"{measure.name}, 95 % interval; dots: seeds")
    axis.set_title("final policies")


def _draw_curves(axis: Any, lines: Sequence[RunSummary]) -> None:
    """Mean return, or success, over updates, from evaluations during training."""
    measure = measure_of(lines)
    for i, line in enumerate(lines):
        for deterministic, style in ((False, "-o"), (True, "--D")):
            updates, means = _metric_means(line, measure.logged_as(deterministic))
            if updates:
                label = f"{line.name}, {'mode' if deterministic else 'sampled'}"
                fill = "white" if deterministic else color_of(i)
                axis.plot(updates, means, style, ms=4, color=color_of(i), mfc=fill, label=label)
    axis.set_xlabel("updates")
    axis.set_ylabel(f"{measure.name}, mean over seeds")
    axis.set_title("during training")


def _draw_losses(axis: Any, lines: Sequence[RunSummary]) -> None:
    """The policy's loss over updates; of other methods the first metric they log."""
    for i, line in enumerate(lines):
        training = [row for row in line.metrics if row.get("stage") == "train"]
        names = [name for row in training[:1] for name in row if name not in RESERVED]
        name = "policy_loss" if "policy_loss" in names else next(iter(names), "")
        updates, means = _metric_means(line, name)
        if updates:
            label = f"{line.name}, {name.replace('_', ' ')}"
            axis.plot(updates, means, _style(updates), ms=3, color=color_of(i), label=label)
    axis.set_xlabel("updates")
    axis.set_ylabel("loss, mean over seeds")
    axis.set_title("training")


def _draw_values(axis: Any, lines: Sequence[RunSummary]) -> None:
    """Mean value of background and expert states over updates, for runs that log both."""
    for i, line in enumerate(lines):
        if not _metric_means(line, "value_mean_expert")[0]:
            continue
        for source, style in (("background", "-"), ("expert", "--")):
            updates, means = _metric_means(line, f"value_mean_{source}")
            if updates:
                label = f"{line.name}, {source} states"
                axis.plot(
                    updates,
                    means,
                    style + _style(updates)[1:],
                    ms=3,
                    color=color_of(i),
                    label=label,
                )
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


def _style(updates: Sequence[int]) -> str:
    """A line, with a dot at each point where there are so few that a line may not be seen."""
    return "-o" if len(updates) <= FEW_POINTS else "-"
