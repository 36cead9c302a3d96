"""Replays a training step as one CUDA graph: the host makes one launch per update."""

import contextlib
import gc
from collections.abc import Callable, Iterator
from functools import cache

import torch

EAGER_STEPS = 3  # before a capture: libraries initialise, and the optimizer allocates its state


class GraphedStep:
    """A step that runs eagerly on the CPU; on a GPU it is captured after its first runs.

    The step must be straight-line tensor code that leaves its results in tensors which outlive it.
    Its host code runs only in the eager runs and during the capture.
    """

    def __init__(self, step: Callable[[], object], device: torch.device, *, captures: bool) -> None:
        """captures: False for a step that reads tensors on the host, as the ops' references do."""
        self.step = step
        self.device = device
        self.captures = captures and device.type == "cuda"
        self.eager_left = EAGER_STEPS
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Runs the step once."""
        if not self.captures:
            self.step()
        elif self.eager_left > 0:
            self.eager_left -= 1
            self._run_on_side_stream()
        else:
            if self.graph is None:
                self.graph = torch.cuda.CUDAGraph()
                with _no_collection(), torch.cuda.graph(self.graph):  # records without running
                    self.step()
            self.graph.replay()

    def _run_on_side_stream(self) -> None:
        """An eager run off the default stream, where a capture cannot begin."""
        stream = _side_stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            self.step()
        torch.cuda.current_stream(self.device).wait_stream(stream)


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One stream for all stages, because each stream has its own memory pool."""
    return torch.cuda.Stream(device)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Disables garbage collection: freeing an old graph during a capture would break it."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
