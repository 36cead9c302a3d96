"""Figure of TGE's rewards: embedded windows, histograms, and rewards over time."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastifo.algos.relabel import unit_range
from fastifo.algos.rewards.resumable import load_columns
from fastifo.algos.rewards.tge import REWARDS, tge_reward
from fastifo.report.plotting import png_figure

COLUMNS = ("background", "expert", "returns", "distances", "sigma", "kind", "worst", "best")

Summary = dict[str, NDArray[Any]]  # the columns by name


def read_summary(path: Path) -> Summary:
    """The summary of its embeddings that a TGE run keeps.

    Columns: first two principal components of sampled `background` and `expert` windows, [N, 2];
    `returns` of the background windows' episodes, [N], nan where unknown; `distances` of these
    windows to the m nearest of the expert's, [N, m], and of the T windows in the episodes with the
    `best` and the `worst` return, [T, m]; `sigma` and `kind` of the run's reward.
    Raises ValueError naming a damaged file.
    """
    summary = load_columns(path)
    if summary is None or not set(COLUMNS) <= summary.keys():
        raise ValueError(
            f"{path}: expected TGE's summary of its embeddings, found a truncated or unrelated "
            "file; delete it and train again"
        )
    return summary


def draw_rewards(summary_path: Path, path: Path) -> None:
    """Writes one PNG: principal components of embeddings, each kernel's rewards, two episodes.

    summary_path: a file that `read_summary` reads.
    """
    summary = read_summary(summary_path)
    with png_figure(path, 1, 3, (16, 4.6)) as (figure, axes):
        _draw_embeddings(figure, axes[0], summary)
        _draw_histograms(axes[1], summary)
        _draw_episodes(axes[2], summary)
        figure.suptitle(f"{summary_path.parent.name}, {summary_path.stem}")


def _draw_embeddings(figure: Any, axis: Any, summary: Summary) -> None:
    returns_known = np.isfinite(summary["returns"]).all()
    colors: dict[str, Any] = {"c": summary["returns"]} if returns_known else {"color": "0.6"}
    points = axis.scatter(*summary["background"].T, s=5, label="background", **colors)
    axis.scatter(*summary["expert"].T, s=18, marker="x", lw=0.8, color="#cc3311", label="expert")
    if returns_known:
        figure.colorbar(points, ax=axis, label="true return of the episode")
    axis.set_xlabel("first principal component")
    axis.set_ylabel("second principal component")
    axis.set_title("embedded windows")
    axis.legend(fontsize=8)


def _draw_histograms(axis: Any, summary: Summary) -> None:
    """Each kernel's rewards, scaled to [0, 1] so that their shapes can be compared."""
    distance = torch.from_numpy(summary["distances"]).double()
    sigma = float(summary["sigma"])
    for kind in REWARDS:
        unit = unit_range(tge_reward(distance, sigma, kind))
        width = 2.4 if kind == str(summary["kind"]) else 1.0  # thick: the kernel of this run
        axis.hist(unit.numpy(), bins=50, range=(0, 1), histtype="step", lw=width, label=kind)
    axis.set_xlabel(f"reward with sigma {sigma:g}, scaled to [0, 1]")
    axis.set_ylabel("transitions")
    axis.set_yscale("log")
    axis.set_title("rewards of the background")
    axis.legend(fontsize=8)


def _draw_episodes(axis: Any, summary: Summary) -> None:
    """Rewards over time in the episodes with the highest and the lowest return."""
    for name, color in (("best", "#228833"), ("worst", "#aa3377")):
        distance = torch.from_numpy(summary[name]).double()
        reward = tge_reward(distance, float(summary["sigma"]), str(summary["kind"]))
        axis.plot(reward.numpy(), color=color, lw=1, label=f"{name} episode")
    axis.set_xlabel("step")
    axis.set_ylabel(f"reward ({summary['kind']})")
    axis.set_title("two episodes")
    axis.legend(fontsize=8)
