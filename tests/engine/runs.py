"""Runs of the test sizes, and comparisons between runs."""

from typing import Any

import torch

import fastifo
from fastifo.algos import ALGORITHMS, BACKBONES
from fastifo.algos.learner import Learner, tensors
from fastifo.data.dataset import Dataset
from fastifo.engine.native_engine import NativeEngine
from helpers import SMALL, random_dataset, small

QUIET: dict[str, Any] = {"progress": False, "log_every": 10, **SMALL}
ALL = list(ALGORITHMS)
NATIVE = [  # methods that the native engine trains, less those that only make rewards for one
    name for name in ALL if ALGORITHMS[name].native_loss is not None and name not in BACKBONES
]
STAGES = {  # fields that set the length of a pre-training stage
    "disc_updates": 20,
    "first_disc_updates": 20,
    "inverse_updates": 20,
    "diffusion_updates": 20,
    "embedding_updates": 20,
}
BATCHES = {"embedding_batch_size": 8}  # rows of a pre-training stage
# In a batch without terminals, SMODICE's and LobsDICE's KL loss does not change when a constant is
# added to the value: the gradient of the last bias is only rounding, which Adam turns into full
# steps. It is small, but not only rounding, with chi2, in DILO with this residual_share, and where
# weight decay is part of the gradient. PW-DICE's loss never changes with a constant in u_1 or u_2.
STEADY: dict[str, dict[str, Any]] = {
    "smodice": {"divergence": "chi2"},
    # With seed 3, rounding to bfloat16 switches the same relu units in both engines.
    "lobsdice": {"weight_decay": 0.1, "decoupled_weight_decay": False, "seeds": [3]},
    "dilo": {"residual_share": 0.5},
    "pw_dice": {"weight_decay": 0.1, "decoupled_weight_decay": False},
}


def train(name: str, dataset: Dataset, num_updates: int = 30, **fields: Any) -> fastifo.Run:
    """`fastifo.train` with small nets and short pre-training stages."""
    return fastifo.train(
        name, dataset, num_updates=num_updates, **QUIET | small(name) | short(name) | fields
    )


def short(name: str, count: int | None = None) -> dict[str, int]:
    """Lengths of the method's pre-training stages, `count` updates each if given, and batches."""
    known = vars(ALGORITHMS[name].Config())
    lengths = {k: v if count is None else count for k, v in STAGES.items()}
    return {k: v for k, v in (lengths | BATCHES).items() if k in known}


def state(run: fastifo.Run) -> dict[str, torch.Tensor]:
    """Every tensor of a run's checkpoints, by population and name."""
    return {f"{i}.{k}": v for i, x in enumerate(run.learners) for k, v in tensors(x).items()}


def assert_equal_bits(a: fastifo.Run, b: fastifo.Run) -> None:
    """Asserts that two runs have the same tensors, bit for bit."""
    actual, expected = state(a), state(b)
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        assert torch.equal(value, expected[name]), name


def engine_of(learner: Learner) -> NativeEngine:
    """The native engine of a learner's last stage, with the learner's weights."""
    engine = NativeEngine(
        learner, random_dataset(), type(learner).batch_needs(learner.cfg), "train"
    )
    engine.load()
    return engine


def train_natively(learner: Learner, last: int, threads: int = 1) -> NativeEngine:
    """Trains a learner up to its update `last`; returns the engine, which has the metrics."""
    engine, before = engine_of(learner), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        while learner.num_updates < last:
            learner.num_updates += engine.advance(last - learner.num_updates)
    finally:
        torch.set_num_threads(before)
    engine.store()
    return engine
