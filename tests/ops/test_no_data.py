"""Ops refuse tensors that have no numbers in memory, instead of reading address 0."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from fastifo import ops
from fastifo.ops.adam import adam
from fastifo.ops.draw import draw
from fastifo.ops.gather import gather
from fastifo.ops.returns import returns
from helpers import make_learner, make_sampler, random_dataset

FAKE = FakeTensorMode()


def fake(tensor: Tensor) -> Tensor:
    return FAKE.from_tensor(tensor)


def negative(tensor: Tensor) -> Tensor:
    return torch._neg_view(tensor) if tensor.is_floating_point() else fake(tensor)


WITHOUT: dict[str, Callable[[Tensor], Tensor]] = {
    "meta": lambda x: x.to("meta"),
    "fake": fake,
    "sparse": lambda x: x.to_sparse(),
    "negative view": negative,
}
SEED, UPDATE = torch.zeros(2, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)


def call_draw(change: Callable[[Tensor], Tensor]) -> Any:
    return draw(change(SEED), change(UPDATE), 0, 10, 4)


def call_returns(change: Callable[[Tensor], Tensor]) -> Any:
    return returns(change(torch.ones(4)), torch.tensor([0, 4]), 0.9)


def call_gather(change: Callable[[Tensor], Tensor]) -> Any:
    index, row = torch.zeros(1, 2, dtype=torch.int64), torch.arange(3)
    return gather(index, row, change(torch.ones(4, 2)), torch.ones(1), None, None, 2, [], [])


def call_adam(change: Callable[[Tensor], Tensor]) -> Any:
    weights = [torch.zeros(1, 2) for _ in range(3)]
    one = torch.ones(1, dtype=torch.float64)
    gradient = [change(torch.zeros(1, 2))]
    return adam(
        weights[:1], weights[1:2], weights[2:], gradient, [], UPDATE, one, one, one, 1, True,
        0.9, 0.999, 1e-8,
    )  # fmt: skip


@pytest.mark.parametrize("kind", WITHOUT)
@pytest.mark.parametrize("call", [call_draw, call_returns, call_gather, call_adam])
def test_a_tensor_without_numbers_is_refused(call: Callable[..., Any], kind: str) -> None:
    call(lambda x: x)
    with pytest.raises((TypeError, ValueError), match="expected"):
        call(WITHOUT[kind])


@pytest.mark.parametrize("name", sorted(ops.OPS))
def test_every_op_refuses_to_be_traced(name: str) -> None:
    def traced(x: Tensor) -> Tensor:
        ops.OPS[name].call(x)
        return x

    with pytest.raises(RuntimeError, match=rf"{name}: torch\.jit\.trace cannot record this op"):
        torch.jit.trace(traced, (torch.ones(2),))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["bc", "vfo_bin", "iql"])
def test_tracing_a_learner_raises(name: str) -> None:
    learner = make_learner(name)
    sampler = make_sampler(learner, random_dataset())
    batch = sampler.draw(learner.counter)

    def update(x: Tensor) -> Tensor:
        metric: Tensor = next(iter(learner.update(batch).values()))
        return metric + x

    with pytest.raises(RuntimeError, match=r"jit\.trace cannot record|Cannot insert a Tensor"):
        torch.jit.trace(update, (torch.zeros(1),))
