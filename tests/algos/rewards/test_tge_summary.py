"""What TGE keeps of its embeddings for a report."""

from pathlib import Path

import numpy as np
import pytest

import fastifo
from algos.rewards.tge_runs import SIZES
from fastifo.report.report import report
from fastifo.report.reward_figures import draw_rewards, read_summary
from helpers import random_dataset


@pytest.fixture
def run(tmp_path: Path) -> Path:
    dataset = random_dataset()
    fastifo.train(
        "tge", dataset, diffusion_updates=2, num_updates=2, progress=False, out=tmp_path / "run",
        **SIZES,
    )  # fmt: skip
    return tmp_path / "run"


def summary_of(run: Path) -> Path:
    (path,) = run.glob("tge-seed0-*.npz")
    return path


def test_a_report_shows_the_rewards(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = read_summary(summary_of(run))
    background = random_dataset().background
    assert len(summary["background"]) == background.num_transitions
    returns = background.returns()
    assert returns is not None
    best = int(returns.argmax())
    assert len(summary["best"]) == int(background.lengths[best])
    report(run)
    page = (run / "report.html").read_text()
    assert "Rewards of run, tge-seed0-" in page
    assert summary_of(run).with_suffix(".png").stat().st_size > 10_000


def test_without_true_returns_points_have_one_color(tmp_path: Path) -> None:
    dataset = random_dataset(reward=False)
    fastifo.relabel(
        "tge", dataset, diffusion_updates=2, progress=False, out=tmp_path / "run", **SIZES
    )
    summary = summary_of(tmp_path / "run")
    assert bool(np.isnan(read_summary(summary)["returns"]).all())
    draw_rewards(summary, tmp_path / "rewards.png")
    assert (tmp_path / "rewards.png").stat().st_size > 10_000


def test_a_damaged_summary_is_named(run: Path) -> None:
    path = summary_of(run)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"\.npz: expected TGE's summary"):
        read_summary(path)
