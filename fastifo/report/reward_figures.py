"""What TGE's rewards say of a background: embeddings, histograms, rewards over time."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastifo.algos.rewards.store import kept_columns
from fastifo.algos.rewards.tge import REWARDS, tge_reward
from fastifo.utils.files import write_atomic

COLUMNS = ("background", "expert", "returns", "distances", "sigma", "kind", "worst", "best")


def read_summary(path: Path) -> dict[str, NDArray[Any]]:
    """What a run kept of its embeddings.  Raises ValueError naming a damaged file."""
    found = kept_columns(path)
    if found is None or not set(COLUMNS) <= found.keys():
        raise ValueError(
            f"{path}: expected what TGE keeps of its embeddings, found a file that is cut or "
            "foreign; delete it and train again"
        )
    return found


def draw_rewards(summary: Path, path: Path) -> None:
    """One PNG: principal components of embeddings, each kernel's rewards, and two episodes."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    found = read_summary(summary)
    figure, axes = plt.subplots(1, 3, figsize=(16, 4.6), constrained_layout=True)
    _embeddings(figure, axes[0], found)
    _histograms(axes[1], found)
    _episodes(axes[2], found)
    figure.suptitle(f"{summary.parent.name}, {summary.stem}")
    write_atomic(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))
    plt.close(figure)


def _embeddings(figure: Any, axis: Any, found: dict[str, NDArray[Any]]) -> None:
    background, expert = found["background"], found["expert"]
    known = np.isfinite(found["returns"]).all()
    colors: dict[str, Any] = {"c": found["returns"]} if known else {"color": "0.6"}
    points = axis.scatter(*background.T, s=5, label="background", **colors)
    axis.scatter(*expert.T, s=18, marker="x", lw=0.8, color="#cc3311", label="expert")
    if known:
        figure.colorbar(points, ax=axis, label="true return of the episode")
    axis.set_xlabel("first principal component")
    axis.set_ylabel("second")
    axis.set_title("embedded windows")
    axis.legend(fontsize=8)


def _histograms(axis: Any, found: dict[str, NDArray[Any]]) -> None:
    """Each kernel's rewards on [0, 1], so that their shapes compare."""
    distance = torch.from_numpy(found["distances"]).double()
    for kind in REWARDS:
        reward = tge_reward(distance, float(found["sigma"]), kind)
        unit = (reward - reward.min()) / (reward.max() - reward.min()).clamp(min=1e-12)
        width = 2.4 if kind == str(found["kind"]) else 1.0  # the run's own
        axis.hist(unit.numpy(), bins=50, range=(0, 1), histtype="step", lw=width, label=kind)
    axis.set_xlabel(f"reward at sigma {float(found['sigma']):g}, on [0, 1]")
    axis.set_ylabel("transitions")
    axis.set_yscale("log")
    axis.set_title("rewards of the background")
    axis.legend(fontsize=8)


def _episodes(axis: Any, found: dict[str, NDArray[Any]]) -> None:
    for name, color in (("best", "#228833"), ("worst", "#aa3377")):
        distance = torch.from_numpy(found[name]).double()
        reward = tge_reward(distance, float(found["sigma"]), str(found["kind"]))
        axis.plot(reward.numpy(), color=color, lw=1, label=f"{name} episode")
    axis.set_xlabel("step")
    axis.set_ylabel(f"reward ({found['kind']})")
    axis.set_title("over time")
    axis.legend(fontsize=8)
