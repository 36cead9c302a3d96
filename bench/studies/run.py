"""Runs the cells of a study one after the other, in any number of processes.

A cell whose row is in the results file is done. Of the others the first one that no process works
on is trained, evaluated and written. Training continues from the checkpoint in --out, and a stop
by --minutes, Ctrl-C or SIGTERM writes one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

import fastifo
from bench.arguments import make_parser
from bench.studies.cells import Cell, Results, updates_before
from bench.timing import ROOT, current_commit, processor
from fastifo import _C, Dataset, algos
from fastifo.utils.devices import choose_device
from fastifo.utils.lease import LEASE, folder_lease
from fastifo.utils.provenance import is_core_current
from fastifo.utils.statistics import bootstrap_interval
from fastifo.utils.text import number_texts

EPISODES = 100  # for each policy, with sampled actions and of its mode
PLAYED = 1000  # episodes of each iteration of self-improvement
REWARDS = ("tge", "seabo", "otr")  # methods that make rewards for IQL


def load_dataset(spec: str) -> Dataset:
    """The dataset of a spec; the second call maps the cached file instead of filling memory."""
    fastifo.load(spec, progress=False)
    return fastifo.load(spec, progress=False)


def fast_precision(method: str) -> str:
    """Bf16 on a CPU that has instructions for it, otherwise what fastifo chooses."""
    loss = algos.find(method, "iql" if method in REWARDS else None).native_loss
    kernels = getattr(_C, _C.isas[0]).bf16_kernels()
    is_fast = loss is not None and "bf16" in loss.precisions and kernels[0] != "emulated"
    return "bf16" if is_fast and not torch.cuda.is_available() else "auto"


def statistics_of(values: Any, prefix: str = "") -> dict[str, Any]:
    """Mean, 95 % interval and each seed's mean.  values: returns, [seeds, episodes]."""
    low, high = bootstrap_interval(values[~np.isnan(values).all(1)])
    return {
        prefix or "return": round(float(np.nanmean(values)), 1),
        f"{prefix}_low".lstrip("_"): round(low, 1),
        f"{prefix}_high".lstrip("_"): round(high, 1),
        f"{prefix}_per_seed".lstrip("_"): " ".join(number_texts(np.nanmean(values, 1))),
    }


def data_values(dataset: Dataset) -> dict[str, Any]:
    """What a row says of its dataset."""
    returns = dataset.background.returns()
    assert returns is not None
    found = statistics_of(returns.double().numpy()[None], "background")
    found.pop("background_per_seed")
    expert = dataset.info.get("expert_returns")  # of its mean actions
    return found | {"expert": round(float(np.mean(expert)), 1) if expert else ""}


def common_values(cell: Cell, run: fastifo.Run | None, precision: str) -> dict[str, Any]:
    """What a row says of the run and the machine."""
    return {
        "spec": cell.spec,
        "seeds": " ".join(map(str, cell.seeds)),
        "precision": run.precision if run else precision,
        "engine": run.engine if run else "",
        "device": str(run.device) if run else "",
        "processor": processor(choose_device("auto")),
        "commit": current_commit(),
    }


def run_cell(cell: Cell, dataset: Dataset, folder: Path, precision: str) -> dict[str, Any]:
    """Trains and evaluates a cell; returns the values of its row.  folder: of the cell."""
    if cell.iteration:
        return improve_cell(cell, dataset, folder, precision)
    shared = {"embeddings": str(folder.parent / "embeddings")} if cell.method == "tge" else {}
    run = fastifo.train(
        cell.method, dataset, num_updates=cell.updates, seeds=cell.seeds,
        out=folder / "run", hidden_sizes=(cell.hidden, cell.hidden), progress=False,
        **{"precision": precision, **cell.fields, **shared},
    )  # fmt: skip
    sampled = run.evaluate(EPISODES, progress=False)
    mode = run.evaluate(EPISODES, deterministic=True, progress=False)
    return {
        **data_values(dataset),
        **statistics_of(sampled.returns),
        **statistics_of(mode.returns, "mode"),
        **common_values(cell, run, precision),
        "episodes": EPISODES,
    }


