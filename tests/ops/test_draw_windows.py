"""`draw_windows` stays inside episodes, is uniform, equals its reference, refuses bad arguments."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastifo import _C
from fastifo.ops import OPS, draw, draw_windows
from fastifo.ops.draw import draw_windows_reference
from ops import compare
from ops.test_draw import counter, seeds


def windows(lengths: list[int], length: int) -> tuple[Tensor, Tensor]:
    """Each episode's first transition and the number of windows before it, plus the total.

    lengths: of the episodes.  length: of a window.
    """
    counts = torch.tensor([max(0, n - length + 1) for n in lengths])
    first = torch.tensor([0, *lengths]).cumsum(0)[:-1]
    return first, torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])


@pytest.mark.parametrize("isa", _C.isas)
@pytest.mark.parametrize("lengths", [[4], [2, 9, 1, 5], [3] * 700], ids=len)
def test_windows_equal_the_reference(
    isa: str, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    compare.use_instruction_set(isa, monkeypatch)
    for members, size in ((0, 3), (1, 0), (1, 1), (7, 333)):
        arguments = (seeds(members), counter(5), 2, *windows(lengths, 2), size)
        assert torch.equal(draw_windows(*arguments), draw_windows_reference(*arguments))


def test_windows_stay_inside_one_episode_and_are_uniform(device: torch.device) -> None:
    lengths, length, size = [5, 2, 3, 9], 3, 200_000
    first, before = (column.to(device) for column in windows(lengths, length))
    first_rows = draw_windows(seeds(1, device), counter(0, device), 0, first, before, size)[0].cpu()
    starts = [0, 1, 2, 7, *range(10, 17)]  # the episode of two steps has no window
    counts = torch.bincount(first_rows, minlength=19).double()
    assert counts.nonzero().flatten().tolist() == starts
    expected = size / len(starts)
    chi_square = float(((counts[starts] - expected) ** 2 / expected).sum())
    assert abs(chi_square - 10) < 6 * 20**0.5


def test_windows_of_one_transition_equal_draw(device: torch.device) -> None:
    first, before = (column.to(device) for column in windows([5, 1, 8], 1))
    first_rows = draw_windows(seeds(3, device), counter(2, device), 1, first, before, 99)
    assert torch.equal(first_rows, draw(seeds(3, device), counter(2, device), 1, 14, 99))


def test_one_window_per_episode_draws_episode_starts(device: torch.device) -> None:
    first, before = torch.tensor([0, 5, 6], device=device), torch.arange(4, device=device)
    first_rows = draw_windows(seeds(2, device), counter(2, device), 1, first, before, 99)
    assert torch.equal(first_rows, first[draw(seeds(2, device), counter(2, device), 1, 3, 99)])


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=9),
    length=st.integers(1, 5),
    size=st.integers(0, 40),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_windows_equal_the_reference_for_any_episodes(
    lengths: list[int], length: int, size: int
) -> None:
    first, before = windows(lengths, length)
    arguments = (seeds(2), counter(9), 3, first, before, size)
    if int(before[-1]) == 0:
        with pytest.raises(ValueError, match="before: expected at least one window, found none"):
            draw_windows(*arguments)
        return
    assert torch.equal(draw_windows(*arguments), draw_windows_reference(*arguments))


def test_windows_pass_opcheck(device: torch.device) -> None:
    columns = [column.to(device) for column in windows([4, 7], 2)]
    arguments = (seeds(3, device), counter(1, device), 2, *columns, 5)
    torch.library.opcheck(OPS["draw_windows"].overload, arguments)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"first": torch.zeros(2)}, TypeError, "first: expected torch.int64, found torch.float32"),
        ({"first": torch.zeros(0, dtype=torch.int64)}, ValueError, r"before: expected shape \[1\]"),
        ({"before": torch.arange(4)}, ValueError, r"before: expected shape \[3\], found \[4\]"),
        ({"before": torch.arange(6)[::2]}, ValueError, "before: expected a contiguous tensor"),
        ({"size": -1}, ValueError, r"size: expected 0 to 2\^33, found -1"),
        ({"seed": torch.zeros(2)}, TypeError, "seed: expected torch.int64"),
    ],
)
def test_windows_refuse_a_bad_argument_and_say_what_was_expected(
    bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    good = {
        "seed": seeds(2), "update": counter(1), "purpose": 3, "first": torch.tensor([0, 4]),
        "before": torch.tensor([0, 3, 5]), "size": 5,
    }  # fmt: skip
    compare.assert_refused("draw_windows", good, bad, error, message)


def test_replayed_windows_follow_the_counter(cuda_device: torch.device) -> None:
    seed, update = seeds(7, cuda_device), counter(0, cuda_device)
    first, before = windows([40, 3, 9], 3)
    on_gpu = (first.to(cuda_device), before.to(cuda_device))
    draw_windows(seed, update, 2, *on_gpu, 257)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        first_rows = draw_windows(seed, update, 2, *on_gpu, 257)
        update.add_(1)
    for update_number in range(3):
        graph.replay()
        expected = draw_windows(seed.cpu(), counter(update_number), 2, first, before, 257)
        assert torch.equal(first_rows.cpu(), expected)
