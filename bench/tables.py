"""The tables of README.md and studies.md from bench/results: `python -m bench.tables`."""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from fastifo.envs.returns import bootstrap_interval, normalized_score
from fastifo.utils.statistics import interquartile_mean, stratified_interval

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench/results"
MACHINE = "amd-epyc-avx2"  # whose files the README shows

OPS = {  # row of the table: (bench, size) in the file
    "`binned_nll`, loss and gradient": ("binned_nll", "1 x 256 x 6 x 101"),
    "`advantage`, loss, gradient, weights": ("advantage", "1 x (256 + 256)"),
    "`smodice`, the same": ("smodice", "1 x 256"),
    "`dilo`, the same": ("dilo", "1 x 512"),
    "`gather` of five columns, encoded": ("gather", "1 x 256 x 17, encoded"),
    "`gather` of five columns, plain": ("gather", "1 x 256 x 17"),
    "`adam` and target, 925 k parameters": ("adam", "1 x 924767 parameters"),
    "`binned_sample`": ("binned_sample", "1 x 256 x 6 x 101"),
    "`binned_mode`": ("binned_mode", "1 x 256 x 6 x 101"),
}


ENGINES = (  # of the rows that bench.train writes
    "fastifo native fp32 P=1",
    "fastifo native fp32 P=4",
    "fastifo native fp32 P=16",
    "fastifo torch fp32 P=1",
    "fastifo torch fp32 P=4",
    "CORL-style eager torch fp32",
    "torch, fused Adam fp32",
    "torch.compile, fused Adam fp32",
    "torch baddbmm fp32 P=4",
    "JAX scan fp32",
    "JAX vmap fp32 P=4",
    "fastifo native bf16 P=4",
    "torch baddbmm bf16 P=4",
)

PARTS = ("sampling", "target", "scalar", "policy", "head", "backward", "weights")  # of a step


