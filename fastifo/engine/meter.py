"""Metrics of a logging interval, and the interface of an engine."""

from typing import Protocol

import torch
from torch import Tensor

from fastifo.algos.learner import Metrics


class Meter:
    """Means of the metrics over a logging interval, kept on the device. The loop counts."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.total: Tensor | None = None  # [P, metrics]
        self.count = 0

    def add(self, metrics: Metrics) -> None:
        values = torch.stack([value.detach() for value in metrics.values()], 1)
        self.names = list(metrics)
        if self.total is None:
            self.total = torch.zeros_like(values)
        self.total += values

    def means(self) -> dict[str, list[float]]:
        """One number per member and metric, copied to the host."""
        if self.total is None or self.count == 0:
            return {}
        columns = (self.total / self.count).t().tolist()
        return dict(zip(self.names, columns, strict=True))

    def clear(self) -> None:
        """Begins another interval."""
        if self.total is not None:
            self.total.zero_()
        self.count = 0

    def state(self) -> dict[str, Tensor]:
        if self.total is None:
            return {}
        return {"meter": self.total, "meter_count": torch.tensor(self.count)}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        if "meter" in state:
            saved = state["meter"]
            if self.total is None:
                self.total = saved.to(device)
            else:
                self.total.copy_(saved)
            self.count = int(state["meter_count"])


class Engine(Protocol):
    """What makes the updates of a stage, from and to the learner's tensors."""

    meter: Meter

    def load(self) -> None:
        """Takes the learner's state."""

    def store(self) -> None:
        """Gives it back."""

    def advance(self, most: int) -> int:
        """Makes 1 to `most` updates; returns how many."""
