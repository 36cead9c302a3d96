"""Arrays in files that a stopped process continues to fill, and file locks."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from fastifo.algos.rewards.resumable import ResumableArray, file_locks

ROWS = torch.arange(12.0).view(6, 2)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("in_file", [True, False])
def test_rows_are_read_back_unchanged(tmp_path: Path, in_file: bool, dtype: str) -> None:
    path = tmp_path / "rows.npy" if in_file else None
    array = ResumableArray(path, (6, 2), np.dtype(dtype))
    for part in ROWS.split(4):
        array.append(part)
    array.finish()
    assert torch.equal(array.rows(1, 6), ROWS[1:])
    assert sorted(x.name for x in tmp_path.iterdir()) == (["rows.npy"] if in_file else [])
    if path is not None:
        assert np.load(path).dtype == dtype
        again = ResumableArray(path, (6, 2), np.dtype(dtype))
        assert again.done == 6
        again.finish()


def test_a_new_object_continues_from_the_saved_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastifo.algos.rewards.resumable.SAVE_S", 0.0)
    path = tmp_path / "rows.npy"
    ResumableArray(path, (6, 2), np.dtype("float32")).append(ROWS[:4])
    assert not path.exists()
    array = ResumableArray(path, (6, 2), np.dtype("float32"))
    assert array.done == 4
    array.append(ROWS[4:])
    array.finish()
    assert np.array_equal(np.load(path), ROWS.numpy())


def test_a_stale_row_count_is_not_used_for_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastifo.algos.rewards.resumable.SAVE_S", 0.0)
    path = tmp_path / "rows.npy"
    ResumableArray(path, (6, 2), np.dtype("float32")).append(ROWS[:4])
    path.with_suffix(".partial").write_bytes(b"short")
    ResumableArray(path, (6, 2), np.dtype("float32"))  # a new file, then the process is killed
    assert ResumableArray(path, (6, 2), np.dtype("float32")).done == 0


@pytest.mark.parametrize("damage", ["truncated", "other shape", "no row count"])
def test_a_damaged_file_is_started_again(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastifo.algos.rewards.resumable.SAVE_S", 0.0)
    path = tmp_path / "rows.npy"
    ResumableArray(path, (6, 2), np.dtype("float32")).append(ROWS[:4])
    if damage == "truncated":
        path.with_suffix(".partial").write_bytes(b"short")
    if damage == "no row count":
        path.with_suffix(".rows").unlink()
    shape = (5, 2) if damage == "other shape" else (6, 2)
    assert ResumableArray(path, shape, np.dtype("float32")).done == 0


def test_a_second_process_waits_for_locked_files(tmp_path: Path) -> None:
    order: list[str] = []
    locks = [tmp_path / "b.lock", tmp_path / "a.lock"]

    def second() -> None:
        with file_locks(locks[::-1]):
            order.append("second")

    with file_locks(locks):
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.3)
        order.append("first")
    waiting.join(10.0)
    assert order == ["first", "second"]
