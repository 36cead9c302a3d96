"""Replays a training step as one CUDA graph, so that the host launches once an update."""

import contextlib
import gc
from collections.abc import Callable, Iterator
from functools import cache

import torch

EAGER_STEPS = 3  # libraries set themselves up and the optimizer makes its state before a capture


class GraphedStep:
    """A step that is captured after its first few runs on a GPU, and eager on the CPU.

    The step must be straight-line tensor code that leaves its results in tensors that stay; what
    it does on the host happens in the eager runs and in the capture only.
    """

    def __init__(self, step: Callable[[], object], device: torch.device, *, captures: bool) -> None:
        """captures: False where the step reads tensors on the host, as the ops' references do."""
        self.step = step
        self.device = device
        self.captures = captures and device.type == "cuda"
        self.eager_left = EAGER_STEPS
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if not self.captures:
            self.step()
        elif self.eager_left > 0:
            self.eager_left -= 1
            self._on_side_stream()
        else:
            if self.graph is None:
                self.graph = torch.cuda.CUDAGraph()
                with _no_collection(), torch.cuda.graph(self.graph):  # records, runs nothing
                    self.step()
            self.graph.replay()

    def _on_side_stream(self) -> None:
        """An eager step where captures are allowed to begin: not on the default stream."""
        stream = _side_stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            self.step()
        torch.cuda.current_stream(self.device).wait_stream(stream)


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all stages: each stream has memory of its own."""
    return torch.cuda.Stream(device)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage is collected: an old graph that goes during a capture breaks it."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
