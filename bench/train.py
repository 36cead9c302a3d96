"""Whole training steps of every engine, alternating in one run: `python -m bench.train`.

Times one VfO-bin update with encoder, head and target copy, as fastifo, torch and JAX make it
(`bench/peers`), in model-steps per second: updates of one member. Each school has a process of its
own that sleeps while the others are timed. A round times every variant once, so that a neighbour's
load meets them all; ratios are medians over rounds. The limit is the step's matrix products at the
speed of a 2048^3 product in the same rounds, and one pass of Adam beside them.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.engines import CORL, SCAN, Fastifo, fastifo_dataset, variants
from bench.peers import problem

ROOT = Path(__file__).parents[1]
LIMIT = "limit"
PEERS = ("corl", "torch", "jax")


def work(
    school: str, hidden: int, populations: list[int], threads: int, device: str,
    forced: tuple[str, str], pipe: Connection,
) -> None:  # fmt: skip
    """Answers (variant, seconds) with model-steps/s until told None."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import torch

    from bench.timing import synchronize

    torch.set_num_threads(threads)
    if school == "fastifo":
        from fastifo.engine import native_engine

        native_engine.ISA, native_engine.HALF_KERNEL = forced
    at_once = 50 if device == "cuda" and school != "jax" else 1  # a step of JAX's is many updates
    made: dict[str, Any] = {}
    if school == LIMIT:
        made[LIMIT] = MatrixProduct(device)
    else:
        for name, make in variants(school, hidden, populations, device).items():
            made[name] = make()
            for _ in range(5):  # three eager ones and a capture on a GPU
                made[name].step()
    pipe.send(list(made))
    while (order := pipe.recv()) is not None:
        name, seconds = order
        engine = made[name]
        engine.step()
        synchronize(torch.device(device))
        steps, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            for _ in range(at_once):
                engine.step()
                steps += engine.members
            synchronize(torch.device(device))
        pipe.send(steps / (time.perf_counter() - started))


class MatrixProduct:
    """2048^3 in float32; a step is one product."""

    members = 1

    def __init__(self, device: str = "cpu") -> None:
        import torch

        self.a, self.b = torch.randn(2, 2048, 2048, device=device)
        self.out = torch.empty(2048, 2048, device=device)

    def step(self) -> None:
        import torch

        torch.mm(self.a, self.b, out=self.out)


def measure(
    schools: list[str], hidden: int, populations: list[int], threads: int, rounds: int,
    seconds: float, device: str, forced: tuple[str, str],
) -> dict[str, list[float]]:  # fmt: skip
    """Model-steps/s of every variant in every round."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    school_of: dict[str, str] = {}
    for school in [*schools, LIMIT]:
        pipes[school], theirs = context.Pipe()
        arguments = (school, hidden, populations, threads, device, forced, theirs)
        context.Process(target=work, args=arguments, daemon=True).start()
        theirs.close()  # so that a child's death is an error here, not a wait
        for name in pipes[school].recv():
            school_of[name] = school
        print(f"ready: {school}", flush=True)
    rates: dict[str, list[float]] = {name: [] for name in school_of}
    for _ in range(rounds):
        for name, school in school_of.items():
            pipes[school].send((name, seconds))
            rates[name].append(pipes[school].recv())
    for pipe in pipes.values():
        pipe.send(None)
    return rates


def limit_of(products: list[float], hidden: int, threads: int, device: str) -> list[float]:
    """Model-steps/s at the measured speed of large products, Adam's pass beside them."""
    flop_rate = [2.0 * 2048**3 * rate for rate in products]
    if device == "cuda":
        import torch

        from bench.timing import peak_bytes_per_s

        bandwidth = peak_bytes_per_s(torch.device(device))
    else:
        bandwidth = copy_bandwidth() * threads
    adam_s = 24.0 * problem.parameters(hidden) / bandwidth
    return [1.0 / (problem.flops(hidden) / rate + adam_s) for rate in flop_rate]


def copy_bandwidth() -> float:
    """Bytes read and written per second by one thread copying what the caches share."""
    import torch

    a = torch.ones(2_500_000)
    b = torch.empty_like(a)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    best = min(_timed(lambda: b.copy_(a)) for _ in range(20))
    torch.set_num_threads(before)
    return 2 * a.numel() * 4 / best


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def rows_of(
    rates: dict[str, list[float]], hidden: int, threads: int, device: str
) -> list[dict[str, Any]]:
    import torch

    from bench.timing import current_commit, machine

    torch.set_num_threads(threads)
    limit = limit_of(rates.pop(LIMIT), hidden, threads, device)
    rows = []
    for name, values in rates.items():
        row: dict[str, Any] = {
            "hidden": hidden, "threads": threads, "engine": name,
            "steps_per_s": round(statistics.median(values), 1),
            "low": round(min(values), 1), "high": round(max(values), 1), "rounds": len(values),
        }  # fmt: skip
        for column, other in (("times_corl", rates.get(CORL)), ("times_jax", rates.get(SCAN))):
            ratio = [v / o for v, o in zip(values, other, strict=True)] if other else []
            row[column] = round(statistics.median(ratio), 2) if ratio else ""
        share = statistics.median(v / top for v, top in zip(values, limit, strict=True))
        row["of_limit"] = round(share, 3)
        row |= {"machine": machine(torch.device(device)), "commit": current_commit()}
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]]) -> str:
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
    """Adds the rows to the machine's file, in place of earlier ones of the same keys."""
    from bench.timing import results_name

    path = ROOT / "bench/results" / f"train-{results_name(rows[0]['machine'])}.csv"
    kept: dict[tuple[str, ...], dict[str, Any]] = {}
    if path.is_file():
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                kept[line["hidden"], line["threads"], line["engine"]] = line
    for row in rows:
        kept[str(row["hidden"]), str(row["threads"]), row["engine"]] = row
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept.values())
    return path


