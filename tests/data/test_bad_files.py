"""Runs whose files are damaged or missing, and full disks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import fastifo
from helpers import SMALL, random_dataset
from support import contents, full_disk

QUIET: dict[str, Any] = {"num_updates": 4, "progress": False, **SMALL}


def train(name: str, dataset: Any, **fields: Any) -> fastifo.Run:
    return fastifo.train(name, dataset, **QUIET | fields)


@pytest.mark.parametrize("name", ["config.json", "manifest.json", ".safetensors", "set.fastifo"])
@pytest.mark.parametrize("damage", ["truncated", "other format", "empty"])
def test_a_damaged_file_is_named_and_not_changed(tmp_path: Path, name: str, damage: str) -> None:
    train("bc", random_dataset(), out=tmp_path / "run")
    random_dataset().save(tmp_path / "set.fastifo")
    (path,) = (p for p in tmp_path.rglob("*") if p.name.endswith(name))
    content = path.read_bytes()
    damaged = {"truncated": content[:-9], "other format": b"\x89PNG\r\n\x1a\n" * 9, "empty": b""}
    path.write_bytes(damaged[damage])
    before = contents(tmp_path)
    opening: Any = fastifo.open_run
    target = tmp_path / "run"
    if name == "set.fastifo":
        opening, target = fastifo.load, path
    with pytest.raises(ValueError, match=f"{name}.*expected"):
        opening(target)
    with pytest.raises(ValueError, match=name):
        train("bc", path if name == "set.fastifo" else random_dataset(), out=tmp_path / "run")
    assert contents(tmp_path) == before


def test_a_flipped_bit_in_the_weights_is_detected(tmp_path: Path) -> None:
    train("bc", random_dataset(), out=tmp_path)
    (path,) = tmp_path.rglob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"safetensors: damaged, its hash differs"):
        fastifo.open_run(tmp_path)


def test_missing_runs_and_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere: no run here \(no config.json\)"):
        fastifo.open_run(tmp_path / "nowhere")
    train("bc", random_dataset(), out=tmp_path)
    (path,) = tmp_path.rglob("*.safetensors")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=path.name):
        fastifo.open_run(tmp_path)


def test_a_full_disk_stops_a_run_and_keeps_its_last_checkpoint(tmp_path: Path) -> None:
    train("bc", random_dataset(), out=tmp_path / "run")
    kept = {k: v for k, v in contents(tmp_path).items() if "checkpoint" in k or "metrics" in k}
    (weights,) = (k for k in kept if k.endswith(".safetensors"))
    with (
        full_disk(len(kept[weights]) // 2),
        pytest.raises(OSError, match=r"safetensors: could not be written.*Free some space"),
    ):
        train("bc", random_dataset(), out=tmp_path / "run", num_updates=8)
    after = contents(tmp_path)
    assert after[weights] == kept[weights]
    assert not [name for name in after if Path(name).name.startswith(".")]
    resumed = train("bc", random_dataset(), out=tmp_path / "run", num_updates=8)
    uninterrupted = train("bc", random_dataset(), num_updates=8)
    obs = torch.ones(2, 3)
    assert torch.equal(resumed.policy().act(obs), uninterrupted.policy().act(obs))


@pytest.mark.parametrize("size_bytes", [100, 4000])
def test_a_full_disk_leaves_nothing_of_a_run_that_is_saved(tmp_path: Path, size_bytes: int) -> None:
    run = train("bc", random_dataset())
    with full_disk(size_bytes), pytest.raises(OSError, match=r"run/.*could not be written"):
        run.save(tmp_path / "run")
    assert contents(tmp_path) == {}
    run.save(tmp_path / "run")
    assert fastifo.open_run(tmp_path / "run").num_updates == 4


def test_a_full_disk_while_metrics_are_written_names_the_file(tmp_path: Path) -> None:
    train("bc", random_dataset(), out=tmp_path, log_every=1)
    size = len((tmp_path / "metrics.jsonl").read_bytes())
    with full_disk(max(size + 50, 3000)), pytest.raises(OSError, match=r"metrics\.jsonl"):
        train("bc", random_dataset(), out=tmp_path, log_every=1, num_updates=200)
    assert fastifo.open_run(tmp_path).learners[0].num_updates == 4


@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
@pytest.mark.parametrize("content", ["{}", "[]", '{"format": "fastifo-run"}'])
def test_json_of_another_program_is_refused(tmp_path: Path, name: str, content: str) -> None:
    train("bc", random_dataset(), out=tmp_path)
    (path,) = tmp_path.rglob(name)
    path.write_text(content)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=name):
        fastifo.open_run(tmp_path)
    with pytest.raises(ValueError, match=rf"{name}|holds another run"):
        train("bc", random_dataset(), out=tmp_path)
    assert contents(tmp_path) == before


def test_a_run_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    train("bc", random_dataset(), out=tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    with pytest.raises(ValueError, match=r"config\.json: expected version 1 or older, found 99"):
        fastifo.open_run(tmp_path)
