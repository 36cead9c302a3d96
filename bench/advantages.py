"""Do a method's advantages rank the actions of a noisy expert?

    python -m bench.advantages studies/manipulation/main --out bench/results/advantages.csv

Reads a study with backgrounds of noisy scripted experts (`fastifo study sibench
--background-noise`) whose runs standardize observations, so that each set has its own folder. For
every policy: the correlation of a background action's advantage with its closeness to the script's
own action, the mean distance between the two before and after weighting, and the effective share of
samples, (sum w)^2 / (N sum w^2).
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fastifo
from bench.arguments import make_parser
from fastifo.data.dataset import Dataset
from fastifo.envs.experts import load_expert

METHODS = ("vfo_bin", "awr")
COLUMNS = (
    "env_id", "set", "algorithm", "seed", "correlation", "distance", "weighted_distance", "share",
    "value_std", "advantage_std",
)  # fmt: skip


def transitions(dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Observations, next observations and actions of a background, without last steps."""
    background = dataset.background
    assert background.action is not None
    inner = ~(background.terminal | background.timeout)
    rows = background.rows()[inner]
    return background.obs[rows], background.obs[rows + 1], background.action[inner]


def measure(run: fastifo.Run, member: int, dataset: Dataset) -> dict[str, Any]:
    """The columns of numbers for one policy.  The reward of these rows is 0 for both methods."""
    obs, next_obs, action = transitions(dataset)
    assert dataset.env_id is not None
    expert = load_expert(dataset.env_id, env_kwargs=dict(dataset.env_kwargs))
    distance = (action - expert.act_rows(obs, None)).norm(dim=1).double().numpy()
    learner: Any = run.policy(member).learner
    config: Any = run.members[member].config
    with torch.no_grad():
        value, next_value = (
            learner.value(learner.encoder(part[None].to(learner.dtype)))[0].double().numpy()
            for part in (obs, next_obs)
        )
    advantage: NDArray[np.float64] = config.gamma * next_value - value
    weight = np.minimum(np.exp(advantage / config.temperature), config.max_weight)
    return {
        "correlation": np.corrcoef(advantage, -distance)[0, 1],
        "distance": distance.mean(),
        "weighted_distance": np.average(distance, weights=weight),
        "share": weight.sum() ** 2 / (len(weight) * (weight**2).sum()),
        "value_std": value.std(),
        "advantage_std": advantage.std(),
    }


def main() -> None:
    """Measures every policy of the study and writes the rows."""
    parser = make_parser("bench.advantages", __doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for folder in sorted((options.study / "data").glob("*/*")):
            task = folder.relative_to(options.study / "data")
            for index, path in enumerate(sorted(folder.glob("background_noise=*"))):
                dataset = fastifo.load(path)
                for method in METHODS:
                    run = fastifo.open_run(options.study / "runs" / task / method / str(index))
                    for member in range(len(run.members)):
                        numbers = measure(run, member, dataset)
                        row = {"env_id": str(task), "set": path.stem, "algorithm": method}
                        row["seed"] = run.members[member].seed
                        writer.writerow(row | {k: f"{v:.3f}" for k, v in numbers.items()})
                        file.flush()


if __name__ == "__main__":
    main()
