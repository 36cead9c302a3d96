"""Measures whether lower precision costs accuracy or returns in the native engine.

gradients.csv has the relative error of each layer's gradient in one update of two layers of 512,
compared with double precision. results.csv has the returns of policies trained in each precision on
SIBench tasks; all precisions have the same seeds and therefore the same batches. A second call with
the same --out continues where the first one stopped.
Example: python -m bench.precision --out runs/precision --envs Walker2d-v4 --seeds 0 1
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import torch

import fastifo
from bench.arguments import make_parser
from bench.engines import Fastifo, fastifo_dataset
from bench.horizon import SETS, entry, write
from bench.peers import problem

PRECISIONS = ("fp32", "fp32x", "bf16")


def gradient_errors(hidden: int, all_on: bool) -> list[dict[str, Any]]:
    """A row per parameter with the relative error of its gradient in each precision.

    The exact gradient is torch's in double precision. The gradient is read from Adam's first
    moment, which holds a tenth of it after one update.

    all_on: sets the hidden biases to 5, so that rounding switches no ReLU on or off.
    """
    dataset = fastifo_dataset(problem.columns())
    moments: dict[str, dict[str, torch.Tensor]] = {}
    for precision, engine in (("fp64", "torch"), *((name, "native") for name in PRECISIONS)):
        runner = Fastifo(dataset, hidden, 1, engine, precision)
        learner: Any = runner.learner
        for net in (learner.policy.body, learner.value):
            for layer in list(net.layers)[:-1] if all_on else []:
                torch.nn.init.constant_(layer.bias, 5.0)
        runner.engine.load()
        learner.num_updates += runner.engine.advance(1)
        runner.engine.store()
        first = {id(parameter): pair[0] for parameter, pair in learner.optimizer.moments()}
        trained = [(n, first[id(p)]) for n, p in learner.named_parameters() if id(p) in first]
        moments[precision] = {name: moment.double() for name, moment in trained}
    return [
        {"hidden": hidden, "all_on": all_on, "layer": name}
        | {
            precision: f"{float((moments[precision][name] - exact).norm() / exact.norm()):.1e}"
            for precision in PRECISIONS
        }
        for name, exact in moments["fp64"].items()
    ]


def parse_options() -> argparse.Namespace:
    """The command line's options."""
    parser = make_parser("bench.precision", __doc__)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of the runs and results")
    add("--algorithms", nargs="+", default=["vfo_bin"], help="methods to train")
    add("--precisions", nargs="+", default=[*PRECISIONS], help="precisions of the native engine")
    tasks = ["HalfCheetah-v4", "Walker2d-v4"]
    add("--envs", nargs="+", default=tasks, help="SIBench tasks: " + ", ".join(SETS))
    add("--num-updates", type=int, default=10_000, help="updates of each run")
    add("--seeds", type=int, nargs="+", default=list(range(5)), help="one member per seed")
    add("--hidden", type=int, default=256, help="width of both hidden layers")
    add("--batch-size", type=int, default=256, help="rows of each source in a batch")
    add("--episodes", type=int, default=50, help="evaluation episodes of each policy")
    return parser.parse_args()


def main() -> None:
    """Measures the gradients' errors, then trains and evaluates in every precision."""
    options = parse_options()
    options.out.mkdir(parents=True, exist_ok=True)
    errors = [row for all_on in (False, True) for row in gradient_errors(512, all_on)]
    for row in errors:
        print(row, flush=True)
    write(errors, options.out / "gradients.csv")
    rows: list[dict[str, Any]] = []
    for env_id in options.envs:
        dataset = fastifo.load(f"sibench:{env_id}/{SETS[env_id]}")
        for algorithm, precision in itertools.product(options.algorithms, options.precisions):
            run = fastifo.train(
                algorithm, dataset, num_updates=options.num_updates, seeds=options.seeds,
                precision=precision, engine="native",
                out=options.out / env_id / algorithm / precision,
                hidden_sizes=(options.hidden, options.hidden), batch_size=options.batch_size,
            )  # fmt: skip
            returns = run.evaluate(options.episodes)
            mode = run.evaluate(options.episodes, deterministic=True)
            rows.append(entry(run, returns, mode))
            print(rows[-1], flush=True)
            write(rows, options.out / "results.csv")


if __name__ == "__main__":
    main()
