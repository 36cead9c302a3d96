"""Exact nearest neighbours by brute force, with FAISS where it is installed and torch elsewhere.

A backend only proposes candidates, a few more than asked for; their distances are then computed
again from the differences, so that the results of all backends agree. Candidates are compared in
float32: of points closer to each other than a thousandth of their norm, one may replace another.

`pip install 'fastifo[faiss]'` installs FAISS for CPUs, `'fastifo[faiss-gpu]'` for GPUs with its
libraries of CUDA 12. FAISS aborts the process on a GPU that it has no code for, so another process
tries a small search there first. `python -m bench.knn` compares the backends' speed.
"""

import functools
import importlib
import subprocess
import sys
import warnings
from typing import Any

import torch
from torch import Tensor

from fastifo.utils.devices import tf32
from fastifo.utils.text import did_you_mean

BACKENDS = ("faiss-gpu", "faiss", "torch")
SPARE = 8  # candidates beyond the neighbours asked for
MAX_CANDIDATES_GPU = 2048  # limit of FAISS on a GPU
BLOCK = 16_384  # queries that FAISS searches for together
BLOCK_PRODUCTS = 1 << 24  # in torch: queries times points of one block
TRIAL_SECONDS = 120  # for importing torch and FAISS and starting CUDA
TRIAL = """
import sys
import torch
import faiss
import faiss.contrib.torch_utils
points = torch.arange(64.0, device=f"cuda:{sys.argv[1]}").view(32, 2)
index = faiss.GpuIndexFlatL2(faiss.StandardGpuResources(), 2)
index.add(points)
nearest = index.search(points, 1)[1].flatten().tolist()
assert nearest == list(range(32)), f"wrong neighbours {nearest}"
"""


def choose_backend(backend: str, device: torch.device) -> str:
    """The backend to use: for auto the first of `BACKENDS` that is available, else `backend`.

    device: of the tensors.  Warns if FAISS for GPUs is installed but does not run on this one.
    Raises ValueError if the backend is unknown or not available.
    """
    if backend not in ("auto", *BACKENDS):
        suggestion = did_you_mean(backend, ("auto", *BACKENDS))
        raise ValueError(f"neighbour_backend: unknown backend {backend!r}; {suggestion}")
    faiss = _faiss()
    on_gpu = device.type == "cuda" and hasattr(faiss, "StandardGpuResources")
    available = {"faiss-gpu": on_gpu, "faiss": faiss is not None, "torch": True}
    if on_gpu and backend in ("auto", "faiss-gpu"):
        reason = trial_search(device.index or 0)
        if reason and backend == "auto":
            warnings.warn(f"FAISS does not run on this GPU, torch is used: {reason}", stacklevel=2)
            return "torch"
        if reason:
            raise ValueError(
                f"neighbour_backend: faiss-gpu expects a GPU that FAISS runs on, found {reason}; "
                "use 'torch'"
            )
    if backend == "auto":
        return next(name for name in BACKENDS if available[name])
    if not available[backend]:
        expected = "FAISS" if backend == "faiss" else "FAISS for GPUs and tensors on a GPU"
        remedy = f"pip install 'fastifo[{backend}]'"
        if faiss is None:
            found = "no FAISS"
        elif not hasattr(faiss, "StandardGpuResources"):
            found = "FAISS for CPUs only"
        else:
            found, remedy = f"tensors on the {device.type}", "train on a GPU"
        raise ValueError(
            f"neighbour_backend: {backend} expects {expected}, found {found}; {remedy}, "
            "or use 'torch'"
        )
    return backend


