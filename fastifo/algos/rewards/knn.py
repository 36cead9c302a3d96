"""Exact nearest neighbours: FAISS where it is installed, torch where it is not.

Every backend only proposes: a few more points than asked for, whose distances are then computed
again from the differences. Which points those are is decided in single precision: of points nearer
to each other than a thousandth of their size, one may stand for another.
"""

import importlib
from typing import Any

import torch
from torch import Tensor

from fastifo.utils.devices import tf32
from fastifo.utils.text import did_you_mean

BACKENDS = ("faiss-gpu", "faiss", "torch")
SPARE = 8  # points proposed beyond those asked for
MOST_ON_GPU = 2048  # that FAISS proposes there
BLOCK = 16_384  # queries at once
PRODUCTS = 1 << 24  # of one block in torch


def choose_backend(backend: str, device: torch.device) -> str:
    """auto is the first of `BACKENDS` that this machine has.

    device: where the tensors are.  Raises ValueError for an unknown one or one that is not there.
    """
    if backend not in ("auto", *BACKENDS):
        raise ValueError(
            f"neighbour_backend: no {backend!r}; {did_you_mean(backend, ('auto', *BACKENDS))}"
        )
    faiss = _faiss()
    on_gpu = device.type == "cuda" and hasattr(faiss, "StandardGpuResources")
    there = {"faiss-gpu": on_gpu, "faiss": faiss is not None, "torch": True}
    if backend == "auto" and on_gpu and torch.cuda.get_device_capability(device)[0] not in (7, 8):
        return "torch"  # its wheels hold no code for other GPUs and would end the process
    if backend == "auto":
        return next(name for name in BACKENDS if there[name])
    if not there[backend]:
        expected = "FAISS" if backend == "faiss" else "FAISS for GPUs and tensors on one"
        remedy = f"pip install 'fastifo[{backend}]'"
        if faiss is None:
            found = "no FAISS"
        elif not hasattr(faiss, "StandardGpuResources"):
            found = "a FAISS for CPUs alone"
        else:
            found, remedy = f"tensors on the {device.type}", "train on a GPU"
        raise ValueError(
            f"neighbour_backend: {backend} expects {expected}, found {found}; {remedy}, "
            "or use 'torch'"
        )
    return backend


def check_neighbours(wanted: int, there: int, what: str) -> None:
    """Raises ValueError where there are fewer of the expert's than `wanted`."""
    if wanted > there:
        raise ValueError(
            f"neighbours: expected at most {there}, the expert's {what}, found {wanted}; lower it, "
            "or show more of the expert"
        )


def check_backend(config: Any, device: torch.device) -> None:
    """Raises ValueError where the fields ask for a backend that is not here, or too much of it."""
    backend = choose_backend(config.neighbour_backend, device)
    if backend == "faiss-gpu" and config.neighbours + SPARE > MOST_ON_GPU:
        raise ValueError(
            f"neighbours: FAISS on a GPU finds at most {MOST_ON_GPU - SPARE}, found "
            f"{config.neighbours}; use neighbour_backend='torch'"
        )


class Neighbours:
    """Points to search among."""

    def __init__(self, points: Tensor, backend: str = "auto") -> None:
        """points: [M, D], of real numbers, one or more."""
        if points.ndim != 2 or len(points) == 0:
            raise ValueError(f"points: expected [M, D] with M >= 1, found {list(points.shape)}")
        self.backend = choose_backend(backend, points.device)
        # Around zero single precision has the most digits to spare.
        self.centre = points.mean(0, dtype=torch.float64).to(torch.float32)
        self.points = points.to(torch.float32) - self.centre
        self.half_norm = 0.5 * self.points.square().sum(1)
        self.index: Any = None
        if self.backend != "torch":
            faiss = _faiss()
            width = points.shape[1]
            if self.backend == "faiss-gpu":
                importlib.import_module("faiss.contrib.torch_utils")  # lets it take tensors
                self.resources = faiss.StandardGpuResources()
                self.index = faiss.GpuIndexFlatL2(self.resources, width)
                self.index.add(self.points)
            else:
                faiss.omp_set_num_threads(torch.get_num_threads())
                self.index = faiss.IndexFlatL2(width)
                self.index.add(self.points.cpu().numpy())

    def distances(self, queries: Tensor, count: int) -> Tensor:
        """Euclidean distances to the `count` nearest points, ascending, [N, count] float32.

        queries: [N, D] on the points' device.  Raises ValueError where there are fewer points.
        """
        if not 1 <= count <= len(self.points):
            raise ValueError(
                f"neighbours: expected 1 to {len(self.points)}, the expert's rows, found {count}"
            )
        if queries.ndim != 2 or queries.shape[1] != self.points.shape[1]:
            raise ValueError(
                f"queries: expected [N, {self.points.shape[1]}], found {list(queries.shape)}"
            )
        block = BLOCK if self.index is not None else max(1, PRODUCTS // len(self.points))
        found = [self._block(part, count) for part in queries.split(block)]
        return torch.cat(found) if found else queries.new_empty(0, count)

    def _block(self, queries: Tensor, count: int) -> Tensor:
        queries = queries.to(torch.float32) - self.centre
        proposed = min(count + SPARE, len(self.points))
        near = self._propose(queries, proposed)
        exact = torch.stack(
            [(queries - self.points[column]).square().sum(1) for column in near.unbind(1)], 1
        )
        return exact.sort(1).values[:, :count].sqrt()

    def _propose(self, queries: Tensor, count: int) -> Tensor:
        """Indices of points among which the nearest are, [N, count]."""
        if self.backend == "faiss-gpu":
            found: Tensor = self.index.search(queries.contiguous(), count)[1]
            return found
        if self.backend == "faiss":
            _, index = self.index.search(queries.cpu().numpy(), count)
            return torch.from_numpy(index).to(queries.device)
        with tf32(False):
            closeness = queries @ self.points.t() - self.half_norm
        return closeness.topk(count, 1, sorted=False).indices


def _faiss() -> Any:
    """The module, or None where it is not installed or cannot be loaded."""
    try:
        return importlib.import_module("faiss")
    except ImportError:
        return None
