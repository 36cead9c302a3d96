"""`returns` equals hand-computed sums and its reference at every shape; refuses bad arguments."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastifo import _C
from fastifo.ops import OPS, returns
from ops import compare


def episodes(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Random rewards and the starts of episodes of the given lengths."""
    generator = torch.Generator().manual_seed(len(lengths))
    start = torch.tensor([0, *lengths]).cumsum(0)
    return torch.randn(int(start[-1]), generator=generator, dtype=torch.float64), start


SHAPES = [[], [0], [1], [3, 0, 5], [7] * 9, [1000, 1, 0, 2500], [5] * 1500]


@pytest.mark.parametrize(
    "lengths", SHAPES, ids=lambda lengths: f"{len(lengths)}x{max(lengths, default=0)}"
)
@pytest.mark.parametrize("gamma", [0.0, 0.99, 1.0])
def test_equals_the_reference(lengths: list[int], gamma: float, device: torch.device) -> None:
    compare.assert_equals_reference("returns", (*episodes(lengths), gamma), device, scale=100)


@pytest.mark.parametrize("isa", _C.isas)
def test_every_instruction_set_equals_the_reference(
    isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare.use_instruction_set(isa, monkeypatch)
    compare.assert_equals_reference("returns", (*episodes([3, 40, 1]), 0.9), compare.CPU, scale=10)


def test_sums_stop_at_the_episodes_end(device: torch.device) -> None:
    reward = torch.tensor([1.0, 2.0, 4.0, 8.0], device=device)
    start = torch.tensor([0, 2, 4], device=device)
    assert returns(reward, start, 0.5).tolist() == [2.0, 2.0, 8.0, 8.0]
    assert returns(reward, start, 0.0).tolist() == reward.tolist()
    assert returns(reward, start, 1.0).tolist() == [3.0, 2.0, 12.0, 8.0]


@given(st.lists(st.integers(0, 30), max_size=8), st.floats(0, 1, allow_subnormal=False))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_equals_the_reference_for_any_lengths(lengths: list[int], gamma: float) -> None:
    compare.assert_equals_reference("returns", (*episodes(lengths), gamma), compare.CPU, scale=100)


def test_passes_opcheck(device: torch.device) -> None:
    reward, start = (tensor.to(device) for tensor in episodes([3, 0, 2]))
    torch.library.opcheck(OPS["returns"].overload, (reward, start, 0.9))


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"reward": torch.zeros(4).half()}, TypeError, "reward: expected torch.float32 or"),
        ({"reward": torch.zeros(2, 2)}, ValueError, r"reward: expected shape \[any\]"),
        ({"reward": torch.zeros(8)[::2]}, ValueError, "reward: expected a contiguous tensor"),
        ({"start": torch.zeros(2)}, TypeError, "start: expected torch.int64"),
        ({"start": torch.zeros(0, dtype=torch.int64)}, ValueError, "start: expected shape"),
        ({"gamma": 1.5}, ValueError, "gamma: expected 0 to 1, found 1.5"),
        ({"gamma": float("nan")}, ValueError, "gamma: expected 0 to 1, found nan"),
    ],
)
def test_refuses_a_bad_argument_and_says_what_was_expected(
    bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    good = {"reward": torch.zeros(4), "start": torch.tensor([0, 4]), "gamma": 0.5}
    compare.assert_refused("returns", good, bad, error, message)


def test_refuses_tensors_on_different_devices(cuda_device: torch.device) -> None:
    with pytest.raises(ValueError, match="start: expected a tensor on cuda:0, found cpu"):
        returns(torch.zeros(4, device=cuda_device), torch.tensor([0, 4]), 0.5)


def test_runs_on_side_streams_and_in_replayed_graphs(cuda_device: torch.device) -> None:
    reward, start = (tensor.to(cuda_device) for tensor in episodes([40, 7]))
    compare.assert_streams_and_replays("returns", (reward, start, 0.9), (reward + 1, start, 0.9))
