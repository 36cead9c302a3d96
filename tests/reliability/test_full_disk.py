"""On a full disk every writer names the file and leaves nothing but what was there."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastifo
from fastifo.algos.rewards.resumable import ResumableArray, save_array, save_columns
from fastifo.engine.tensorfile import save_tensors
from fastifo.envs.returns import Returns
from fastifo.report import html
from fastifo.report.plotting import png_figure
from helpers import SMALL, random_dataset
from support import contents, full_disk

TESTS = str(Path(__file__).parents[1])
RETURNS = Returns(np.zeros((2, 50)), np.ones((2, 50), np.int64), "Hopper-v4", False, {})


def write_png(path: Path) -> None:
    with png_figure(path, 1, 1, (2, 2)) as (_, axes):
        axes[0].plot([1, 2])


WRITERS: dict[str, Callable[[Path], Any]] = {
    "x.fastifo": lambda path: random_dataset().save(path),
    "x.hdf5": lambda path: random_dataset().save_d4rl(path),
    "returns.npz": RETURNS.save,
    "x.npy": lambda path: save_array(path, torch.zeros(500)),
    "x.npz": lambda path: save_columns(path, {"a": np.zeros(500)}),
    "rows.npy": lambda path: ResumableArray(path, (500, 4), np.dtype("float32")),
    "x.safetensors": lambda path: save_tensors(
        {"w": torch.zeros(500)}, {"format": "x", "version": 1}, path
    ),
    "x.png": write_png,
    "x.html": lambda path: html.write_page(path, "title", ["x" * 4000]),
}


@pytest.mark.parametrize("size", [0, 100, 1500])
@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_names_its_file_and_keeps_the_old_one(
    tmp_path: Path, name: str, size: int
) -> None:
    path = tmp_path / name
    if name != "rows.npy":
        path.write_bytes(b"old")
    before = contents(tmp_path)
    with full_disk(size), pytest.raises(OSError, match="could not be written") as caught:
        WRITERS[name](path)
    assert str(path) in str(caught.value)
    assert contents(tmp_path) == before


def test_an_hdf5_file_is_complete_or_refused_at_every_size_of_the_disk(tmp_path: Path) -> None:
    """In a process of its own: the HDF5 library used to crash."""
    code = f"""
import sys
sys.path.insert(0, {TESTS!r})
from helpers import random_dataset
from support import full_disk
dataset, path = random_dataset(), {str(tmp_path / "x.hdf5")!r}
dataset.save_d4rl(path)
import os
size = os.path.getsize(path)
for limit in [*range(0, size, size // 60), size - 1]:
    with full_disk(limit):
        try:
            dataset.save_d4rl(path)
        except OSError as error:
            assert path in str(error)
            assert os.listdir({str(tmp_path)!r}) == ["x.hdf5"]
            continue
    raise AssertionError(limit)
with full_disk(size):
    dataset.save_d4rl(path)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    dataset = random_dataset()
    read = fastifo.load(f"d4rl:{tmp_path / 'x.hdf5'}", progress=False)
    assert read.background.reward is not None
    assert torch.equal(read.background.reward, dataset.background.reward)  # type: ignore[arg-type]


def test_relabelling_onto_a_full_disk_ends_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastifo.cli.main import main
    from fastifo.data.dataset import Dataset

    random_dataset().save(tmp_path / "set.fastifo")
    write = Dataset.save_d4rl

    def save(dataset: Dataset, path: Path) -> None:
        with full_disk(4000):
            write(dataset, path)

    monkeypatch.setattr(Dataset, "save_d4rl", save)
    command = ["relabel", "seabo", "--dataset", tmp_path / "set.fastifo", "--out"]
    with pytest.raises(SystemExit):
        main([*map(str, command), str(tmp_path / "new.hdf5"), "--hidden-sizes", "8"])
    assert "new.hdf5: could not be written" in capsys.readouterr().err
    assert not [name for name in os.listdir(tmp_path) if "hdf5" in name and "model" not in name]


def test_an_evaluation_on_a_full_disk_gives_its_result(tmp_path: Path) -> None:
    dataset = random_dataset(env_id="Hopper-v4")
    run = fastifo.train("bc", dataset, num_updates=2, out=tmp_path / "run", progress=False, **SMALL)
    with full_disk(10), pytest.warns(UserWarning, match=r"returns\.npz: could not be written"):
        returns = run.evaluate(2, progress=False)
    assert returns.returns.shape == (1, 2)
    assert not (tmp_path / "run/returns.npz").exists()