@functools.cache
def trial_search(gpu: int) -> str:
    """Why FAISS cannot search on a GPU; empty if it can. Another process tries it, once per GPU.

    gpu: its index among those that this process sees.
    """
    command = [sys.executable, "-P", "-c", TRIAL, str(gpu)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=TRIAL_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no result of a trial search within {TRIAL_SECONDS} s"
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    said = f": {lines[-1]}" if lines else ""
    return f"a trial search that ended with status {done.returncode}{said}"


def check_neighbours(neighbours: int, count: int, points: str) -> None:
    """Raises ValueError if the expert has fewer than `neighbours` points.

    count: the number of its points.  points: their name, such as "windows".
    """
    if neighbours > count:
        raise ValueError(
            f"neighbours: expected at most {count}, the number of the expert's {points}, found "
            f"{neighbours}; lower it, or add expert episodes"
        )


def check_backend(config: Any, device: torch.device) -> None:
    """Raises ValueError if the backend is not available, or cannot find so many neighbours.

    config: with the fields `neighbour_backend` and `neighbours`.
    """
    backend = choose_backend(config.neighbour_backend, device)
    if backend == "faiss-gpu" and config.neighbours + SPARE > MAX_CANDIDATES_GPU:
        raise ValueError(
            f"neighbours: expected at most {MAX_CANDIDATES_GPU - SPARE}, the limit of FAISS on a "
            f"GPU, found {config.neighbours}; use neighbour_backend='torch'"
        )


class Neighbours:
    """An index of points, in which the nearest neighbours of queries are searched for."""

    def __init__(self, points: Tensor, backend: str = "auto") -> None:
        """points: [M, D], M at least 1.  backend: see `choose_backend`.

        The search runs on the points' device. Raises ValueError for another shape, or a backend
        that is not available.
        """
        if points.ndim != 2 or len(points) == 0:
            raise ValueError(f"points: expected [M, D] with M >= 1, found {list(points.shape)}")
        self.backend = choose_backend(backend, points.device)  # its name
        # Centred points lose the fewest digits in float32.
        self.centre = points.mean(0, dtype=torch.float64).to(torch.float32)
        self.points = points.to(torch.float32) - self.centre
        self.half_norm = 0.5 * self.points.square().sum(1)  # |p|^2 / 2, [M]
        self.index: Any = None
        if self.backend != "torch":
            faiss = _faiss()
            width = points.shape[1]
            if self.backend == "faiss-gpu":
                importlib.import_module("faiss.contrib.torch_utils")  # makes FAISS accept tensors
                self.resources = faiss.StandardGpuResources()
                self.index = faiss.GpuIndexFlatL2(self.resources, width)
                self.index.add(self.points)
            else:
                faiss.omp_set_num_threads(torch.get_num_threads())
                self.index = faiss.IndexFlatL2(width)
                self.index.add(self.points.cpu().numpy())

    def distances(self, queries: Tensor, count: int) -> Tensor:
        """Euclidean distances to the `count` nearest points, ascending, [N, count] float32.

        queries: [N, D] on the points' device.  Raises ValueError if there are fewer points, or for
        another width.
        """
        if not 1 <= count <= len(self.points):
            raise ValueError(
                f"neighbours: expected 1 to {len(self.points)}, the number of points, found {count}"
            )
        if queries.ndim != 2 or queries.shape[1] != self.points.shape[1]:
            raise ValueError(
                f"queries: expected [N, {self.points.shape[1]}], found {list(queries.shape)}"
            )
        block = BLOCK if self.index is not None else max(1, BLOCK_PRODUCTS // len(self.points))
        parts = [self._block_distances(part, count) for part in queries.split(block)]
        return torch.cat(parts) if parts else queries.new_empty(0, count)

    def _block_distances(self, queries: Tensor, count: int) -> Tensor:
        queries = queries.to(torch.float32) - self.centre
        candidates = self._candidates(queries, min(count + SPARE, len(self.points)))
        squared = torch.stack(
            [(queries - self.points[index]).square().sum(1) for index in candidates.unbind(1)], 1
        )
        return squared.sort(1).values[:, :count].sqrt()

    def _candidates(self, queries: Tensor, count: int) -> Tensor:
        """Indices of the nearest points up to float32 rounding, in any order, [N, count]."""
        if self.backend == "faiss-gpu":
            index: Tensor = self.index.search(queries.contiguous(), count)[1]
            return index
        if self.backend == "faiss":
            indices = self.index.search(queries.cpu().numpy(), count)[1]
            return torch.from_numpy(indices).to(queries.device)
        with tf32(False):  # |q - p|^2 = |q|^2 - 2 (q.p - |p|^2 / 2)
            closeness = queries @ self.points.t() - self.half_norm
        return closeness.topk(count, 1, sorted=False).indices


def _faiss() -> Any:
    """The FAISS module, or None if it is not installed or cannot be loaded."""
    try:
        return importlib.import_module("faiss")
    except ImportError:
        return None
