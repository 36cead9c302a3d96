"""Compares the speed of complete training updates between fastifo, torch and JAX.

Times one VfO-bin update with encoder, action head, Adam and target copy, as fastifo and the peers
in bench/peers make it. The unit is model-steps per second: updates of one member. Each
implementation has its own process, which sleeps while the others are timed. A round times every
variant once, so that load from other processes affects all of them. Columns of the table:

  model-steps/s      median over rounds; P=4 is a population of 4 members
  lowest to highest  over rounds
  x CORL, x JAX scan median over rounds of the ratio to that peer in the same round
  of the limit       share of the speed of an update whose matrix products keep the arithmetic units
                     of its precision busy all the time and whose Adam never waits, both
                     measured in the same round (bench/limits.py); on a GPU, if its products were as
                     fast as torch's of 2048^3 and Adam as fast as a copy

The table has a row for the limit itself in each precision. A second table shows where the native
engine spends its time. Rows are stored in bench/results/train-<machine>.csv and
parts-<machine>.csv, where they replace earlier ones of the same case.
Example: python -m bench.train --engines fastifo,torch --hidden 512 --members 1 4 --rounds 3
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import multiprocessing
import os
import statistics
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.arguments import make_parser
from bench.engines import CORL, SCAN, variants

ROOT = Path(__file__).parents[1]
LIMIT = "limit"
PEERS = ("corl", "torch", "jax")


def serve(
    implementation: str, hidden: int, populations: list[int], threads: int, device: str,
    forced: tuple[str, str], pipe: Connection,
) -> None:  # fmt: skip
    """Runs in a separate process: answers (variant, seconds) with model-steps/s until None.

    First sends the list of its variants.  implementation: fastifo, a peer, or LIMIT.  forced: the
    native engine's instruction set and bfloat16 kernel, empty for the best of the machine.
    """
    if hasattr(os, "sched_setaffinity"):  # before torch is imported and starts its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import torch

    from bench.limits import MatrixProduct, Peak, cpu_peaks
    from bench.timing import synchronize

    torch.set_num_threads(threads)
    if implementation == "fastifo":
        from fastifo.engine import native_engine

        native_engine.ISA, native_engine.BF16_KERNEL = forced
    # Updates between two looks at the clock; one step of JAX is many updates already.
    chunk = 50 if device == "cuda" and implementation != "jax" else 1
    engines: dict[str, Any] = {}
    if implementation == LIMIT:
        if device == "cuda":
            engines[f"{LIMIT} product"] = MatrixProduct(device)
        else:
            peaks = cpu_peaks(hidden, threads)
            engines |= {f"{LIMIT} {work}": peak for work, peak in peaks.items()}
    else:
        for name, make in variants(implementation, hidden, populations, device).items():
            engines[name] = make()
            for _ in range(5):  # on a GPU three eager steps and a capture
                engines[name].step()
    pipe.send(list(engines))
    while (request := pipe.recv()) is not None:
        name, seconds = request
        engine = engines[name]
        if isinstance(engine, Peak):
            pipe.send(engine.rate())
            continue
        engine.step()
        synchronize(torch.device(device))
        steps, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            for _ in range(chunk):
                engine.step()
                steps += engine.members
            synchronize(torch.device(device))
        pipe.send(steps / (time.perf_counter() - started))


def measure(
    implementations: list[str], hidden: int, populations: list[int], threads: int, rounds: int,
    seconds: float, device: str, forced: tuple[str, str],
) -> dict[str, list[float]]:  # fmt: skip
    """Model-steps/s of every variant in every round.

    Names that begin with LIMIT have the peaks of `cpu_peaks`; on a GPU, products per second.
    """
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    implementation_of: dict[str, str] = {}
    for implementation in [*implementations, LIMIT]:
        pipes[implementation], child_end = context.Pipe()
        arguments = (implementation, hidden, populations, threads, device, forced, child_end)
        context.Process(target=serve, args=arguments, daemon=True).start()
        child_end.close()  # if the child dies, recv raises instead of waiting forever
        for name in pipes[implementation].recv():
            implementation_of[name] = implementation
        print(f"ready: {implementation}", flush=True)
    rates: dict[str, list[float]] = {name: [] for name in implementation_of}
    for _ in range(rounds):
        for name, implementation in implementation_of.items():
            pipes[implementation].send((name, seconds))
            rates[name].append(pipes[implementation].recv())
    for pipe in pipes.values():
        pipe.send(None)
    return rates


def summarize(
    rates: dict[str, list[float]], hidden: int, threads: int, device: str
) -> list[dict[str, Any]]:
    """A row of the results file for each variant.  rates: as `measure` returns them."""
    import torch

    from bench.timing import current_commit, machine

    torch.set_num_threads(threads)
    limits = _limits(rates, hidden, device)
    rates |= {f"{LIMIT} {precision}": limit for precision, limit in limits.items()}
    rows = []
    for name, values in rates.items():
        row: dict[str, Any] = {
            "hidden": hidden, "threads": threads, "engine": name,
            "steps_per_s": round(statistics.median(values), 1),
            "low": round(min(values), 1), "high": round(max(values), 1), "rounds": len(values),
        }  # fmt: skip
        for column, peer in (("times_corl", rates.get(CORL)), ("times_jax", rates.get(SCAN))):
            ratios = [v / p for v, p in zip(values, peer, strict=True)] if peer else []
            row[column] = round(statistics.median(ratios), 2) if ratios else ""
        limit = limits[precision_of(name)]
        share = statistics.median(v / top for v, top in zip(values, limit, strict=True))
        row["of_limit"] = round(share, 3)
        row |= {"machine": machine(torch.device(device)), "commit": current_commit()}
        rows.append(row)
    return rows


def _limits(rates: dict[str, list[float]], hidden: int, device: str) -> dict[str, list[float]]:
    """Model-steps/s of the limit in each precision and round; takes the peaks out of `rates`."""
    from bench.limits import gpu_peaks, limit_rate

    names = [name for name in rates if name.startswith(LIMIT)]
    measured = {name.removeprefix(f"{LIMIT} "): rates.pop(name) for name in names}
    rounds = [
        dict(zip(measured, values, strict=True)) for values in zip(*measured.values(), strict=True)
    ]
    if device == "cuda":
        rounds = [gpu_peaks(each["product"], device) for each in rounds]
    for name in rounds[0]:
        median = statistics.median(each[name] for each in rounds) / 1e9
        print(f"peak of {name}: {median:.1f} {'G parameters/s' if name == 'adam' else 'GFLOP/s'}")
    precisions = dict.fromkeys(precision_of(name) for name in rates)
    return {p: [limit_rate(each, hidden, p) for each in rounds] for p in precisions}


def precision_of(name: str) -> str:
    """The precision that a variant's name contains."""
    from bench.limits import PRODUCTS

    return next(word for word in name.split() if word in PRODUCTS)


