"""Compares Lift from images with Lift from the state, with the same episodes, methods and seeds.

    python -m bench.lift_images [--demos 40 --episodes 50 --num-updates 2000 --out FOLDER]

The background is played by the scripted expert with action noise. From images, a policy sees one
camera and the arm's own state; from the state, it also sees the cube's pose, but no images. Rows
are added to `bench/results/lift-images.csv` as they are measured. Runs stay in --out: repeating the
command with more updates continues them. CPU time is that of this process and its workers.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import torch

import fastifo
from bench.arguments import make_parser
from bench.envs import cpu_s
from bench.timing import current_commit, machine
from fastifo.benchmarks.images import without_state
from fastifo.data.dataset import Dataset
from fastifo.envs.returns import Returns

RESULTS = Path(__file__).parent / "results" / "lift-images.csv"
COLUMNS = (
    "method", "sees", "size", "demos", "episodes", "background_success", "num_updates",
    "batch_size", "seeds", "played", "success", "low", "high", "by_seed", "updates_per_cpu_s",
    "frames_per_cpu_s", "steps_per_cpu_s", "machine", "commit",
)  # fmt: skip
PRESET = {"images": "robomimic-image", "state": "robomimic"}


def main() -> None:
    """Builds the data, trains and evaluates every method both ways, and adds a row for each."""
    options = parser().parse_args()
    spec = (
        f"sibench:robosuite/Lift/image/background_noise={options.noise},state=1,"
        f"demos={options.demos},episodes={options.episodes},size={options.size},cameras=agentview,"
        f"env.max_episode_steps={options.max_steps}"
    )
    data = fastifo.load(spec)
    print(data.summary())
    kinds: dict[str, Dataset] = {"state": data.with_cameras(), "images": without_state(data)}
    for sees in options.sees:
        for method in options.methods:
            row = measure(method, sees, kinds[sees], options)
            write(row)
            print(row, flush=True)


def parser() -> argparse.ArgumentParser:
    """The script's options."""
    result = make_parser("bench.lift_images", __doc__)
    result.add_argument("--methods", nargs="+", default=["bc", "vfo_bin", "awr"])
    result.add_argument("--sees", nargs="+", default=["state", "images"])
    result.add_argument("--out", type=Path, default=Path("runs/lift-images"))
    result.add_argument("--noise", type=float, default=0.3)
    for name, default in (
        ("demos", 40), ("episodes", 50), ("size", 42), ("max-steps", 80), ("num-updates", 2000),
        ("batch-size", 32), ("eval-episodes", 20), ("seeds", 2), ("width", 256),
    ):  # fmt: skip
        result.add_argument(f"--{name}", type=int, default=default)
    return result


def measure(method: str, sees: str, data: Dataset, options: argparse.Namespace) -> dict[str, Any]:
    """Trains and evaluates one method.  sees: images or state."""
    folder = options.out / f"{sees}-{method}"
    done = fastifo.open_run(folder).updates_done if (folder / "config.json").exists() else 0
    started = cpu_s()
    run = fastifo.train(
        method, data, preset=PRESET[sees], num_updates=options.num_updates,
        seeds=range(options.seeds), batch_size=options.batch_size,
        hidden_sizes=(options.width, options.width), device="cpu", checkpoint_every=100,
        out=folder,
    )  # fmt: skip
    trained = cpu_s()
    returns = run.evaluate(options.eval_episodes, num_workers=1)
    rate = (options.num_updates - done) / (trained - started)
    frames = rate * options.seeds * options.batch_size if sees == "images" else 0.0
    return {
        "method": method, "sees": sees, "size": options.size, "demos": options.demos,
        "episodes": options.episodes, "background_success": success_of(data),
        "num_updates": options.num_updates, "batch_size": options.batch_size,
        "seeds": options.seeds, "played": returns.returns.size, **interval(returns),
        "updates_per_cpu_s": f"{rate:.2f}", "frames_per_cpu_s": f"{frames:.0f}",
        "steps_per_cpu_s": f"{returns.lengths.sum() / (cpu_s() - trained):.1f}",
        "machine": machine(torch.device("cpu")), "commit": current_commit(),
    }  # fmt: skip


def success_of(data: Dataset) -> str:
    """Share of the background's episodes that succeed."""
    success = data.background.success
    return "" if success is None else f"{success.double().mean():.2f}"


def interval(returns: Returns) -> dict[str, str]:
    """The success rate with its interval, and that of each seed."""
    assert returns.success is not None
    assert returns.success_interval is not None
    assert returns.success_per_member is not None
    low, high = returns.success_interval
    seeds = " ".join(f"{rate:.2f}" for rate in returns.success_per_member)
    return {
        "success": f"{returns.success:.3f}", "low": f"{low:.3f}", "high": f"{high:.3f}",
        "by_seed": seeds,
    }  # fmt: skip


def write(row: dict[str, Any]) -> None:
    """Adds a row to the results."""
    is_new = not RESULTS.exists()
    with open(RESULTS, "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