def improve_cell(cell: Cell, dataset: Dataset, folder: Path, precision: str) -> dict[str, Any]:
    """One more iteration of self-improvement; earlier ones in the folder are kept."""
    fastifo.improve(
        cell.method, dataset, dataset, iterations=cell.iteration, episodes=PLAYED,
        seeds=cell.seeds, out=folder, num_updates=cell.updates, precision=precision,
        hidden_sizes=(cell.hidden, cell.hidden), progress=False, **cell.fields,
    )  # fmt: skip
    played = np.full((len(cell.seeds), PLAYED), np.nan)  # nan: of seeds that diverged
    for row, seed in zip(played, cell.seeds, strict=True):
        file = folder / f"seed-{seed}" / f"iteration-{cell.iteration - 1:02d}" / "played.fastifo"
        if file.exists():
            returns = fastifo.load(file, progress=False).background.returns()
            assert returns is not None
            row[:] = returns
    nothing = dict.fromkeys(("mode", "mode_low", "mode_high", "mode_per_seed"), "")
    return {
        **data_values(dataset), **statistics_of(played), **nothing,
        **common_values(cell, None, precision), "episodes": PLAYED,
    }  # fmt: skip


@contextlib.contextmanager
def stopping(minutes: float) -> Iterator[None]:
    """A block that SIGTERM, Ctrl-C or the end of the time leaves by KeyboardInterrupt."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    old = {n: signal.signal(n, stop) for n in (signal.SIGTERM, signal.SIGINT)}
    timer = threading.Timer(60 * minutes, os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    if minutes:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        for number, handler in old.items():
            signal.signal(number, handler)


def work(cells: Sequence[Cell], results: Results, out: Path, precision: str) -> None:
    """Runs the open cells that no other process works on.

    precision: of all cells; empty: of `fast_precision`.  A cell that diverges stays open.
    """
    spec, dataset = "", None
    for cell in cells:
        if cell.key in results.read():
            continue
        folder = out / cell.folder
        try:
            with folder_lease(folder):
                if cell.key in results.read():  # another process has just finished it
                    continue
                if cell.spec != spec or dataset is None:
                    dataset = None  # frees its memory first
                    spec, dataset = cell.spec, load_dataset(cell.spec)
                print(f"{cell.label}: running", flush=True)
                chosen = precision or fast_precision(cell.method)
                values = run_cell(cell, dataset, folder, chosen)
                results.add(cell, values)
                print(f"{cell.label}: {values['return']}, mode {values['mode']}", flush=True)
        except BlockingIOError as error:
            print(f"{cell.label}: {error}", flush=True)
        except FloatingPointError as error:
            print(f"{cell.label}: diverged, {error}", flush=True)


def status_lines(cells: Sequence[Cell], results: Results, out: Path) -> list[str]:
    """One line per cell: done, running or open, with the estimated processor time."""
    done, lines, total = results.read(), [], 0.0
    for cell in cells:
        if cell.key in done:
            status = f"done, {done[cell.key]['return']}"
        else:
            minutes = cell.minutes(updates_before(cell, cells))
            total += minutes
            is_running = (out / cell.folder / LEASE).exists()
            status = f"{'running' if is_running else 'open'}, about {minutes:.0f} min"
        lines.append(f"{cell.label}: {status}")
    count = sum(cell.key in done for cell in cells)
    return [*lines, f"{count} of {len(cells)} cells done; about {total / 60:.0f} h are left"]


def parse_options(module: str, doc: str | None, results: Path) -> argparse.Namespace:
    """The command line of a study.  results: its committed file."""
    parser = make_parser(module, doc)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of runs and checkpoints")
    add("--results", type=Path, default=results, help="CSV file of the finished cells")
    add("--minutes", type=float, default=0.0, help="stop after this time; 0: when all is done")
    add("--only", nargs="+", default=[], help="run cells whose line in --list has all these texts")
    add("--list", action="store_true", help="show the state of every cell and stop")
    add("--threads", type=int, default=1, help="threads of training")
    add("--precision", default="", help="as in `fastifo train`; empty: bf16 where it is fast")
    add("--paper", action="store_true", help="512 x 2 and 1,000,000 updates; default on a GPU")
    return parser.parse_args()


def main(module: str, doc: str | None, path: Path, cells: Callable[[bool], Sequence[Cell]]) -> None:
    """A study's command.

    path: its results.  cells: all its cells; the argument is whether they have the paper's size.
    """
    options = parse_options(module, doc, path)
    torch.set_num_threads(options.threads)
    selected = [
        cell
        for cell in cells(options.paper or torch.cuda.is_available())
        if all(text in cell.label for text in options.only)
    ]
    if not is_core_current(ROOT):
        raise SystemExit(
            f"{module}: expected the core of this checkout's csrc, found one that was built from "
            "other sources; run pip install -e ."
        )
    results = Results(options.results)
    if options.list:
        print("\n".join(status_lines(selected, results, options.out)))
        return
    try:
        with stopping(options.minutes):
            work(selected, results, options.out, options.precision)
    except KeyboardInterrupt:
        print("stopped; the same command continues", flush=True)
