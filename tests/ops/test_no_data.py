"""Ops refuse tensors that have no numbers in memory, instead of reading address 0."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from fastifo import ops
from helpers import make_learner, make_sampler, random_dataset
from ops import (
    test_adam,
    test_advantage,
    test_binned_nll,
    test_draw,
    test_draw_windows,
    test_dual,
    test_gather,
    test_returns,
)

FAKE = FakeTensorMode()


class Wrapper(Tensor):
    """A user's subclass without memory of its own, as tracers make them."""

    @staticmethod
    def __new__(cls, tensor: Tensor) -> "Wrapper":
        result: Wrapper = Tensor._make_wrapper_subclass(cls, tensor.shape, dtype=tensor.dtype)
        return result

    @classmethod
    def __torch_dispatch__(cls, function: Any, *rest: Any) -> Any:
        raise NotImplementedError


def freed(tensor: Tensor) -> Tensor:
    tensor.untyped_storage().resize_(0)
    return tensor


WITHOUT: dict[str, Callable[[Tensor], Any]] = {
    "meta": lambda x: x.to("meta"),
    "fake": FAKE.from_tensor,
    "functional": torch._to_functional_tensor,
    "subclass": Wrapper,
    "freed": freed,
    "sparse": lambda x: x.to_sparse(),
    "negative view": lambda x: torch._neg_view(x) if x.is_floating_point() else x.to_sparse(),
    "nested": lambda x: torch.nested.nested_tensor([x]),
    "a list": lambda x: x.tolist(),
    "an array": lambda x: x.numpy(),
    "nothing": lambda x: None,
}
ARGUMENTS: dict[str, Callable[[], list[Any]]] = {
    "adam": lambda: test_adam.arguments(2, [(3,), (2, 2)]),
    "advantage": test_advantage.arguments,
    "binned_mode": lambda: [x for i, x in enumerate(test_binned_nll.arguments()) if i in (0, 3, 4)],
    "binned_nll": test_binned_nll.arguments,
    "binned_sample": lambda: [
        *test_binned_nll.arguments()[:1], torch.rand(2, 5, 3).double(),
        *test_binned_nll.arguments()[3:],
    ],
    "dilo": test_dual.dilo_arguments,
    "draw": lambda: [test_draw.seeds(2), test_draw.counter(3), 0, 10, 4],
    "draw_windows": lambda: [
        test_draw.seeds(2), test_draw.counter(3), 0, *test_draw_windows.windows([4, 5], 2), 3,
    ],
    "gather": lambda: test_gather.arguments(2, 5, 3, [1.0, 2.0], standardises=True),
    "returns": lambda: [*test_returns.episodes([3, 2]), 0.9],
    "smodice": test_dual.smodice_arguments,
}  # fmt: skip


def tensor_arguments(name: str) -> list[tuple[str, list[Any], Callable[[Any], None]]]:
    """Each tensor argument of an op: its name, fresh arguments, and what replaces it in them."""
    names = list(inspect.signature(ops.OPS[name].call).parameters)
    places: list[tuple[int, int | None]] = []
    for place, value in enumerate(ARGUMENTS[name]()):
        if isinstance(value, Tensor):
            places.append((place, None))
        elif isinstance(value, list):
            places += [(place, entry) for entry in range(len(value))]
    cases: list[tuple[str, list[Any], Callable[[Any], None]]] = []
    for place, entry in places:
        arguments = ARGUMENTS[name]()
        holder, key = (arguments, place) if entry is None else (arguments[place], entry)
        label = names[place] if entry is None else f"{names[place]}[{entry}]"

        def change(kind: Any, holder: Any = holder, key: int = key) -> None:
            holder[key] = kind(holder[key])

        cases.append((label, arguments, change))
    return cases


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", WITHOUT)
@pytest.mark.parametrize("name", sorted(ops.OPS))
def test_an_argument_without_numbers_is_named(name: str, kind: str) -> None:
    ops.OPS[name].call(*ARGUMENTS[name]())
    for label, arguments, change in tensor_arguments(name):
        optional = "None" in str(inspect.signature(ops.OPS[name].call).parameters.get(label))
        if kind == "nothing" and optional:
            continue
        change(WITHOUT[kind])
        with pytest.raises(TypeError, match=re.escape(f"{name}: {label}: expected a")):
            ops.OPS[name].call(*arguments)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: torch.stack([x, x], -1)[..., 0], "contiguous|shape"),
        (lambda x: x.to(torch.complex64), "torch"),
        (lambda x: x[None].repeat(2, *[1] * x.ndim), "shape|tensors|members"),
    ],
    ids=["strided", "complex", "one more axis"],
)
@pytest.mark.parametrize("name", sorted(ops.OPS))
def test_a_wrong_layout_or_type_is_named(name: str, change: Any, expected: str) -> None:
    messages = []
    for _, arguments, replace in tensor_arguments(name):
        replace(change)
        messages.append(error_of(name, arguments))
    assert any(messages)
    for message in filter(None, messages):  # one number is contiguous in any layout
        assert re.match(rf"{name}: \w+", message)
        assert re.search(expected, message)


def error_of(name: str, arguments: list[Any]) -> str:
    """The message of a call's TypeError or ValueError; empty if it has none."""
    try:
        ops.OPS[name].call(*arguments)
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


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
