"""The gradient penalty of discriminators: its gradient is compiled code here, autograd in torch.

The metrics of a discriminator are its loss with the penalty and the mean probabilities.
"""

import math
from typing import Any

import pytest
import torch

from engine.runs import train_natively
from fastifo import _C
from fastifo.algos.discriminator import Discriminator
from fastifo.algos.learner import InputSpec
from fastifo.algos.smodice import SMODICEConfig
from fastifo.engine.native_engine import choose_engine
from helpers import make_sampler, random_dataset, run_updates

SIZES: list[dict[str, Any]] = [
    {"hidden_sizes": (40, 70), "batch_size": 50},
    {"hidden_sizes": (24,), "batch_size": 8},  # fewer rows than threads share
    {"hidden_sizes": (33, 1, 17), "batch_size": 33},  # a layer of width 1 never packs its operands
    {"hidden_sizes": (), "batch_size": 17},
]


def discriminator(precision: str, seeds: tuple[int, ...] = (0, 3), **fields: Any) -> Discriminator:
    known: dict[str, Any] = {"gradient_penalty": 10, "learning_rate": 1e-2} | fields
    spec = InputSpec(random_dataset().obs_dim, 1)
    return Discriminator([SMODICEConfig(**known)] * len(seeds), seeds, spec, precision)


def train_in_torch(learner: Discriminator, count: int) -> torch.Tensor:
    """Returns the sums of the metrics, [P, 3]."""
    learner.start_optimizer()
    history = run_updates(learner, make_sampler(learner, random_dataset()), count)
    return torch.stack([torch.stack(list(m.values()), 1) for m in history]).sum(0)


def parameters(learner: Discriminator) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learner.parameters()])


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("fields", [{}, {"disc_loss": "pu", "encoder_scales": (0.3, 2.0)}], ids=str)
def test_30_updates_in_double_precision_equal_torch(
    sizes: dict[str, Any], fields: dict[str, Any]
) -> None:
    native, expected = (discriminator("fp64", **sizes | fields) for _ in range(2))
    metrics = train_natively(native, 30).totals
    torch.testing.assert_close(metrics, train_in_torch(expected, 30), rtol=1e-12, atol=0)
    torch.testing.assert_close(parameters(native), parameters(expected), rtol=1e-9, atol=1e-12)


def gradient_errors(precision: str, sizes: dict[str, Any]) -> list[float]:
    """Relative error of each layer's gradient against double precision, after a first step."""
    exact, learner = discriminator("fp64", **sizes), discriminator(precision, **sizes)
    train_in_torch(exact, 1)
    train_natively(learner, 1)
    assert learner.optimizer is not None
    assert exact.optimizer is not None
    pairs = zip(learner.optimizer.first, exact.optimizer.first, strict=True)
    return [float((a.double() - b).norm() / b.norm()) for a, b in pairs]


@pytest.mark.parametrize("kernel", getattr(_C, _C.isas[0]).bf16_kernels())
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_gradients_are_as_exact_as_the_precision(
    kernel: str, sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastifo.engine.native_engine.BF16_KERNEL", kernel)
    assert max(gradient_errors("fp32", sizes)) < 1e-5
    assert max(gradient_errors("fp32x", sizes)) < 3e-4
    rounded = max(gradient_errors("bf16", sizes))
    assert rounded < 0.15
    # A linear net has no packed layer: its only one has a single output.
    assert (rounded > 1e-3) == bool(sizes["hidden_sizes"])


@pytest.mark.parametrize("precision", ["fp32", "fp32x", "bf16"])
@pytest.mark.parametrize("isa", _C.isas)
@pytest.mark.thread_sanitizer
def test_threads_and_populations_do_not_change_a_bit(
    precision: str, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastifo.engine.native_engine.ISA", isa)
    for sizes in SIZES:
        alone = discriminator(precision, (3,), **sizes)
        metrics = train_natively(alone, 12).totals
        for threads, seeds in ((2, (3,)), (6, (3,)), (2, (0, 3, 5)), (5, (0, 3))):
            together = discriminator(precision, seeds, **sizes)
            totals = train_natively(together, 12, threads).totals
            member = seeds.index(3)
            assert torch.equal(totals[member], metrics[0]), (threads, seeds)
            for a, b in zip(together.parameters(), alone.parameters(), strict=True):
                assert torch.equal(a[member], b[0]), (threads, seeds)


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_a_gradient_of_zero_has_a_finite_penalty(engine: str) -> None:
    """The norm has no derivative there; its subgradient 0 is taken."""
    learner = discriminator("fp64", hidden_sizes=(8,))
    with torch.no_grad():
        for parameter in learner.logit.layers[-1].parameters():
            parameter.zero_()
    native = engine == "native"
    metrics = train_natively(learner, 1).totals if native else train_in_torch(learner, 1)
    assert bool(torch.isfinite(parameters(learner)).all())
    # Every logit and every gradient is 0: the loss is 2 log 2 + 10 (0 - 1)^2.
    assert metrics[:, 0].tolist() == pytest.approx([2 * math.log(2) + 10] * 2, rel=1e-12)


def test_a_discriminator_with_a_penalty_trains_natively() -> None:
    assert choose_engine("auto", discriminator("fp32")) == ("native", None)
