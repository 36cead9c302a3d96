"""Do TGE's rewards find the expert? `python -m bench.health --out runs/health`

Hides expert episodes among random ones, shows one demonstration, and asks how often a transition of
a hidden expert's has more reward than a random one: the area under the curve, for windows of 32
rows and of 1, each kernel over the same embeddings. Writes results.csv; running again continues.
"""

import argparse
import csv
import statistics
from pathlib import Path
from typing import Any

import torch

import fastifo
from bench.timing import current_commit, machine
from fastifo import Dataset
from fastifo.algos.rewards.resumable import load_array
from fastifo.algos.rewards.tge import tge_reward

KERNELS = ("kernel_of_mean", "gaussian")


def area(reward: torch.Tensor, expert: torch.Tensor) -> float:
    """Chance that an expert's transition has more reward than another, ties counted half.

    reward: [N].  expert: [N], bool.
    """
    _, place, count = reward.unique(return_inverse=True, return_counts=True)
    rank = (count.cumsum(0) - 0.5 * (count - 1)).double()[place]  # mean rank, from 1
    wins = rank[expert].sum() - 0.5 * expert.sum() * (expert.sum() + 1)
    return float(wins / (expert.sum() * (~expert).sum()))


def hidden(dataset: Dataset, count: int) -> torch.Tensor:
    """Which transitions are of the last `count` episodes, the expert's, [N]."""
    lengths = dataset.background.lengths
    found = torch.zeros(int(lengths.sum()), dtype=torch.bool)
    found[-int(lengths[-count:].sum()) :] = True
    return found


def nearest(
    dataset: Dataset, options: argparse.Namespace, folder: Path, **fields: Any
) -> torch.Tensor:
    """Distances of each background window to the nearest of the demonstration's, [N, 5]."""
    fastifo.relabel(
        "tge", dataset, out=folder, diffusion_updates=options.updates, unet_width=options.width,
        diffusion_batch_size=options.batch_size, diffusion_learning_rate=options.learning_rate,
        ema_start=options.updates // 3, embedding_dtype="float16", **fields,
    )  # fmt: skip
    (file,) = folder.glob("distances-*.npy")
    found = load_array(file)
    assert found is not None
    return found.double()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of models and results")
    parser.add_argument("--envs", nargs="+", default=["Hopper-v4", "Walker2d-v4"])
    parser.add_argument("--total", type=int, default=100, help="episodes in the background")
    parser.add_argument("--expert", type=int, default=10, help="of them the expert's")
    parser.add_argument("--clone", type=int, default=0, help="as in a bimodal spec; 0: random")
    parser.add_argument("--horizons", type=int, nargs="+", default=[32, 1])
    parser.add_argument("--updates", type=int, default=600, help="of the diffusion model")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of the same")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for env_id in options.envs:
        dataset = fastifo.load(
            f"bimodal:{env_id}/expert={options.expert},total={options.total},demos=1,"
            f"clone={options.clone}"
        )
        expert = hidden(dataset, options.expert)
        for horizon in options.horizons:
            distances = [
                nearest(dataset, options, options.out / env_id / f"H{horizon}-{seed}",
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
