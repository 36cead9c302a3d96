"""What the engine's tests share."""

from typing import Any

import torch

import fastifo
from fastifo.algos import ALGORITHMS, BACKBONES
from fastifo.algos.learner import tensors
from fastifo.data.dataset import Dataset
from helpers import SMALL, small

QUIET: dict[str, Any] = {"progress": False, "log_every": 10, **SMALL}
ALL = list(ALGORITHMS)
NATIVE = [name for name in ALL if name not in {"rebrac", *BACKBONES}]
STAGES = {
    "disc_updates": 20,
    "inverse_updates": 20,
    "diffusion_updates": 20,
}  # of methods that have them


def train(name: str, dataset: Dataset, num_updates: int = 30, **fields: Any) -> fastifo.Run:
    return fastifo.train(
        name, dataset, num_updates=num_updates, **QUIET | small(name) | short(name) | fields
    )


def short(name: str, count: int | None = None) -> dict[str, int]:
    """Lengths of the stages that the method has before its own, `count` each."""
    known = vars(ALGORITHMS[name].Config())
    return {k: v if count is None else count for k, v in STAGES.items() if k in known}


def state(run: fastifo.Run) -> dict[str, torch.Tensor]:
    """Every tensor of a run by name."""
    return {f"{i}.{k}": v for i, x in enumerate(run.learners) for k, v in tensors(x).items()}


def weights(run: fastifo.Run) -> list[dict[str, torch.Tensor]]:
    return [{k: v.clone() for k, v in tensors(learner).items()} for learner in run.learners]


def assert_equal_bits(a: fastifo.Run, b: fastifo.Run) -> None:
    for found, expected in zip(weights(a), weights(b), strict=True):
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert torch.equal(value, expected[name]), name
