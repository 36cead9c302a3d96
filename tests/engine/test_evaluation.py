"""Evaluation of a run's members."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import fastifo
from engine.runs import train
from fastifo.data.dataset import Dataset
from fastifo.engine.callbacks import EvaluateEvery


def hopper_like() -> Dataset:
    """Random episodes of Hopper-v4's widths."""
    generator = torch.Generator().manual_seed(0)
    episode = {
        "obs": torch.randn(31, 11, generator=generator),
        "action": torch.rand(30, 3, generator=generator),
    }
    return Dataset.from_episodes([episode], env_id="Hopper-v4")


def test_diverged_members_have_nan_returns_and_the_others_are_played(
    tmp_path: Path,
) -> None:
    dataset = hopper_like()
    with pytest.warns(UserWarning, match="learning_rate=1e"):
        run = train("bc", dataset, learning_rate=[1e-3, 1e30], out=tmp_path / "run")
    returns = run.evaluate(2, progress=False)
    assert math.isfinite(returns.per_member[0])
    assert math.isnan(returns.per_member[1])
    assert math.isfinite(returns.mean)
    assert math.isfinite(returns.interval[0])
    assert returns.num_updates == 30
    assert (tmp_path / "run/returns.npz").exists()


def test_last_tenth_returns_the_means_that_were_logged_during_training(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    obs, action = torch.randn(9, 11, generator=generator), torch.zeros(8, 3)
    dataset = fastifo.Dataset.from_episodes([{"obs": obs, "action": action}], env_id="Hopper-v4")
    run = fastifo.train(
        "bc", dataset, num_updates=40, seeds=[0, 1], out=tmp_path / "run", progress=False,
        hidden_sizes=(8,),
        callbacks=[EvaluateEvery(2, 2), EvaluateEvery(20, 2, deterministic=True)],
    )  # fmt: skip
    sampled = fastifo.open_run(tmp_path / "run").evaluate(protocol="last_tenth")
    assert sampled.returns.shape == (2, 2)  # updates 38 and 40
    last = run.evaluate(2, progress=False)
    assert np.allclose(sampled.returns[:, 1], last.returns.mean(1))
    half = run.evaluate(protocol="last_half")
    assert half.returns.shape == (2, 10)  # updates 22 to 40
    assert np.array_equal(half.returns[:, -2:], sampled.returns)
    mode = run.evaluate(deterministic=True, protocol="last_tenth")
    assert np.allclose(mode.returns[:, 0], run.evaluate(2, True, progress=False).returns.mean(1))
    with pytest.raises(
        ValueError, match="protocol: expected final or last_tenth or last_half, found 'best'"
    ):
        run.evaluate(protocol="best")
    plain = fastifo.train("bc", dataset, num_updates=2, hidden_sizes=(8,), progress=False)
    with pytest.raises(ValueError, match=r"protocol: last_tenth .* the run has none\. Train"):
        plain.evaluate(protocol="last_tenth")
    with pytest.raises(ValueError, match=r"protocol: last_half .* after update 1; the run has"):
        plain.evaluate(protocol="last_half")
