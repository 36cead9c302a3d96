"""`fastifo relabel` on a tiny dataset."""

from pathlib import Path

import pytest

import fastifo
from cli.commands import run
from support import contents


@pytest.mark.parametrize("suffix", ["hdf5", "fastifo"])
def test_relabel_writes_a_dataset_with_rewards(
    capsys: pytest.CaptureFixture[str], dataset: str, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"rewarded.{suffix}"
    status, printed, err = run(capsys, "relabel", "seabo", "--dataset", dataset, "--out", out)
    assert status == 0, err
    assert str(out) in printed
    reward = fastifo.load(f"d4rl:{out}" if suffix == "hdf5" else out).background.reward
    assert reward is not None
    assert 0.0 < float(reward.min()) < float(reward.max()) <= 1.0


def test_relabel_refuses_to_overwrite_its_source_and_a_path_it_cannot_create(
    capsys: pytest.CaptureFixture[str], dataset: str, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    for out, words in ((dataset, "the data come from this file"), (f"{dataset}/x.hdf5", dataset)):
        flags = ["--dataset", dataset, "--out", out, "--folder", tmp_path / "model"]
        status, _, err = run(capsys, "relabel", "seabo", *flags)
        assert status == 2
        assert words in err
    assert contents(tmp_path) == before
