"""The study's figures: returns against the background's, and the saw-teeth of self-improvement."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.envs.returns import normalized_score
from fastifo.report.runs import COLORS, ORDER, Entry
from fastifo.studies.improve import Improvement
from fastifo.utils.files import write_atomic
from fastifo.utils.statistics import interquartile_mean, stratified_interval

WIDTH = 0.8  # of one background's group of boxes, the distance of two groups being 1


def algorithms_of(entries: Sequence[Entry]) -> list[str]:
    found = {entry.config["algorithm"] for entry in entries}
    return [name for name in ORDER if name in found] + sorted(found - set(ORDER))


def background_mean(entry: Entry) -> float:
    return float(np.mean(entry.dataset["background_returns"]))


def compared(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Evaluated entries of each task that has several backgrounds with known returns."""
    tasks: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.returns is not None and entry.dataset.get("background_returns"):
            tasks.setdefault(entry.config["env_id"], []).append(entry)
    return {
        env_id: own
        for env_id, own in tasks.items()
        if len({entry.dataset["fingerprint"] for entry in own}) > 1
    }


def draw_differences(tasks: dict[str, list[Entry]], path: Path) -> None:
    """Return less the background's, over the background's (Figures 2 and 4 of the study)."""

    def value(entry: Entry, returns: float) -> float:
        return returns - background_mean(entry)

    _draw_boxes(tasks, path, value, "return less the background's")


def draw_returns(tasks: dict[str, list[Entry]], path: Path) -> None:
    """Returns over the background's (Figures 10 and 12)."""
    _draw_boxes(tasks, path, lambda entry, returns: returns, "return")


def _draw_boxes(
    tasks: dict[str, list[Entry]], path: Path, value: Callable[[Entry, float], float], label: str
) -> None:
    """A panel for each task; a box over the members of each algorithm and background."""
    names = algorithms_of([entry for own in tasks.values() for entry in own])

    def panel(axis: Any, env_id: str) -> None:
        own = tasks[env_id]
        backgrounds = sorted(
            {e.dataset["fingerprint"]: background_mean(e) for e in own}.items(), key=lambda x: x[1]
        )
        place = {fingerprint: i for i, (fingerprint, _) in enumerate(backgrounds)}
        for i, name in enumerate(names):
            color = COLORS[i % len(COLORS)]
            for entry in own:
                if entry.config["algorithm"] != name or entry.returns is None:
                    continue
                values = [value(entry, mean) for mean in entry.returns.per_member]
                x = place[entry.dataset["fingerprint"]] + WIDTH * ((i + 0.5) / len(names) - 0.5)
                box = axis.boxplot(
                    values, positions=[x], widths=0.9 * WIDTH / len(names), patch_artist=True,
                    showfliers=False, manage_ticks=False, medianprops={"color": "black"},
                )  # fmt: skip
                box["boxes"][0].set(facecolor=color, alpha=0.5)
                axis.plot([x] * len(values), values, ".", color=color, ms=4)
        if label == "return":
            ends = range(len(backgrounds))
            axis.plot(ends, [mean for _, mean in backgrounds], "k:", lw=1.2, label="background")
            expert = own[0].dataset["info"].get("expert_returns")
            if expert:
                axis.axhline(np.mean(expert), color="0.35", ls="--", lw=1.2, label="expert")
        else:
            axis.axhline(0.0, color="k", ls=":", lw=1.2)
        for i, name in enumerate(names):
            axis.plot([], [], "s", color=COLORS[i % len(COLORS)], alpha=0.5, label=name)
        axis.set_xticks(range(len(backgrounds)), [f"{mean:.0f}" for _, mean in backgrounds])
        axis.set_xlabel("mean return of the background")
        axis.set_ylabel(label)
        axis.set_title(env_id)

    _draw(list(tasks), panel, path)


