"""Figures of studies: returns by background, sweeps, and self-improvement.

Figure numbers are those of arXiv 2507.06701.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.report.measure import Measure, measure_of
from fastifo.report.plotting import color_of, draw_panels
from fastifo.report.runs import series_of
from fastifo.report.summary import RunSummary
from fastifo.studies.improvement import Improvement

GROUP_WIDTH = 0.8  # of one background's boxes; neighbouring backgrounds are 1 apart

Tasks = dict[str, list[RunSummary]]  # env_id -> its evaluated runs


def runs_by_task(runs: Sequence[RunSummary]) -> Tasks:
    """Evaluated runs of each task that has several backgrounds with known returns."""
    tasks: Tasks = {}
    for run in runs:
        if run.returns is not None and run.background_returns:
            tasks.setdefault(run.config["env_id"], []).append(run)
    return {
        env_id: members
        for env_id, members in tasks.items()
        if len({run.dataset["fingerprint"] for run in members}) > 1
    }


def draw_differences(tasks: Tasks, path: Path) -> None:
    """Return, or success, minus the background's, by background (Figures 2, 3 and 4)."""
    names = series_of(_lines([run for runs in tasks.values() for run in runs]))

    def draw(axis: Any, env_id: str) -> None:
        _draw_boxes(axis, tasks[env_id], names, relative=True)
        axis.axhline(0.0, color="k", ls=":", lw=1.2)
        _finish_boxes(
            axis,
            tasks[env_id],
            names,
            f"{_measure(tasks[env_id]).name} minus the background's mean",
        )

    draw_panels(list(tasks), draw, path)


def draw_returns(tasks: Tasks, path: Path) -> None:
    """Return, or success, by background (Figures 10, 11 and 12)."""
    names = series_of(_lines([run for runs in tasks.values() for run in runs]))

    def draw(axis: Any, env_id: str) -> None:
        runs = tasks[env_id]
        _draw_boxes(axis, runs, names, relative=False)
        means = list(_background_means(runs).values())
        axis.plot(range(len(means)), means, "k:", lw=1.2, label="background")
        level = _measure(runs).expert(runs[0])
        if level is not None:
            axis.axhline(level, color="0.35", ls="--", lw=1.2, label="expert")
        _finish_boxes(axis, runs, names, _measure(runs).name)

    draw_panels(list(tasks), draw, path)


def _measure(runs: Sequence[RunSummary]) -> Measure:
    return measure_of(runs, backgrounds=True)


def _background_means(runs: Sequence[RunSummary]) -> dict[str, float]:
    """Mean of each background by the dataset's fingerprint, in ascending order."""
    measure = _measure(runs)
    means = {run.dataset["fingerprint"]: measure.background(run) or 0.0 for run in runs}
    return dict(sorted(means.items(), key=lambda item: item[1]))


def _draw_boxes(
    axis: Any, runs: Sequence[RunSummary], names: Sequence[str], *, relative: bool
) -> None:
    """A box, or a rate with its interval, for each algorithm and background of one task.

    relative: subtract the background's mean.
    """
    measure, means = _measure(runs), _background_means(runs)
    backgrounds, draw = list(means), _draw_rates if measure.is_success else _draw_box
    for i, name in enumerate(names):
        for line in _lines(runs):
            if line.series != name or line.returns is None:
                continue
            baseline = means[line.dataset["fingerprint"]] if relative else 0.0
            group = backgrounds.index(line.dataset["fingerprint"])
            x = group + GROUP_WIDTH * ((i + 0.5) / len(names) - 0.5)
            draw(axis, line, x, GROUP_WIDTH / len(names), baseline, color_of(i))


def _draw_box(
    axis: Any, line: RunSummary, x: float, width: float, baseline: float, color: str
) -> None:
    """A box over the members' returns of sampled actions, and a diamond for each one's mode."""
    assert line.returns is not None
    values = line.returns.per_member - baseline
    values = values[np.isfinite(values)]  # without members that diverged
    box = axis.boxplot(
        values, positions=[x], widths=0.9 * width, patch_artist=True, showfliers=False,
        manage_ticks=False, medianprops={"color": "black"},
    )  # fmt: skip
    box["boxes"][0].set(facecolor=color, alpha=0.5)
    axis.plot([x] * len(values), values, ".", color=color, ms=4)
    if line.deterministic is not None:
        modes = line.deterministic.per_member - baseline
        axis.plot([x] * len(modes), modes, "D", mfc="none", color=color, ms=4)


def _draw_rates(
    axis: Any, line: RunSummary, x: float, width: float, baseline: float, color: str
) -> None:
    """Success of all episodes with its Wilson interval, sampled and mode; a dot for each member."""
    for shift, marker, returns in ((-0.2, "s", line.returns), (0.2, "D", line.deterministic)):
        rates = None if returns is None else returns.success_per_member
        if returns is None or rates is None or np.isnan(rates).all():
            continue
        rate, low, high = Measure(is_success=True).mean(returns)
        at, fill = x + shift * width, color if returns is line.returns else "white"
        axis.plot(np.full(len(rates), at), rates - baseline, ".", color=color, ms=3, alpha=0.6)
        axis.errorbar(
            at, rate - baseline, [[rate - low], [high - rate]], fmt=marker, ms=4, lw=1,
            color=color, mfc=fill,
        )  # fmt: skip