def show(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| engine | model-steps/s | lowest to highest | x CORL | x JAX scan | of the limit |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row['engine']} | {row['steps_per_s']} | {row['low']} to {row['high']} | "
        f"{row['times_corl']} | {row['times_jax']} | {row['of_limit']:.0%} |"
        for row in rows
    ]
    return "\n".join(lines)


def save(rows: list[dict[str, Any]], kind: str, key: Sequence[str]) -> Path:
    """Writes the rows to the machine's file; they replace earlier rows of the same case.

    kind: begins the file's name.  key: the columns that identify a case.
    """
    from bench.timing import results_name

    path = ROOT / "bench/results" / f"{kind}-{results_name(rows[0]['machine'])}.csv"
    lines: dict[tuple[str, ...], dict[str, Any]] = {}
    if path.is_file():
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                lines[tuple(line[name] for name in key)] = line
    for row in rows:
        lines[tuple(str(row[name]) for name in key)] = row
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines.values())
    return path


def parse_options() -> argparse.Namespace:
    """The command line's options."""
    parser = make_parser("bench.train", __doc__)
    add = parser.add_argument
    add("--engines", default="all", help="all, or a comma-separated list of fastifo,corl,torch,jax")
    add("--hidden", type=int, nargs="+", default=[512, 1024], help="widths of both hidden layers")
    add("--members", type=int, nargs="+", default=[1, 4, 16], help="population sizes")
    threads = len(os.sched_getaffinity(0))
    add("--threads", type=int, default=threads, help="CPU threads of each implementation")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where to train")
    add("--rounds", type=int, default=5, help="rounds in which every variant is timed once")
    add("--seconds", type=float, default=3.0, help="time of one variant in one round")
    add("--isa", default="", help="the native engine's instruction set: plain, avx2 or avx512; "
        "the best of the machine if not given")  # fmt: skip
    parser.add_argument(
        "--kernel",
        default="",
        help="its bfloat16 kernel: emulated, avx512bf16 or amx; default: the machine's best",
    )
    add("--methods", action="store_true", help="time every method of fastifo at width 512 instead")
    add("--no-save", action="store_true", help="do not write to bench/results; implied by --isa "
        "and --kernel")  # fmt: skip
    return parser.parse_args()


def chosen_implementations(options: argparse.Namespace) -> list[str]:
    """The implementations to time: those asked for that run on the device and are installed."""
    engines: str = options.engines
    chosen = ["fastifo", *PEERS] if engines == "all" else engines.split(",")
    if options.device == "cuda" and "corl" in chosen:
        chosen.remove("corl")
    if "jax" in chosen and importlib.util.find_spec("jax") is None:
        print("JAX is not installed: pip install '.[peers]' to time it too")
        chosen.remove("jax")
    return chosen


def main() -> None:
    """Times the chosen implementations at every width, prints the tables, stores the rows."""
    options = parse_options()
    implementations = chosen_implementations(options)
    if options.methods:
        from bench.methods import show_methods

        print(show_methods(options.threads, options.seconds, not options.no_save))
        return
    for hidden in options.hidden:
        rates = measure(
            implementations, hidden, options.members, options.threads, options.rounds,
            options.seconds, options.device, (options.isa, options.kernel),
        )  # fmt: skip
        rows = summarize(rates, hidden, options.threads, options.device)
        print(f"\nhidden {hidden}, {options.threads} threads, {rows[0]['machine']}\n")
        print(show(rows))
        saves = not (options.no_save or options.isa or options.kernel)
        if saves:
            print(f"\nwritten to {save(rows, 'train', ('hidden', 'threads', 'engine')).name}")
        if "fastifo" in implementations and options.device == "cpu":
            time_parts(hidden, options, saves)


def time_parts(hidden: int, options: argparse.Namespace, saves: bool) -> None:
    """Prints the table of an update's parts and stores its rows."""
    from bench.limits import measure_parts, show_parts
    from fastifo.engine import native_engine

    native_engine.ISA, native_engine.BF16_KERNEL = options.isa, options.kernel
    rows = measure_parts(hidden, options.seconds)
    print(f"\na native update of one member on one thread, hidden {hidden} (share of the limit)\n")
    print(show_parts(rows))
    if saves:
        print(f"\nwritten to {save(rows, 'parts', ('hidden', 'precision', 'part')).name}")


if __name__ == "__main__":
    main()
