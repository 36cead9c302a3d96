"""Updates per second of every method, and where they spend their time: part of bench.train."""

from __future__ import annotations

import csv
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from bench.engines import Fastifo, fastifo_dataset
from bench.peers import problem
from bench.timing import current_commit, machine, results_name
from fastifo import _C
from fastifo.algos import ALGORITHMS, BACKBONES
from fastifo.algos.bco import InverseDynamics
from fastifo.algos.discriminator import Discriminator

HIDDEN = 512  # the paper's, with batches of 256
ROUNDS = 3
KINDS = {"native P=1": ("native", 1), "native P=4": ("native", 4), "torch P=1": ("torch", 1)}


def _rate(one: Fastifo, seconds: float) -> float:
    """Updates of one member per second, all members together."""
    made, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        one.step()
        made += one.members
    return made / (time.perf_counter() - started)


def show_methods(threads: int, seconds: float, saves: bool = True) -> str:
    """A table: natively with one and with four members, in torch with one; shares of each part.

    Methods are timed in turn, in three rounds; the numbers are medians.  saves: rows go to
    bench/results.
    """
    torch.set_num_threads(threads)
    dataset = fastifo_dataset(problem.columns())
    # What only makes rewards for another method trains as that one does.
    stages: dict[str, Any] = {name: name for name in ALGORITHMS if name not in BACKBONES}
    stages |= {"(discriminator)": Discriminator, "(inverse dynamics)": InverseDynamics}
    rates: dict[tuple[str, str], list[float]] = {}
    made = {
        (name, kind): Fastifo(dataset, HIDDEN, members, engine, "fp32", algorithm=algorithm)
        for name, algorithm in stages.items()
        for kind, (engine, members) in KINDS.items()
        if engine == "torch" or not isinstance(algorithm, str) or ALGORITHMS[name].native_loss
    }
    for one in made.values():
        one.step()
    for _ in range(ROUNDS):
        for case, one in made.items():
            rates.setdefault(case, []).append(_rate(one, seconds))
    lines = [
        "| method | " + " | ".join(KINDS) + " | " + " | ".join(_C.parts) + " |",
        "| --- |" + " ---: |" * (len(KINDS) + len(_C.parts)),
    ]
    rows, name_of = [], machine(torch.device("cpu"))
    for name in stages:
        parts = [""] * len(_C.parts)
        if (name, "native P=4") in made:
            spent = made[name, "native P=4"].engine.seconds.sum((0, 1))
            parts = [f"{share:.0%}" for share in (spent / spent.sum()).tolist()]
        found = {k: statistics.median(rates[name, k]) for k in KINDS if (name, k) in rates}
        speeds = [f"{found[kind]:.0f}" if kind in found else "" for kind in KINDS]
        lines.append(f"| {name} | " + " | ".join([*speeds, *parts]) + " |")
        for kind, rate in found.items():
            own = rates[name, kind]
            rows.append(
                {
                    "method": name, "kind": kind, "hidden": HIDDEN, "threads": threads,
                    "steps_per_s": round(rate, 1), "low": round(min(own), 1),
                    "high": round(max(own), 1),
                    **{
                        part: share if kind == "native P=4" else ""
                        for part, share in zip(_C.parts, parts, strict=True)
                    },
                    "machine": name_of, "commit": current_commit(),
                }
            )  # fmt: skip
    if not saves:
        return "\n".join(lines)
    path = Path(__file__).parent / "results" / f"methods-{results_name(name_of)}.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return "\n".join([*lines, "", f"written to {path.name}"])
