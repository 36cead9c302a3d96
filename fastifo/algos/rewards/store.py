"""Long arrays in files that a stopped run goes on with, and what reports keep of embeddings."""

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from fastifo.data.dataset import Dataset
from fastifo.utils.files import UNREADABLE, read_json, write_atomic, write_json

SAVE_S = 10.0  # between notes of how far a file is
SAMPLE = 2000  # embeddings that a report shows


class ResumableArray:
    """An array [N, width] that grows by rows: in memory, or in a .npy file beside its progress."""

    def __init__(self, path: Path | None, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """path: None is memory.  A complete file, or the rows that are surely written, are kept."""
        self.path, self.done, self.whole = path, 0, False
        if path is None:
            self.array: Any = np.empty(shape, dtype)
            return
        self.partial = path.with_suffix(".partial")
        self.note = path.with_suffix(".rows")
        found = _opened(path, shape, dtype, "r")
        if found is not None:
            self.array, self.done, self.whole = found, shape[0], True
            return
        found = _opened(self.partial, shape, dtype, "r+")
        with contextlib.suppress(*UNREADABLE):
            self.done = 0 if found is None else int(read_json(self.note)["rows"])
        if found is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.note.unlink(missing_ok=True)
            found = open_memmap(self.partial, "w+", dtype, shape)
            with open(self.partial, "r+b") as file:  # a full disk shows now
                os.posix_fallocate(file.fileno(), 0, self.partial.stat().st_size)
        self.array, self.saved = found, time.monotonic()

    def __len__(self) -> int:
        return len(self.array)

    def append(self, rows: Tensor) -> None:
        """rows: [n, width] on the CPU."""
        self.array[self.done : self.done + len(rows)] = rows.numpy()
        self.done += len(rows)
        if self.path is not None and time.monotonic() - self.saved > SAVE_S:
            self._save()

    def _save(self) -> None:
        self.array.flush()
        write_json(self.note, {"rows": self.done})
        self.saved = time.monotonic()

    def finish(self) -> None:
        """Gives the file its name; nothing where it had it."""
        assert self.done == len(self.array), (self.done, len(self.array))
        if self.path is None or self.whole:
            return
        self.array.flush()
        with open(self.partial, "rb") as file:
            os.fsync(file.fileno())
        self.note.unlink(missing_ok=True)
        os.replace(self.partial, self.path)

    def rows(self, first: int, last: int) -> Tensor:
        """A copy of some rows, float32."""
        return torch.from_numpy(np.asarray(self.array[first:last], np.float32).copy())

    @staticmethod
    def keep(path: Path | None, rows: Tensor) -> None:
        """A whole array at once."""
        if path is not None:

            def write(temporary: Path) -> None:
                with open(temporary, "wb") as file:
                    np.save(file, rows.numpy())

            write_atomic(path, write)

    @staticmethod
    def is_whole(path: Path | None) -> bool:
        """Whether there is a file under its last name, not cut short."""
        try:
            return path is not None and len(np.load(path, mmap_mode="r", allow_pickle=False)) > 0
        except UNREADABLE:
            return False

    @staticmethod
    def finished(path: Path | None) -> Tensor | None:
        """What `keep` kept, or None."""
        if path is None:
            return None
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False))
        except UNREADABLE:
            return None


def _opened(path: Path, shape: tuple[int, int], dtype: np.dtype[Any], mode: Any) -> Any:
    """The array in a file if it is the one that is meant."""
    try:
        found = np.load(path, mmap_mode=mode, allow_pickle=False)
    except UNREADABLE:
        return None
    return found if found.shape == shape and found.dtype == dtype else None


@contextlib.contextmanager
def file_locks(paths: Iterable[Path]) -> Iterator[None]:
    """Alone with some files: who comes second waits until the first has ended or was killed."""
    with contextlib.ExitStack() as stack:
        for path in sorted(paths):  # in one order, so that no two wait for each other
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(path, "w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{path.parent}: waiting for another run that is at work", file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def forget_others(note: Path, maker: str, paths: Iterable[Path]) -> None:
    """Removes rows that another maker left in files, whole or begun.  note: who wrote them last."""
    with contextlib.suppress(*UNREADABLE):
        if read_json(note) == {"maker": maker}:
            return
    for path in paths:
        for suffix in (".npy", ".partial", ".rows"):
            path.with_suffix(suffix).unlink(missing_ok=True)
    write_json(note, {"maker": maker})


def embedding_summary(
    expert: ResumableArray, background: ResumableArray, distances: Tensor, dataset: Dataset
) -> dict[str, NDArray[Any]]:
    """What a report draws: embeddings in two dimensions, distances, two whole episodes."""
    episodes = dataset.background
    returns = episodes.returns()
    order = (episodes.lengths.double() if returns is None else returns).argsort()
    chosen = torch.linspace(0, len(background) - 1, min(SAMPLE, len(background))).long()
    shown = torch.linspace(0, len(expert) - 1, min(SAMPLE // 4, len(expert))).long()
    points = torch.stack([background.rows(int(i), int(i) + 1)[0] for i in chosen])
    experts = torch.stack([expert.rows(int(i), int(i) + 1)[0] for i in shown])
    both = torch.cat([points, experts]).double()
    centred = both - both.mean(0)
    plane = torch.linalg.svd(centred, full_matrices=False).Vh[:2].t()
    episode = torch.repeat_interleave(torch.arange(episodes.num_episodes), episodes.lengths)
    whole = {
        which: distances[int(episodes.start[e]) : int(episodes.start[e + 1])].numpy()
        for which, e in (("worst", int(order[0])), ("best", int(order[-1])))
    }
    of_point = np.full(len(chosen), np.nan) if returns is None else returns[episode[chosen]].numpy()
    return {
        "background": (centred[: len(points)] @ plane).float().numpy(),
        "expert": (centred[len(points) :] @ plane).float().numpy(),
        "returns": of_point,
        "distances": distances[chosen].numpy(),
        **whole,
    }


def keep_columns(path: Path, columns: dict[str, Any]) -> None:
    """One .npz file of them."""

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, **columns)

    write_atomic(path, write)


def kept_columns(path: Path) -> dict[str, NDArray[Any]] | None:
    """What `keep_columns` kept, or None where the file is missing or damaged."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return dict(file)
    except UNREADABLE:
        return None
