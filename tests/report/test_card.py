"""The card of a run says what its folder says, and calls the rest unknown."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

import fastifo
from fastifo.envs.returns import Returns
from fastifo.report.report import report
from helpers import SMALL, random_dataset


def make_run(folder: Path, name: str, dataset: Any, **fields: Any) -> None:
    settings: dict[str, Any] = {"num_updates": 2, "progress": False, "seeds": [3, 5]}
    run = fastifo.train(name, dataset, out=folder, **SMALL | settings | fields)
    members = len(run)
    returns = np.arange(members * 4.0).reshape(members, 4)
    versions = {"envpool": "1.2.5", "mujoco": "3.6.0"}
    lengths = np.ones((members, 4), np.int64)
    Returns(
        returns, lengths, "Hopper-v4", False, versions, num_updates=2, seeds=(3, 5) * (members // 2)
    ).save(folder / "returns.npz")


def test_the_card_of_one_run(tmp_path: Path) -> None:
    info = {
        "spec": "lerobot:robot", "license": "apache-2.0",
        "notes": {"cameras that are not read": 2},
    }  # fmt: skip
    dataset = dataclasses.replace(random_dataset(env_id="Hopper-v4"), info=info)
    folder = tmp_path / "run"
    make_run(folder, "vfo_bin", dataset, temperature=[0.5, 2.0])
    report(folder, out=tmp_path / "out")
    text = (tmp_path / "out/card.md").read_text()
    assert not (folder / "card.md").exists()
    config = json.loads((folder / "config.json").read_text())
    for line in (
        "# vfo_bin on Hopper-v4",
        "Source: arXiv 2507.06701.",
        "| policies | 4 |",
        "| seeds | 3, 5 |",
        "| temperature | 0.5, 2.0 |",
        "| updates | 2 |",
        f"| fastifo | {fastifo.__version__}, commit {config['commit'] or 'unknown'} |",
        "| source | lerobot:robot |",
        "| size | 6 background episodes, 2 expert episodes |",
        "| licence | apache-2.0 |",
        f"| SHA-256 | {dataset.fingerprint()} |",
        "| changed on reading | cameras that are not read: 2 |",
        "| name | Hopper-v4 |",
        "| played with | envpool 1.2.5, mujoco 3.6.0 |",
        "| 3 | 5 | 13.5 |",
        "Best: member 3 (",
        "Of every policy, but for temperature:",
        ' "batch_size": 8,',
    ):
        assert line in text, line
    assert '"temperature"' not in text


def test_several_runs_have_a_card_each(tmp_path: Path) -> None:
    make_run(tmp_path / "runs/a", "bc", random_dataset(env_id="Hopper-v4"), seeds=[3, 5])
    make_run(tmp_path / "runs/b", "iql", random_dataset(env_id="Hopper-v4"), seeds=[3, 5])
    (tmp_path / "runs/b/returns.npz").unlink()
    report(tmp_path / "runs")
    first, second = ((tmp_path / f"runs/cards/{name}.md").read_text() for name in "ab")
    assert "# bc on Hopper-v4" in first
    assert "| licence | unknown |" in first
    assert "Not evaluated." in second
    assert not (tmp_path / "runs/card.md").exists()