def draw_sawteeth(improvements: Sequence[Improvement], path: Path) -> None:
    """The next policy's return over that of its data (Figure 6)."""
    names = list(dict.fromkeys(each.env_id for each in improvements))
    algorithms = list(dict.fromkeys(each.algorithm for each in improvements))

    def panel(axis: Any, env_id: str) -> None:
        for each in improvements:
            if each.env_id != env_id:
                continue
            color = COLORS[algorithms.index(each.algorithm) % len(COLORS)]
            for i, returns in enumerate(each.returns):
                x, y = [returns[0]], [returns[0]]
                for before, after in itertools.pairwise(returns):
                    x += [before, after]  # up to the new policy, then over to the line
                    y += [after, after]
                label = each.algorithm if i == 0 else None
                axis.plot(x, y, "-", color=color, label=label, lw=1.2)
                axis.plot(returns[:-1], returns[1:], "o", ms=4, color=color)
        low, high = axis.get_xlim()
        axis.plot([low, high], [low, high], "k:", lw=1)
        axis.set_xlabel("return of the data")
        axis.set_ylabel("return of the new policy")
        axis.set_title(env_id)

    _draw(names, panel, path)


def swept(entries: Sequence[Entry]) -> dict[str, tuple[str, list[Entry]]]:
    """Title -> (field, evaluated entries whose members differ in it), by task, method and field."""
    found: dict[str, tuple[str, list[Entry]]] = {}
    for entry in entries:
        configs = [entry.config["members"][member].get("config", {}) for member in entry.members]
        for name, first in configs[0].items() if entry.returns is not None else ():
            values = [config.get(name) for config in configs]
            numbers = all(isinstance(x, float | int) and not isinstance(x, bool) for x in values)
            if numbers and any(value != first for value in values):
                title = f"{entry.config['env_id']}: {entry.config['algorithm']}, {name}"
                found.setdefault(title, (name, []))[1].append(entry)
    return found


def draw_sweeps(sweeps: dict[str, tuple[str, list[Entry]]], path: Path) -> None:
    """Returns over the values of a field (Figures 8 and 9): seeds as dots, a line of their means.

    Members that differ in other fields too are taken together.
    """

    def panel(axis: Any, title: str) -> None:
        name, own = sweeps[title]
        for i, entry in enumerate(own):
            assert entry.returns is not None
            color = COLORS[i % len(COLORS)]
            members = [entry.config["members"][member]["config"][name] for member in entry.members]
            returns = np.array(entry.returns.per_member)
            values = sorted(set(members))
            groups = [returns[np.array(members) == value] for value in values]
            axis.plot(members, returns, ".", color=color, alpha=0.6)
            label = "mean over seeds" if len(own) == 1 else f"data {i}"
            axis.plot(values, [group.mean() for group in groups], "-", color=color, label=label)
            if entry.dataset.get("background_returns"):
                axis.axhline(background_mean(entry), color=color, ls=":", lw=1.2)
            if values[0] > 0 and values[-1] >= 10 * values[0]:
                axis.set_xscale("log")
        axis.set_xlabel(name)
        axis.set_ylabel("return; dotted: the background's")
        axis.set_title(title)

    _draw(list(sweeps), panel, path)


def _draw(names: Sequence[str], panel: Callable[[Any, str], None], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(7 * columns, 4.6 * rows), constrained_layout=True, squeeze=False
    )
    for axis, name in zip(axes.flat, names, strict=False):
        panel(axis, name)
        axis.legend(fontsize=8)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    write_atomic(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))
    plt.close(figure)


def aggregate(entries: Sequence[Entry]) -> list[tuple[str, float, tuple[float, float], int]]:
    """(algorithm, interquartile mean of the D4RL score, its interval, tasks).

    Over the sets that every algorithm was evaluated on, with equally many members on each.
    """
    scores: dict[str, dict[str, list[float]]] = {}
    for entry in entries:
        if entry.returns is None or normalized_score(entry.returns.env_id, 0.0) is None:
            continue
        key = entry.dataset["fingerprint"]
        own = [normalized_score(entry.returns.env_id, r) for r in entry.returns.per_member]
        kept = scores.setdefault(entry.config["algorithm"], {}).setdefault(key, [])
        kept += [value for value in own if value is not None and np.isfinite(value)]
    shared = set.intersection(*(set(own) for own in scores.values())) if scores else set()
    found = []
    for name in algorithms_of(entries):
        columns = [scores[name][key] for key in sorted(shared)] if name in scores else []
        if not columns or len({len(column) for column in columns}) > 1 or not columns[0]:
            continue
        matrix = np.array(columns).T
        interval = stratified_interval(matrix)
        found.append((name, interquartile_mean(matrix), interval, len(columns)))
    return found
