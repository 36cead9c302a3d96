"""A pipe or a device in the place of a file is refused at once: reading it would wait for ever."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastifo
from fastifo.algos.rewards.resumable import ResumableArray, has_array, load_array, load_columns

KINDS = ("", "d4rl:", "minari:", "robomimic:", "npz:")


@pytest.fixture(params=["a.hdf5", "a.npz", "a.fastifo", "a.npy", "a"])
def pipe(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A pipe that nobody writes to."""
    path = tmp_path / str(request.param)
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_is_no_dataset(pipe: Path, kind: str) -> None:
    with pytest.raises(FileNotFoundError, match="expected a"):
        fastifo.load(f"{kind}{pipe}")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "minari:"])
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_dataset(kind: str, device: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"{device}: .*found a pipe or a device"):
        fastifo.load(f"{kind}{device}")


def test_a_pipe_is_no_run(pipe: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run here"):
        fastifo.open_run(pipe)
    (pipe.parent / "checkpoint").mkdir()
    os.mkfifo(pipe.parent / "config.json")
    with pytest.raises((ValueError, FileNotFoundError)):
        fastifo.open_run(pipe.parent)


@pytest.mark.parametrize("read", [load_array, load_columns, has_array])
def test_a_pipe_is_no_array(pipe: Path, read: Callable[[Path], object]) -> None:
    assert not read(pipe)


def test_a_pipe_in_the_place_of_embeddings_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npy")
    array = ResumableArray(tmp_path / "x.npy", (3, 2), np.dtype(np.float32))
    assert array.done == 0
