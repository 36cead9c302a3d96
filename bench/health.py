"""Measures whether TGE's rewards identify the expert's transitions.

Hides expert episodes in a background of random ones, relabels it with one demonstration, and
computes the AUC: the probability that a transition of a hidden expert episode has a higher reward
than one of the other episodes. 0.5 is chance, 1 is perfect. Each horizon has its own diffusion
models, one per seed; both kernels use the same embeddings. Writes results.csv in --out, with the
median, lowest and highest AUC of the seeds. A second call with the same --out continues where the
first one stopped.
Example: python -m bench.health --out runs/health --envs Hopper-v4 --seeds 0
"""

import argparse
import csv
import statistics
from pathlib import Path
from typing import Any

import torch

import fastifo
from bench.arguments import make_parser
from bench.timing import current_commit, machine
from fastifo import Dataset
from fastifo.algos.rewards.resumable import load_array
from fastifo.algos.rewards.tge import tge_reward

KERNELS = ("kernel_of_mean", "gaussian")


def area(reward: torch.Tensor, expert: torch.Tensor) -> float:
    """AUC: the probability that an expert transition has a higher reward than another.

    Ties count half.  reward: [N].  expert: bool [N].
    """
    _, index, count = reward.unique(return_inverse=True, return_counts=True)
    rank = (count.cumsum(0) - 0.5 * (count - 1)).double()[index]  # mean rank among ties, from 1
    wins = rank[expert].sum() - 0.5 * expert.sum() * (expert.sum() + 1)
    return float(wins / (expert.sum() * (~expert).sum()))


def hidden_expert(dataset: Dataset, count: int) -> torch.Tensor:
    """Whether a background transition is in the last `count` episodes, the expert's: bool [N]."""
    lengths = dataset.background.lengths
    is_expert = torch.zeros(int(lengths.sum()), dtype=torch.bool)
    is_expert[-int(lengths[-count:].sum()) :] = True
    return is_expert


def nearest_distances(
    dataset: Dataset, options: argparse.Namespace, folder: Path, **fields: Any
) -> torch.Tensor:
    """Distances of each background window to the 5 nearest ones of the demonstration, [N, 5]."""
    fastifo.relabel(
        "tge", dataset, out=folder, diffusion_updates=options.updates, unet_width=options.width,
        diffusion_batch_size=options.batch_size, diffusion_learning_rate=options.learning_rate,
        ema_start=options.updates // 3, embedding_dtype="float16", **fields,
    )  # fmt: skip
    (file,) = folder.glob("distances-*.npy")
    distances = load_array(file)
    assert distances is not None
    return distances.double()


def parse_options() -> argparse.Namespace:
    """The command line's options."""
    parser = make_parser("bench.health", __doc__)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of models and results")
    add("--envs", nargs="+", default=["Hopper-v4", "Walker2d-v4"], help="tasks")
    add("--total", type=int, default=100, help="episodes in the background")
    add("--expert", type=int, default=10, help="expert episodes among them")
    add("--clone", type=int, default=0, help="demonstrations of the clone that plays the other "
        "episodes, as in a bimodal spec; 0 for random actions")  # fmt: skip
    add("--horizons", type=int, nargs="+", default=[32, 1], help="rows of a window")
    add("--updates", type=int, default=600, help="updates of the diffusion model")
    add("--learning-rate", type=float, default=1e-3, help="learning rate of the diffusion model")
    add("--batch-size", type=int, default=64, help="batch size of the diffusion model")
    add("--width", type=int, default=16, help="width of the diffusion model's first level")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the diffusion model")
    return parser.parse_args()


def main() -> None:
    """Trains the models, prints the AUC of each kernel and writes the rows."""
    options = parse_options()
    rows: list[dict[str, Any]] = []
    for env_id in options.envs:
        dataset = fastifo.load(
            f"bimodal:{env_id}/expert={options.expert},total={options.total},demos=1,"
            f"clone={options.clone}"
        )
        expert = hidden_expert(dataset, options.expert)
        for horizon in options.horizons:
            distances = [
                nearest_distances(dataset, options, options.out / env_id / f"H{horizon}-{seed}",
                                  seed=seed, horizon=horizon)
                for seed in options.seeds
            ]  # fmt: skip
            for kernel in KERNELS:
                areas = [area(tge_reward(each, 1.0, kernel), expert) for each in distances]
                rows.append(
                    {
                        "env": env_id, "horizon": horizon, "kernel": kernel,
                        "auc": round(statistics.median(areas), 4), "low": round(min(areas), 4),
                        "high": round(max(areas), 4), "seeds": len(areas),
                        "expert": options.expert, "total": options.total, "clone": options.clone,
                        "updates": options.updates, "learning_rate": options.learning_rate,
                        "machine": machine(torch.device("cpu")), "commit": current_commit(),
                    }
                )  # fmt: skip
                print(f"{env_id}  H = {horizon}  {kernel}: AUC {rows[-1]['auc']} "
                      f"({rows[-1]['low']} to {rows[-1]['high']})", flush=True)  # fmt: skip
                with (options.out / "results.csv").open("w", newline="") as file:
                    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(rows)


if __name__ == "__main__":
    main()
