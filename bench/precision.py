"""Do fewer bits cost returns? `python -m bench.precision --out runs/precision`.

First the error of each layer's gradient in one update of 512 x 2 (gradients.csv), then every method
on two tasks in every precision of the native engine, with the same seeds and so the same batches,
each policy evaluated (results.csv). Running again continues.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import torch

import fastifo
from bench.engines import Fastifo, fastifo_dataset
from bench.horizon import SETS, entry, write
from bench.peers import problem

PRECISIONS = ("fp32", "fp32x", "bf16")


def gradient_errors(hidden: int, all_on: bool) -> list[dict[str, Any]]:
    """Of each layer, relative, against double precision in torch: a tenth is in Adam's moment.

    all_on: with hidden biases at 5, so that rounding turns no unit on or off.
    """
    dataset = fastifo_dataset(problem.columns())
    moments: dict[str, dict[str, torch.Tensor]] = {}
    for precision, engine in (("fp64", "torch"), *((name, "native") for name in PRECISIONS)):
        one = Fastifo(dataset, hidden, 1, engine, precision)
        learner: Any = one.learner
        for net in (learner.policy.body, learner.value):
            for layer in list(net.layers)[:-1] if all_on else []:
                torch.nn.init.constant_(layer.bias, 5.0)
        one.engine.load()
        learner.num_updates += one.engine.advance(1)
        one.engine.store()
        first = {id(net): both[0] for net, both in learner.optimizer.moments()}
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--algorithms", nargs="+", default=["vfo_bin"])
    parser.add_argument("--precisions", nargs="+", default=[*PRECISIONS])
    parser.add_argument("--envs", nargs="+", default=["HalfCheetah-v4", "Walker2d-v4"])
    parser.add_argument("--num-updates", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--episodes", type=int, default=50)
    options = parser.parse_args()
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