def _rows(name: str) -> list[dict[str, str]]:
    with (RESULTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def ops_table() -> str:
    rows = _rows(f"{MACHINE}-1-threads.csv")
    found = {(r["bench"], r["size"], r["variant"]): float(r["median_us"]) for r in rows}
    lines = ["| op | ours | eager torch | `torch.compile` |", "| --- | ---: | ---: | ---: |"]
    for label, case in OPS.items():
        ours = found[*case, "ours"]
        eager = found.get((*case, "eager"), found.get((*case, "torch fused and lerp")))
        cells = [
            "" if other is None else f"{other:.0f} us ({other / ours:.1f}x)"
            for other in (eager, found.get((*case, "torch.compile")))
        ]
        lines.append(f"| {label} | {ours:.0f} us | {' | '.join(cells)} |")
    return "\n".join(lines)


def train_table() -> str:
    """One line an engine, its columns at both widths."""
    rows = {(r["engine"], r["hidden"]): r for r in _rows(f"train-{MACHINE}-2-threads.csv")}
    lines = [
        "| engine | 512 x 2: steps/s | x CORL-style | x JAX scan | of the limit "
        "| 1024 x 2: steps/s | x JAX scan |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for engine in ENGINES:
        small, wide = rows[engine, "512"], rows[engine, "1024"]
        lines.append(
            f"| {engine} | {float(small['steps_per_s']):.0f} | {float(small['times_corl']):.2f} | "
            f"{float(small['times_jax']):.2f} | {float(small['of_limit']):.0%} | "
            f"{float(wide['steps_per_s']):.1f} | {float(wide['times_jax']):.2f} |"
        )
    return "\n".join(lines)


def methods_table() -> str:
    """One line a method: its speed, and where four members' time goes."""
    rows = {(r["method"], r["kind"]): r for r in _rows(f"methods-{MACHINE}-2-threads.csv")}
    kinds = list(dict.fromkeys(kind for _, kind in rows))
    lines = [
        f"| method | {' | '.join(kinds)} | {' | '.join(PARTS)} |",
        "| --- |" + " ---: |" * (len(kinds) + len(PARTS)),
    ]
    for method in dict.fromkeys(method for method, _ in rows):
        known = {kind: rows[method, kind] for kind in kinds if (method, kind) in rows}
        speeds = [f"{float(known[k]['steps_per_s']):.0f}" if k in known else "" for k in kinds]
        shares = [known["native P=4"][p] if "native P=4" in known else "" for p in PARTS]
        lines.append(f"| {method} | {' | '.join(speeds)} | {' | '.join(shares)} |")
    return "\n".join(lines)


def study_table(name: str, column: str = "return") -> str:
    """One line a set: the mean over seeds, and the lowest and highest seed, of every method.

    column: return of sampled actions, or mode.
    """
    rows = _rows(f"{name}.csv")
    methods = list(dict.fromkeys(row["algorithm"] for row in rows))
    sets: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for row in rows:
        own = sets.setdefault((row["env_id"], row["set"], row["background"]), {})
        own.setdefault(row["algorithm"], []).append(float(row[column]))
    lines = [
        f"| task | set | background | {' | '.join(methods)} |",
        "| --- | --- | ---: |" + " ---: |" * len(methods),
    ]
    for (env_id, which, background), found in sets.items():
        cells = [
            f"{statistics.mean(x):.0f} ({min(x):.0f} to {max(x):.0f})" if x else ""
            for x in (found.get(method, []) for method in methods)
        ]
        mean = f"{float(background):.0f}"
        lines.append(f"| {env_id} | {which} | {mean} | {' | '.join(cells)} |")
    return "\n".join(lines)


def seeds_table(name: str, column: str) -> str:
    """One line a set and method: the mean over seeds, its interval, the lowest and highest seed."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in _rows(f"{name}.csv"):
        key = (f"{row['env_id']}, {row['set']}", row["background"], row["algorithm"])
        found.setdefault(key, []).append(float(row[column]))
    lines = [
        "| set | background | method | mean | 95 % interval | lowest to highest | seeds |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for (which, background, method), values in found.items():
        low, high = bootstrap_interval(np.array([values]))
        lines.append(
            f"| {which} | {float(background):.0f} | {method} | {statistics.mean(values):.0f} | "
            f"{low:.0f} to {high:.0f} | {min(values):.0f} to {max(values):.0f} | {len(values)} |"
        )
    return "\n".join(lines)


def scores_table(name: str, column: str = "return") -> str:
    """One line a method: interquartile means of the score over every set, and each task's."""
    rows = [row for row in _rows(f"{name}.csv") if row["score"]]  # tasks that have one
    tasks = list(dict.fromkeys(row["env_id"] for row in rows))
    lines = [
        f"| method | all sets | {' | '.join(tasks)} |",
        "| --- |" + " ---: |" * (len(tasks) + 1),
    ]
    for method in dict.fromkeys(row["algorithm"] for row in rows):
        sets: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            if row["algorithm"] == method:
                key = (row["env_id"], row["set"])
                score = normalized_score(row["env_id"], float(row[column]))
                sets.setdefault(key, []).append(math.nan if score is None else score)
        cells = []
        for which in (tasks, *([task] for task in tasks)):
            scores = np.array([x for key, x in sets.items() if key[0] in which]).T
            low, high = stratified_interval(scores)
            cells.append(f"{interquartile_mean(scores):.1f} ({low:.1f} to {high:.1f})")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def horizon_table() -> str:
    """One line a task and method: the mean over seeds after so many updates."""
    rows = _rows("horizon.csv")
    lengths = sorted({int(row["num_updates"]) for row in rows})
    found: dict[tuple[str, str, str], dict[int, str]] = {}
    for row in rows:
        own = found.setdefault((row["env_id"], row["background"], row["algorithm"]), {})
        seeds = [float(x) for x in row["per_seed"].split()]
        own[int(row["num_updates"])] = (
            f"{float(row['return']):.0f} ({min(seeds):.0f} to {max(seeds):.0f})"
        )
    lines = [
        f"| task | background | method | {' | '.join(f'{count:,}' for count in lengths)} |",
        "| --- | ---: | --- |" + " ---: |" * len(lengths),
    ]
    for (env_id, background, method), own in found.items():
        cells = " | ".join(own.get(count, "") for count in lengths)
        lines.append(f"| {env_id} | {float(background):.0f} | {method} | {cells} |")
    return "\n".join(lines)


def precision_table() -> str:
    """One line a task and precision."""
    lines = [
        "| task | precision | sampled | of each seed | mode |",
        "| --- | --- | ---: | --- | ---: |",
    ]
    for row in _rows("precision.csv"):
        sampled = (
            f"{float(row['return']):.0f} ({float(row['low']):.0f} to {float(row['high']):.0f})"
        )
        seeds = ", ".join(row["per_seed"].split())
        mode = f"{float(row['mode']):.0f}"
        lines.append(f"| {row['env_id']} | {row['precision']} | {sampled} | {seeds} | {mode} |")
    return "\n".join(lines)


def _in_order(name: str) -> list[str | int]:
    """Sorts 4 in front of 32."""
    return [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", name)]


def ablation_table() -> str:
    """One line a changed setting: the mean over seeds, and the lowest and highest seed."""
    own = {"tge_reward=kernel_of_mean", "sigma=1.0", "neighbours=5"}
    found: dict[str, list[tuple[float, float]]] = {}
    for row in _rows("ablation.csv"):
        if row["swept"] in own and row["run"] != "kernel":  # the same members once more
            continue
        name = "nothing" if row["swept"] in own else row["swept"] or row["run"].replace("-", "=")
        found.setdefault(name, []).append((float(row["return"]), float(row["mode"])))
    lines = ["| changed | sampled | mode |", "| --- | ---: | ---: |"]
    for name in sorted(found, key=lambda each: (each != "nothing", _in_order(each))):
        cells = [
            f"{statistics.mean(x):.0f} ({min(x):.0f} to {max(x):.0f})"
            for x in zip(*found[name], strict=True)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def improve_table() -> str:
    """One line a seed: the mean return of the first data and of each iteration's."""
    found = json.loads((RESULTS / "improve.json").read_text())
    rows = np.array(found["returns"])
    lines = [
        f"| | background | {' | '.join(f'{i}' for i in range(1, rows.shape[1]))} |",
        "| --- |" + " ---: |" * rows.shape[1],
    ]
    named = [*((f"seed {s}", row) for s, row in zip(found["seeds"], rows, strict=True))]
    for name, row in [*named, ("mean", rows.mean(0))]:
        lines.append(f"| {name} | {' | '.join(f'{value:.0f}' for value in row)} |")
    return "\n".join(lines)


STUDIES = ("sibench", "bimodal", "sibench-all")
TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"ops": ops_table, "train": train_table, "methods": methods_table},
    "bench/results/studies.md": {
        **{name: partial(study_table, name) for name in STUDIES},
        **{f"{name} scores": partial(scores_table, name) for name in STUDIES},
        "tge": partial(study_table, "tge", "mode"),
        "tge sampled": partial(study_table, "tge"),
        "tge scores": partial(scores_table, "tge", "mode"),
        "tge-medium": partial(study_table, "tge-medium", "mode"),
        "tge-medium sampled": partial(study_table, "tge-medium"),
        "tge-medium scores": partial(scores_table, "tge-medium", "mode"),
        "door": partial(study_table, "door", "mode"),
        "door sampled": partial(study_table, "door"),
        "true-rewards": partial(seeds_table, "true-rewards", "mode"),
        "ablation": ablation_table,
        "improve": improve_table,
        "horizon": horizon_table,
        "precision": precision_table,
    },
}


def filled(text: str, tables: dict[str, Callable[[], str]], where: str) -> str:
    """The text with every marked table made anew."""
    for name, table in tables.items():
        marked = re.compile(rf"<!-- {name} -->\n.*?<!-- end -->", re.DOTALL)
        if not marked.search(text):
            raise ValueError(f"{where}: expected a table between <!-- {name} --> and an end")
        before, after = marked.split(text)[0], marked.split(text)[-1]
        text = f"{before}<!-- {name} -->\n{table()}\n<!-- end -->{after}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a text differs")
    options = parser.parse_args()
    for where, tables in TABLES.items():
        path = ROOT / where
        before = path.read_text()
        after = filled(before, tables, where)
        if options.check and after != before:
            sys.exit(f"{where}: its tables differ from bench/results; run python -m bench.tables")
        path.write_text(after)


if __name__ == "__main__":
    main()
