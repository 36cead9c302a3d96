"""Metrics of a logging interval, and the interface of an executor."""

from typing import Protocol

import torch
from torch import Tensor

from fastifo.algos.learner import Metrics


class Meter:
    """Means of the metrics over a logging interval, summed on the device.

    The training loop increments `count`, once per update.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.total: Tensor | None = None  # [P, metrics]
        self.count = 0  # updates since the interval began

    def add(self, metrics: Metrics) -> None:
        """Adds the metrics of one update."""
        values = torch.stack([value.detach() for value in metrics.values()], 1)
        self.names = list(metrics)
        if self.total is None:
            self.total = torch.zeros_like(values)
        self.total += values

    def means(self) -> dict[str, list[float]]:
        """The mean of each metric, one value per member, copied to the host in one transfer."""
        if self.total is None or self.count == 0:
            return {}
        columns = (self.total / self.count).t().tolist()
        return dict(zip(self.names, columns, strict=True))

    def clear(self) -> None:
        """Starts a new interval."""
        if self.total is not None:
            self.total.zero_()
        self.count = 0

    def state(self) -> dict[str, Tensor]:
        """Tensors for a checkpoint."""
        if self.total is None:
            return {}
        return {"meter": self.total, "meter_count": torch.tensor(self.count)}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Restores the interval from the tensors of a checkpoint, if it has them."""
        if "meter" in state:
            saved = state["meter"]
            if self.total is None:
                self.total = saved.to(device)
            else:
                self.total.copy_(saved)
            self.count = int(state["meter_count"])


class Engine(Protocol):
    """An executor: makes the updates of a stage, starting from the learner's tensors."""

    meter: Meter

    def load(self) -> None:
        """Reads the learner's tensors; called before the first update."""

    def store(self) -> None:
        """Writes the state back to the learner's tensors."""

    def advance(self, most: int) -> int:
        """Makes 1 to `most` updates and returns how many."""
