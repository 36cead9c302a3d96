"""What the engine's tests share."""

from typing import Any

import torch

import fastifo
from fastifo.data.dataset import Dataset
from fastifo.learner import tensors
from helpers import SMALL

QUIET: dict[str, Any] = {"progress": False, "log_every": 10, **SMALL}
ALL = ["bc", "awr", "vfo_bin", "vfo_disc"]


def train(name: str, dataset: Dataset, num_updates: int = 30, **fields: Any) -> fastifo.Run:
    if name == "vfo_disc":
        fields.setdefault("disc_updates", 20)
    return fastifo.train(name, dataset, num_updates=num_updates, **QUIET | fields)


def weights(run: fastifo.Run) -> list[dict[str, torch.Tensor]]:
    return [{k: v.clone() for k, v in tensors(learner).items()} for learner in run.learners]


def assert_equal_bits(a: fastifo.Run, b: fastifo.Run) -> None:
    for found, expected in zip(weights(a), weights(b), strict=True):
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert torch.equal(value, expected[name]), name