def _lines(runs: Sequence[RunSummary]) -> list[RunSummary]:
    """The settings of sweeps apart."""
    return [line for run in runs for line in run.by_setting()]


def _finish_boxes(axis: Any, runs: Sequence[RunSummary], names: Sequence[str], label: str) -> None:
    """Legend entries of the algorithms, ticks and axis labels."""
    measure = _measure(runs)
    for i, name in enumerate(names):
        axis.plot([], [], "s", color=color_of(i), alpha=0.5, label=name)
    if any(run.deterministic is not None for run in runs):
        label_of_mode = "mode" if measure.is_success else "mode, each seed"
        axis.plot([], [], "D", mfc="none", color="0.3", ms=4, label=label_of_mode)
    means = list(_background_means(runs).values())
    axis.set_xticks(range(len(means)), [measure.text(mean) for mean in means])
    axis.set_xlabel(f"mean {measure.name} of the background")
    bars = "bars: 95 % Wilson intervals, dots: seeds"
    axis.set_ylabel(f"{label}\n{bars if measure.is_success else 'boxes: sampled actions'}")


def draw_sawteeth(improvements: Sequence[Improvement], path: Path) -> None:
    """The new policy's return, or success, by that of its data, per iteration (Figures 6 and 7)."""
    algorithms = list(dict.fromkeys(each.algorithm for each in improvements))

    def draw(axis: Any, env_id: str) -> None:
        own = [improvement for improvement in improvements if improvement.env_id == env_id]
        shows_success = all(improvement.success is not None for improvement in own)
        name = "success" if shows_success else "return"
        for improvement in own:
            color = color_of(algorithms.index(improvement.algorithm))
            values = improvement.measured if shows_success else improvement.returns
            _draw_sawtooth(axis, values, improvement.algorithm, color)
        low, high = axis.get_xlim()
        axis.plot([low, high], [low, high], "k:", lw=1)
        axis.set_xlabel(f"{name} of the data, sampled actions")
        axis.set_ylabel(f"{name} of the new policy, sampled actions")

    draw_panels(list(dict.fromkeys(each.env_id for each in improvements)), draw, path)


def _draw_sawtooth(
    axis: Any, values: Sequence[Sequence[float]], algorithm: str, color: str
) -> None:
    """A line for each seed: up to the new policy's value, then right to the diagonal."""
    for i, row in enumerate(values):
        x, y = [row[0]], [row[0]]
        for before, after in itertools.pairwise(row):
            x += [before, after]
            y += [after, after]
        axis.plot(x, y, "-", color=color, label=algorithm if i == 0 else None, lw=1.2)
        axis.plot(row[:-1], row[1:], "o", ms=4, color=color)


@dataclass(frozen=True)
class Sweep:
    """Evaluated runs of one task and algorithm whose members differ in one number."""

    env_id: str  # the environment
    algorithm: str  # with its backbone, as in tge-rebrac
    field: str  # of the algorithm's config
    runs: list[RunSummary]

    @property
    def title(self) -> str:
        """Title of the sweep's panel."""
        return f"{self.env_id}: {self.algorithm}, {self.field}"


def find_sweeps(runs: Sequence[RunSummary]) -> list[Sweep]:
    """One sweep for each task, algorithm and field in which members of a run differ."""
    sweeps: dict[str, Sweep] = {}
    for run in runs:
        if run.returns is None:
            continue
        configs = [run.member_config(member) for member in run.members]
        for name, first in configs[0].items():
            values = [config.get(name) for config in configs]
            numbers = all(isinstance(x, float | int) and not isinstance(x, bool) for x in values)
            if numbers and any(value != first for value in values):
                sweep = Sweep(run.config["env_id"], run.algorithm, name, [])
                sweeps.setdefault(sweep.title, sweep).runs.append(run)
    return list(sweeps.values())


def draw_sweeps(sweeps: Sequence[Sweep], path: Path) -> None:
    """Returns by the value of a field (Figures 8 and 9): dots for members, a line for their means.

    Members that differ in other fields too are averaged.
    """
    by_title = {sweep.title: sweep for sweep in sweeps}
    draw_panels(list(by_title), lambda axis, title: _draw_sweep(axis, by_title[title]), path)


def _draw_sweep(axis: Any, sweep: Sweep) -> None:
    for i, run in enumerate(sweep.runs):
        members = [run.member_config(member)[sweep.field] for member in run.members]
        values = sorted(set(members))
        data = "" if len(sweep.runs) == 1 else f", data {i}"
        for kind, style, fill, evaluated in (
            ("sampled actions", "-o", color_of(i), run.returns),
            ("mode", "--D", "white", run.deterministic),
        ):
            if evaluated is None:
                continue
            returns = evaluated.per_member
            means = [np.nanmean(returns[np.array(members) == value]) for value in values]
            axis.plot(members, returns, style[-1], color=color_of(i), mfc=fill, ms=3, alpha=0.6)
            label = f"{kind}, mean over seeds{data}"
            axis.plot(values, means, style, ms=5, mfc=fill, color=color_of(i), label=label)
        if run.background_returns:
            axis.axhline(run.background_mean, color=color_of(i), ls=":", lw=1.2)
        if values[0] > 0 and values[-1] >= 10 * values[0]:
            axis.set_xscale("log")
    axis.set_xlabel(sweep.field)
    axis.set_ylabel("return; dotted: background")