def show_parts(hidden: int, seconds: float) -> str:
    """Where a step of the native engine spends its time, one member on one thread.

    A floor is the part's products at the speed of a large one, and the bytes it has to move at that
    of a copy: sampling reads both sources' two observations, action and terminal, and writes them
    encoded; the head reads logits and writes their gradient.
    """
    import torch

    from fastifo import _C

    torch.set_num_threads(1)
    dataset = fastifo_dataset(problem.columns())
    product = MatrixProduct()
    product.step()
    peak = 2.0 * 2048**3 / min(_timed(product.step) for _ in range(5))
    one = Fastifo(dataset, hidden, 1, "native", "fp32")
    one.step()
    one.engine.seconds.zero_()
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        one.step()
        steps += one.members
    spent = dict(zip(_C.parts, one.engine.seconds.sum((0, 1)).tolist(), strict=True))
    size, trunk = problem.BATCH_SIZE, problem.WIDTH * hidden + hidden * hidden
    head = hidden * problem.ACTION_DIM * problem.NUM_BINS
    weights = 2 * size * (trunk + hidden) + size * (trunk + head)
    bandwidth = copy_bandwidth()
    row = 2 * (problem.OBS_DIM + problem.WIDTH) + problem.ACTION_DIM + 1
    floors = {
        "sampling": 4.0 * 2 * size * row / bandwidth,
        "head": 4.0 * 2 * size * problem.ACTION_DIM * problem.NUM_BINS / bandwidth,
        "target": 2.0 * 2 * size * (trunk + hidden) / peak,
        "scalar": 2.0 * 2 * size * (trunk + hidden) / peak,
        "policy": 2.0 * size * (trunk + head) / peak,
        "backward": 2.0 * (2 * size * (hidden**2 + hidden) + size * (hidden**2 + head)) / peak,
        "weights": 2.0 * weights / peak + 24.0 * problem.parameters(hidden) / bandwidth,
    }
    lines = [
        "| part | ms | share | floor ms | of the floor |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    total = sum(spent.values())
    for part, part_s in spent.items():
        floor = floors.get(part)
        ends = f"{floor * 1e3:.2f} | {floor * steps / part_s:.0%}" if floor else " | "
        lines.append(f"| {part} | {part_s / steps * 1e3:.2f} | {part_s / total:.0%} | {ends} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engines", default="all", help="all, or some of fastifo,corl,torch,jax")
    parser.add_argument("--hidden", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--members", type=int, nargs="+", default=[1, 4, 16], help="populations")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one variant in one round")
    parser.add_argument("--isa", default="", help="plain, avx2 or avx512; the machine's best")
    parser.add_argument(
        "--kernel", default="", help="of bfloat16: widened, dot or matrix; the same"
    )
    parser.add_argument("--methods", action="store_true", help="every method of fastifo instead")
    parser.add_argument(
        "--no-save", action="store_true", help="leave bench/results alone, as --isa and --kernel do"
    )
    options = parser.parse_args()
    schools = ["fastifo", *PEERS] if options.engines == "all" else options.engines.split(",")
    if options.device == "cuda" and "corl" in schools:
        schools.remove("corl")
    if "jax" in schools and importlib.util.find_spec("jax") is None:
        print("JAX is not installed: pip install '.[peers]' to time it too")
        schools.remove("jax")
    if options.methods:
        from bench.methods import show_methods

        print(show_methods(options.threads, options.seconds, not options.no_save))
        return
    for hidden in options.hidden:
        rates = measure(
            schools, hidden, options.members, options.threads, options.rounds, options.seconds,
            options.device, (options.isa, options.kernel),
        )  # fmt: skip
        rows = rows_of(rates, hidden, options.threads, options.device)
        print(f"\nhidden {hidden}, {options.threads} threads, {rows[0]['machine']}\n")
        print(show(rows))
        if "fastifo" in schools and options.device == "cpu":
            from fastifo.engine import native_engine

            native_engine.ISA, native_engine.HALF_KERNEL = options.isa, options.kernel
            print(f"\none step of native fp32, one member, one thread, hidden {hidden}\n")
            print(show_parts(hidden, options.seconds))
        if not options.no_save and not (options.isa or options.kernel):
            print(f"\nwritten to {save(rows).name}")


if __name__ == "__main__":
    main()
