"""A stopped TGE run continues with the embeddings it has."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastifo
from algos.rewards.tge_runs import SIZES, StopError, count_embedded_windows, stop_embedding
from fastifo.algos.rewards.diffusion import Diffusion
from helpers import random_dataset


@pytest.mark.parametrize("backbone", ["iql", "rebrac"])
@pytest.mark.slow
def test_an_interrupted_embedding_continues_to_the_same_files(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {
        **SIZES, "backbone": backbone, "diffusion_updates": 15, "num_updates": 4,
        "progress": False, "neighbours": 2,
    }  # fmt: skip
    dataset = random_dataset()
    monkeypatch.setattr("fastifo.algos.rewards.tge.BATCH", 7)
    uninterrupted = fastifo.train("tge", dataset, out=tmp_path / "uninterrupted", **fields)
    monkeypatch.setattr("fastifo.algos.rewards.resumable.SAVE_S", 0.0)
    original, calls = Diffusion.embed, []

    def counted(self: Diffusion, *arguments: Any) -> Any:
        for part in original(self, *arguments):
            calls.append(len(part))
            if len(calls) == 5:
                raise KeyboardInterrupt
            yield part

    monkeypatch.setattr(Diffusion, "embed", counted)
    with pytest.raises(KeyboardInterrupt):
        fastifo.train("tge", dataset, out=tmp_path / "cut", **fields)
    before = sum(calls[:4])
    calls[:] = [0] * 100
    resumed = fastifo.train("tge", dataset, out=tmp_path / "cut", **fields)
    assert before + sum(calls) == 14 + dataset.background.num_transitions
    files = {path.name: path for path in (tmp_path / "cut").glob("embeddings-*")}
    assert len(files) == 2
    for name, path in files.items():
        np.testing.assert_array_equal(np.load(path), np.load(tmp_path / "uninterrupted" / name))
    for a, b in zip(
        resumed.learners[0].parameters(), uninterrupted.learners[0].parameters(), strict=True
    ):
        assert torch.equal(a, b)


def test_a_run_interrupted_between_two_members_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {
        **SIZES, "seeds": [0, 1], "diffusion_updates": 15, "num_updates": 4, "progress": False,
    }  # fmt: skip
    uninterrupted = fastifo.train("tge", random_dataset(), **fields)
    with monkeypatch.context() as patch:
        stop_embedding(patch, 3)  # member 0 has two batches: expert and background
        with pytest.raises(StopError):
            fastifo.train("tge", random_dataset(), out=tmp_path / "run", **fields)
    assert len(list((tmp_path / "run").glob("embeddings-background-*.npy"))) == 1
    resumed = fastifo.train("tge", random_dataset(), out=tmp_path / "run", **fields)
    for a, b in zip(
        resumed.learners[0].parameters(), uninterrupted.learners[0].parameters(), strict=True
    ):
        assert torch.equal(a, b)


def test_a_run_continues_when_the_folder_of_embeddings_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {
        **SIZES, "diffusion_updates": 15, "progress": False, "out": tmp_path / "run"
    }  # fmt: skip
    before, after = tmp_path / "before", tmp_path / "after"
    fastifo.train("tge", random_dataset(), num_updates=2, embeddings=str(before), **fields)
    before.rename(after)
    windows = count_embedded_windows(monkeypatch)
    run = fastifo.train("tge", random_dataset(), num_updates=3, embeddings=str(after), **fields)
    assert run.updates_done == 3
    assert not windows


def test_embeddings_of_another_model_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {
        **SIZES, "diffusion_updates": 15, "num_updates": 2, "progress": False,
    }  # fmt: skip
    build, embed = Diffusion.build, Diffusion.embed

    def interrupted(self: Diffusion, member: int, rows: Any, first: Any, size: int) -> Any:
        if len(first) > 20:  # the expert's are complete
            raise KeyboardInterrupt
        yield from embed(self, member, rows, first, size)

    monkeypatch.setattr(Diffusion, "embed", interrupted)
    shared = tmp_path / "shared"
    with pytest.raises(KeyboardInterrupt):
        fastifo.train("tge", random_dataset(), embeddings=str(shared), **fields)
    assert len(list(shared.glob("embeddings-expert-*.npy"))) == 1

    def build_other(self: Diffusion) -> None:
        build(self)
        with torch.no_grad():
            for weight in self.net.parameters():
                weight.mul_(1.5)

    monkeypatch.setattr(Diffusion, "embed", embed)
    monkeypatch.setattr(Diffusion, "build", build_other)
    fastifo.train("tge", random_dataset(), embeddings=str(shared), **fields)
    fastifo.train("tge", random_dataset(), embeddings=str(tmp_path / "separate"), **fields)
    files = sorted(path.name for path in shared.glob("*.npy"))
    assert len(files) == 3
    for name in files:
        np.testing.assert_array_equal(np.load(shared / name), np.load(tmp_path / "separate" / name))


def test_a_diverged_member_stays_diverged_in_a_continued_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {
        **SIZES, "diffusion_learning_rate": [1e-3, 1e38], "diffusion_updates": 30,
        "num_updates": 4, "log_every": 10, "progress": False, "out": tmp_path / "run",
    }  # fmt: skip
    with monkeypatch.context() as patch:
        stop_embedding(patch, 1)
        with pytest.raises(StopError), pytest.warns(UserWarning, match="learning_rate=1e\\+38"):
            fastifo.train("tge", random_dataset(), **fields)
    resumed = fastifo.train("tge", random_dataset(), **fields)
    assert list(resumed.failed) == [1]
    assert resumed.policy(0).act(torch.zeros(3)).isfinite().all()


def test_truncated_files_are_computed_again(tmp_path: Path) -> None:
    fields: dict[str, Any] = {**SIZES, "diffusion_updates": 15, "progress": False}
    expected = fastifo.relabel("tge", random_dataset(), out=tmp_path / "run", **fields)
    notes = json.loads((tmp_path / "run/config.json").read_text())["notes"]
    assert notes["neighbour_backend"] in ("faiss", "torch")
    for name in ("embeddings-background", "distances"):
        (path,) = (tmp_path / "run").glob(f"{name}-*.npy")
        path.write_bytes(path.read_bytes()[:-100])
    relabelled = fastifo.relabel("tge", random_dataset(), out=tmp_path / "run", **fields)
    assert expected.background.reward is not None
    assert relabelled.background.reward is not None
    assert torch.equal(relabelled.background.reward, expected.background.reward)
    (path,) = (tmp_path / "run").glob("embeddings-background-*.npy")
    assert np.load(path).shape[0] == random_dataset().background.num_transitions


def test_relabelling_uses_the_distances_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {
        **SIZES, "diffusion_updates": 3, "progress": False, "out": tmp_path / "model"
    }  # fmt: skip
    dataset = random_dataset()
    first = fastifo.relabel("tge", dataset, **fields)

    def never(*arguments: object) -> None:
        raise AssertionError("there is nothing to embed")

    monkeypatch.setattr("fastifo.algos.rewards.tge.embed_windows", never)
    again = fastifo.relabel("tge", dataset, **fields)
    assert first.background.reward is not None
    assert again.background.reward is not None
    assert torch.equal(first.background.reward, again.background.reward)
    other = dataclasses.replace(dataset, background=dataset.background.take(range(5)))
    with pytest.raises(ValueError, match="holds another run"):
        fastifo.relabel("tge", other, **fields)
