"""Markdown tables of the learning studies, from the files in bench/results."""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastifo.envs.scores import normalized_score
from fastifo.utils.statistics import bootstrap_interval, interquartile_mean, stratified_interval

RESULTS = Path(__file__).parent / "results"


def read_rows(name: str) -> list[dict[str, str]]:
    """The rows of a CSV file in bench/results."""
    with (RESULTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def markdown(header: str, rows: Iterable[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """A Markdown table.

    header: names of the columns, separated by ` | `.  left: indices of the left-aligned columns;
    the others are right-aligned.
    """
    rule = " | ".join("---" if i in left else "---:" for i in range(header.count("|") + 1))
    return "\n".join(f"| {line} |" for line in (header, rule, *map(" | ".join, rows)))


def _spread(values: Sequence[float]) -> str:
    """Mean (lowest to highest), or an empty cell without values."""
    if not values:
        return ""
    return f"{statistics.mean(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def study_table(name: str, column: str = "return") -> str:
    """One line per set: the mean over seeds, and the lowest and highest seed, of every method.

    column: `return` for sampled actions, `mode` for the policy's mode.
    """
    rows = read_rows(f"{name}.csv")
    methods = list(dict.fromkeys(row["algorithm"] for row in rows))
    sets: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for row in rows:
        by_method = sets.setdefault((row["env_id"], row["set"], row["background"]), {})
        by_method.setdefault(row["algorithm"], []).append(float(row[column]))
    lines = [
        [env_id, which, f"{float(background):.0f}", *(_spread(values.get(m, [])) for m in methods)]
        for (env_id, which, background), values in sets.items()
    ]
    return markdown(f"task | set | background | {' | '.join(methods)}", lines, left=(0, 1))


def success_table(name: str, column: str = "success") -> str:
    """One line per set: rates of success of every method, in percent, as `study_table`.

    column: `success` for sampled actions, `success_mode` for the policy's mode.
    """
    rows = read_rows(f"{name}.csv")
    methods = list(dict.fromkeys(row["algorithm"] for row in rows))
    sets: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for row in rows:
        which = row["set"].removeprefix("background_").replace("=", " ")
        by_method = sets.setdefault((row["env_id"], which, row["background_success"]), {})
        by_method.setdefault(row["algorithm"], []).append(100.0 * float(row[column]))
    lines = [
        [
            f"{env_id}, {which}",
            f"{100.0 * float(background):.0f}",
            *(_spread(values.get(method, [])) for method in methods),
        ]
        for (env_id, which, background), values in sets.items()
    ]
    return markdown(f"set | background | {' | '.join(methods)}", lines)


def gains_table(name: str) -> str:
    """One line per method: success minus the background's in points, over sets and per task."""
    rows = read_rows(f"{name}.csv")
    tasks = list(dict.fromkeys(row["env_id"] for row in rows))
    apart = tasks if len(tasks) > 1 else []
    lines = []
    for method in dict.fromkeys(row["algorithm"] for row in rows):
        for label, column in (("sampled", "success"), ("mode", "success_mode")):
            sets: dict[tuple[str, str], list[float]] = {}
            for row in rows:
                if row["algorithm"] == method:
                    gain = 100.0 * (float(row[column]) - float(row["background_success"]))
                    sets.setdefault((row["env_id"], row["set"]), []).append(gain)
            cells = []
            for selected in (tasks, *([task] for task in apart)):
                gains = np.array([gain for key, gain in sets.items() if key[0] in selected]).T
                low, high = stratified_interval(gains, statistic=_mean)
                cells.append(f"{_mean(gains):+.0f} ({low:+.0f} to {high:+.0f})")
            lines.append([f"{method}, {label}", *cells])
    return markdown(" | ".join(["method", "all sets", *apart]), lines)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())


def seeds_table(name: str, column: str) -> str:
    """One line per set and method: the mean over seeds, its interval, lowest and highest seed."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in read_rows(f"{name}.csv"):
        key = (f"{row['env_id']}, {row['set']}", row["background"], row["algorithm"])
        groups.setdefault(key, []).append(float(row[column]))
    lines = []
    for (which, background, method), values in groups.items():
        low, high = bootstrap_interval(np.array([values]))
        mean, interval = f"{statistics.mean(values):.0f}", f"{low:.0f} to {high:.0f}"
        seeds = f"{min(values):.0f} to {max(values):.0f}"
        lines.append(
            [which, f"{float(background):.0f}", method, mean, interval, seeds, f"{len(values)}"]
        )
    header = "set | background | method | mean | 95 % interval | lowest to highest | seeds"
    return markdown(header, lines, left=(0, 2))


def scores_table(name: str, column: str = "return") -> str:
    """One line per method: interquartile means of the D4RL score, over all sets and per task."""
    rows = [row for row in read_rows(f"{name}.csv") if row["score"]]  # tasks with reference returns
    tasks = list(dict.fromkeys(row["env_id"] for row in rows))
    lines = []
    for method in dict.fromkeys(row["algorithm"] for row in rows):
        sets: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            if row["algorithm"] == method:
                key = (row["env_id"], row["set"])
                score = normalized_score(row["env_id"], float(row[column]))
                sets.setdefault(key, []).append(math.nan if score is None else score)
        cells = []
        for selected in (tasks, *([task] for task in tasks)):
            scores = np.array([values for key, values in sets.items() if key[0] in selected]).T
            low, high = stratified_interval(scores)
            cells.append(f"{interquartile_mean(scores):.1f} ({low:.1f} to {high:.1f})")
        lines.append([method, *cells])
    return markdown(f"method | all sets | {' | '.join(tasks)}", lines)


def horizon_table() -> str:
    """One line per task and method: the mean over seeds after each number of updates."""
    rows = read_rows("horizon.csv")
    lengths = sorted({int(row["num_updates"]) for row in rows})
    groups: dict[tuple[str, str, str], dict[int, str]] = {}
    for row in rows:
        cells = groups.setdefault((row["env_id"], row["background"], row["algorithm"]), {})
        seeds = [float(x) for x in row["per_seed"].split()]
        cells[int(row["num_updates"])] = (
            f"{float(row['return']):.0f} ({min(seeds):.0f} to {max(seeds):.0f})"
        )
    lines = [
        [env_id, f"{float(background):.0f}", method, *(cells.get(count, "") for count in lengths)]
        for (env_id, background, method), cells in groups.items()
    ]
    header = f"task | background | method | {' | '.join(f'{count:,}' for count in lengths)}"
    return markdown(header, lines, left=(0, 2))


def advantages_table() -> str:
    """One line per set and method: means over seeds of the numbers of bench.advantages."""
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in read_rows("advantages.csv"):
        which = row["set"].removeprefix("background_").replace("=", " ")
        groups.setdefault((row["env_id"], which, row["algorithm"]), []).append(row)
    names = ("correlation", "distance", "weighted_distance", "share")
    lines = [
        [
            f"{env_id}, {which}",
            method,
            *(f"{statistics.mean(float(row[name]) for row in rows):.2f}" for name in names),
        ]
        for (env_id, which, method), rows in groups.items()
    ]
    header = "set | method | correlation | distance | after weighting | share of samples"
    return markdown(header, lines, left=(0, 1))


def precision_table() -> str:
    """One line per task and precision."""
    lines = []
    for row in read_rows("precision.csv"):
        mean, low, high, mode = (float(row[key]) for key in ("return", "low", "high", "mode"))
        sampled = f"{mean:.0f} ({low:.0f} to {high:.0f})"
        seeds = ", ".join(row["per_seed"].split())
        lines.append([row["env_id"], row["precision"], sampled, seeds, f"{mode:.0f}"])
    return markdown("task | precision | sampled | of each seed | mode", lines, left=(0, 1, 3))


def _natural_order(name: str) -> list[str | int]:
    """Sort key that puts 4 before 32."""
    return [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", name)]


def ablation_table() -> str:
    """One line per changed setting: the mean over seeds, and the lowest and highest seed."""
    unchanged = {"tge_reward=kernel_of_mean", "sigma=1.0", "neighbours=5"}
    groups: dict[str, list[tuple[float, float]]] = {}
    for row in read_rows("ablation.csv"):
        if row["swept"] in unchanged and row["run"] != "kernel":
            continue  # every sweep contains the same unchanged members
        changed = row["swept"] or row["run"].replace("-", "=")
        name = "nothing" if row["swept"] in unchanged else changed
        groups.setdefault(name, []).append((float(row["return"]), float(row["mode"])))
    names = sorted(groups, key=lambda name: (name != "nothing", _natural_order(name)))
    lines = [[name, *(_spread(x) for x in zip(*groups[name], strict=True))] for name in names]
    return markdown("changed | sampled | mode", lines)


def improve_table() -> str:
    """One line per seed: the mean return of the first data and of each iteration's data."""
    result = json.loads((RESULTS / "improve.json").read_text())
    returns = np.array(result["returns"], float)  # null: nan, of a seed that diverged
    named = [(f"seed {s}", row) for s, row in zip(result["seeds"], returns, strict=True)]
    lines = [
        [name, *(f"{x:.0f}" for x in row)]
        for name, row in (*named, ("mean", np.nanmean(returns, 0)))
    ]
    header = f"| background | {' | '.join(f'{i}' for i in range(1, returns.shape[1]))}"
    return markdown(header, lines)


def iterations_table(name: str, by: str, title: str, column: str, first: str) -> str:
    """One line per group and seed: the first data's value and that of each iteration.

    by: the column that groups the rows.  title: its heading.  column: the value; success is shown
    in percent.  first: the heading of the first data.
    """
    scale = 100 if column == "success" else 1
    groups: dict[str, dict[str, list[float]]] = {}
    for row in read_rows(f"{name}.csv"):  # sorted by iteration
        seeds = groups.setdefault(row[by], {})
        seeds.setdefault(f"seed {row['seed']}", []).append(scale * float(row[column]))
    lines: list[list[str]] = []
    for group, seeds in groups.items():
        means = np.array([*seeds.values()]).mean(0)
        named = [*seeds.items(), ("mean", means)]
        lines += [[group, seed, *(f"{x:.0f}" for x in values)] for seed, values in named]
    header = f"{title} | | {first} | {' | '.join(map(str, range(1, len(lines[0]) - 2)))}"
    return markdown(header, lines, left=(0, 1))


def success_tables(name: str, *, gains: bool = True) -> dict[str, Callable[[], str]]:
    """The tables of a study whose measure is success, by the names of their markers.

    gains: whether every method has every set, so that their gains can be compared.
    """
    tables: dict[str, Callable[[], str]] = {
        f"{name} sampled": partial(success_table, name),
        f"{name} mode": partial(success_table, name, "success_mode"),
    }
    if gains:
        tables[f"{name} gains"] = partial(gains_table, name)
    return tables


def study_tables(
    name: str, column: str = "return", *, scores: bool = True
) -> dict[str, Callable[[], str]]:
    """The tables of a study by the names of their markers.

    column: `return` or `mode`, the main result.  scores: whether the tasks have D4RL scores.
    """
    tables: dict[str, Callable[[], str]] = {name: partial(study_table, name, column)}
    if column == "mode":
        tables[f"{name} sampled"] = partial(study_table, name)
    if scores:
        tables[f"{name} scores"] = partial(scores_table, name, column)
    return tables
