"""Updates per second of every method, and where they spend their time: `bench.train --methods`."""

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
from fastifo.algos.discriminator import Discriminator, PairDiscriminator
from fastifo.algos.pw_dice import ContrastiveEncoder
from fastifo.algos.tailo import TAILOConfig

HIDDEN = 512  # the paper's width; batches have 256 rows of each source
ROUNDS = 3
KINDS = {"native P=1": ("native", 1), "native P=4": ("native", 4), "torch P=1": ("torch", 1)}
PARTS_OF = "native P=4"  # the kind whose time is split into parts

Rates = dict[tuple[str, str], list[float]]  # (method, kind) -> model-steps/s in each round


class PenalisedDiscriminator(Discriminator):
    """One with a gradient penalty, as TAILO has two."""

    Config = TAILOConfig


def show_methods(threads: int, seconds: float, saves: bool = True) -> str:
    """A table of model-steps/s of every method in each kind of engine, and the share of each part.

    The kinds are native with one and with four members and torch with one member. Methods take
    turns in three rounds; numbers are medians.

    seconds: time of one method and kind in one round.  saves: whether rows are written to
    bench/results.
    """
    torch.set_num_threads(threads)
    runners = _make_runners()
    rates = _measure(runners, seconds)
    lines = [
        "| method | " + " | ".join(KINDS) + " | " + " | ".join(_C.parts) + " |",
        "| --- |" + " ---: |" * (len(KINDS) + len(_C.parts)),
    ]
    rows: list[dict[str, Any]] = []
    for method in dict.fromkeys(method for method, _ in runners):
        parts = _part_shares(runners.get((method, PARTS_OF)))
        medians = {k: statistics.median(rates[method, k]) for k in KINDS if (method, k) in rates}
        speeds = [f"{medians[kind]:.0f}" if kind in medians else "" for kind in KINDS]
        lines.append(f"| {method} | " + " | ".join([*speeds, *parts]) + " |")
        rows += [_row(method, kind, rates[method, kind], parts, threads) for kind in medians]
    if not saves:
        return "\n".join(lines)
    return "\n".join([*lines, "", f"written to {_save(rows).name}"])


def _make_runners() -> dict[tuple[str, str], Fastifo]:
    """(method, kind) -> a runner that has made its first step."""
    dataset = fastifo_dataset(problem.columns())
    # Methods that only make rewards train their backbone, which is in the list already.
    stages = {name: learner for name, learner in ALGORITHMS.items() if name not in BACKBONES}
    stages |= {
        "(discriminator)": Discriminator,
        "(pair discriminator)": PairDiscriminator,
        "(discriminator, penalty)": PenalisedDiscriminator,
        "(contrastive encoder)": ContrastiveEncoder,
        "(inverse dynamics)": InverseDynamics,
    }
    runners = {
        (name, kind): Fastifo(dataset, HIDDEN, members, engine, "fp32", algorithm=learner)
        for name, learner in stages.items()
        for kind, (engine, members) in KINDS.items()
        if engine == "torch" or learner.native_loss is not None
    }
    for runner in runners.values():
        runner.step()
    return runners


def _measure(runners: dict[tuple[str, str], Fastifo], seconds: float) -> Rates:
    rates: Rates = {case: [] for case in runners}
    for _ in range(ROUNDS):
        for case, runner in runners.items():
            steps, started = 0, time.perf_counter()
            while time.perf_counter() - started < seconds:
                runner.step()
                steps += runner.members
            rates[case].append(steps / (time.perf_counter() - started))
    return rates


def _part_shares(runner: Fastifo | None) -> list[str]:
    """The share of each part of the native engine's update, as text; empty without a runner."""
    if runner is None:
        return [""] * len(_C.parts)
    spent = runner.engine.seconds.sum((0, 1))
    return [f"{share:.0%}" for share in (spent / spent.sum()).tolist()]


def _row(
    method: str, kind: str, rates: list[float], parts: list[str], threads: int
) -> dict[str, Any]:
    """A row of the results file."""
    shares = parts if kind == PARTS_OF else [""] * len(parts)
    return {
        "method": method, "kind": kind, "hidden": HIDDEN, "threads": threads,
        "steps_per_s": round(statistics.median(rates), 1), "low": round(min(rates), 1),
        "high": round(max(rates), 1), **dict(zip(_C.parts, shares, strict=True)),
        "machine": machine(torch.device("cpu")), "commit": current_commit(),
    }  # fmt: skip


def _save(rows: list[dict[str, Any]]) -> Path:
    path = Path(__file__).parent / "results" / f"methods-{results_name(rows[0]['machine'])}.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path
