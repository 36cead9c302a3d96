"""Compares the speed of complete training updates between fastifo, torch and JAX.

Times one VfO-bin update with encoder, action head, Adam and target copy, as fastifo and the peers
in bench/peers make it. The unit is model-steps per second: updates of one member. Each
implementation has its own process, which sleeps while the others are timed. A round times every
variant once, so that load from other processes affects all of them. Columns of the table:

  model-steps/s      median over rounds; P=4 is a population of 4 members
  lowest to highest  over rounds
  x CORL, x JAX scan median over rounds of the ratio to that peer in the same round
  of the limit       share of the speed at which the update would run if its matrix products were as
                     fast as a 2048^3 product in the same round and Adam as fast as a copy

A second table shows where the native engine spends its time. Rows are stored in
bench/results/train-<machine>.csv, where they replace earlier ones of the same case.
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

    from bench.limits import MatrixProduct
    from bench.timing import synchronize

    torch.set_num_threads(threads)
    if implementation == "fastifo":
        from fastifo.engine import native_engine

        native_engine.ISA, native_engine.BF16_KERNEL = forced
    # Updates between two looks at the clock; one step of JAX is many updates already.
    chunk = 50 if device == "cuda" and implementation != "jax" else 1
    engines: dict[str, Any] = {}
    if implementation == LIMIT:
        engines[LIMIT] = MatrixProduct(device)
    else:
        for name, make in variants(implementation, hidden, populations, device).items():
            engines[name] = make()
            for _ in range(5):  # on a GPU three eager steps and a capture
                engines[name].step()
    pipe.send(list(engines))
    while (request := pipe.recv()) is not None:
        name, seconds = request
        engine = engines[name]
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
    """Model-steps/s of every variant in every round; LIMIT has products per second."""
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

    from bench.limits import limit_rates
    from bench.timing import current_commit, machine

    torch.set_num_threads(threads)
    limit = limit_rates(rates.pop(LIMIT), hidden, threads, device)
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
        share = statistics.median(v / top for v, top in zip(values, limit, strict=True))
        row["of_limit"] = round(share, 3)
        row |= {"machine": machine(torch.device(device)), "commit": current_commit()}
        rows.append(row)
    return rows


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


def save(rows: list[dict[str, Any]]) -> Path:
    """Writes the rows to the machine's file; they replace earlier rows of the same case."""
    from bench.timing import results_name

    path = ROOT / "bench/results" / f"train-{results_name(rows[0]['machine'])}.csv"
    lines: dict[tuple[str, ...], dict[str, Any]] = {}
    if path.is_file():
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                lines[line["hidden"], line["threads"], line["engine"]] = line
    for row in rows:
        lines[str(row["hidden"]), str(row["threads"]), row["engine"]] = row
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
        if "fastifo" in implementations and options.device == "cpu":
            from bench.limits import show_parts
            from fastifo.engine import native_engine

            native_engine.ISA, native_engine.BF16_KERNEL = options.isa, options.kernel
            print(f"\none step of native fp32, one member, one thread, hidden {hidden}\n")
            print(show_parts(hidden, options.seconds))
        if not options.no_save and not (options.isa or options.kernel):
            print(f"\nwritten to {save(rows).name}")


if __name__ == "__main__":
    main()
