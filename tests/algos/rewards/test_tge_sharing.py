"""Runs and members with the same model share it and its embeddings."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import fastifo
from algos.rewards.tge_runs import SIZES, count_embedded_windows
from fastifo.report.reward_figures import read_summary
from helpers import random_dataset


def test_runs_share_embeddings_unless_data_or_precision_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = count_embedded_windows(monkeypatch)
    fields: dict[str, Any] = {
        **SIZES, "diffusion_updates": 15, "num_updates": 2, "progress": False,
        "embeddings": str(tmp_path / "shared"),
    }  # fmt: skip
    dataset, other = random_dataset(), random_dataset(seed=1)
    runs = []
    for index, (data, backbone, precision, embeds) in enumerate(
        [
            (dataset, "iql", "fp32", True),
            (dataset, "rebrac", "fp32", False),
            (other, "iql", "fp32", True),
            (dataset, "iql", "bf16", True),
        ]
    ):
        before, out = len(windows), tmp_path / str(index)
        options: dict[str, Any] = {"backbone": backbone, "precision": precision, "out": out}
        runs.append(fastifo.train("tge", data, **fields, **options))
        assert (len(windows) > before) is embeds
        assert len(list(out.glob("tge-*.npz"))) == 1  # for its report
    separate = fastifo.train("tge", dataset, backbone="rebrac", **fields | {"embeddings": ""})
    pairs = zip(*(run.learners[0].parameters() for run in (separate, runs[1])), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_members_that_differ_only_in_the_reward_share_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = count_embedded_windows(monkeypatch)
    dataset = random_dataset()
    fields: dict[str, Any] = {
        **SIZES, "diffusion_updates": 15, "num_updates": 2, "progress": False,
        "reward_scaling": "none",
    }  # fmt: skip
    run = fastifo.train(
        "tge", dataset, out=tmp_path / "run", sigma=[0.1, 5.0], neighbours=[1, 3], seeds=[0, 1],
        **fields,
    )  # fmt: skip
    each = 14 + dataset.background.num_transitions
    assert sum(windows) == 2 * each  # one model for each seed, eight members
    assert run.notes["neighbour_backend"] in ("faiss", "torch")
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["notes"] == run.notes
    single = fastifo.train("tge", dataset, sigma=5.0, neighbours=3, seeds=[1], **fields)
    index = next(
        i
        for i, m in enumerate(run.members)
        if (m.seed, vars(m.config)["sigma"], vars(m.config)["neighbours"]) == (1, 5.0, 3)
    )
    obs = dataset.background.obs
    torch.testing.assert_close(
        run.policy(index).act(obs), single.policy(0).act(obs), rtol=0, atol=1e-4
    )


def test_members_that_differ_only_in_the_reward_are_embedded_once_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    windows = count_embedded_windows(monkeypatch)
    dataset = random_dataset()
    fastifo.relabel("tge", dataset, diffusion_updates=5, progress=False, **SIZES)
    once = sum(windows)
    fastifo.train(
        "tge", dataset, sigma=[0.1, 1.0, 5.0], diffusion_updates=5, num_updates=2, progress=False,
        **SIZES,
    )  # fmt: skip
    assert sum(windows) == 2 * once


def test_a_report_shows_the_runs_reward_when_embeddings_are_shared(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        **SIZES, "diffusion_updates": 15, "num_updates": 2, "progress": False,
        "embeddings": str(tmp_path / "shared"),
    }  # fmt: skip
    shown = []
    for index, (sigma, kind) in enumerate([(1.0, "kernel_of_mean"), ([5.0, 0.1], "gaussian")]):
        out = tmp_path / str(index)
        run = fastifo.train(
            "tge", random_dataset(), sigma=sigma, tge_reward=kind, out=out, **fields
        )
        assert run.notes["neighbour_backend"] in ("faiss", "torch")
        summaries = map(read_summary, sorted(out.glob("tge-*.npz")))
        shown.append([(float(each["sigma"]), str(each["kind"])) for each in summaries])
    assert shown == [[(1.0, "kernel_of_mean")], [(0.1, "gaussian"), (5.0, "gaussian")]]


def test_relabel_takes_the_rewards_of_a_trained_run_from_its_folder(tmp_path: Path) -> None:
    fields: dict[str, Any] = {**SIZES, "diffusion_updates": 15, "progress": False}
    fastifo.train("tge", random_dataset(), num_updates=4, out=tmp_path / "run", **fields)
    before = (tmp_path / "run/config.json").read_bytes()
    relabelled = fastifo.relabel("tge", random_dataset(), out=tmp_path / "run", **fields)
    separate = fastifo.relabel("tge", random_dataset(), **fields)
    assert (tmp_path / "run/config.json").read_bytes() == before
    assert relabelled.background.reward is not None
    assert separate.background.reward is not None
    torch.testing.assert_close(relabelled.background.reward, separate.background.reward)
