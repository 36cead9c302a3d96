"""`draw` gives Philox's known answers, equals its reference exactly and refuses bad arguments."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastifo import _C
from fastifo.ops import OPS, draw
from fastifo.ops.draw import draw_reference, philox_reference
from fastifo.ops.registry import launch

WORD = 2**32 - 1
CPU = torch.device("cpu")


def seeds(count: int, device: torch.device = CPU) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    low, high = torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max
    seed = torch.randint(low, high, (count,), generator=generator, dtype=torch.int64)
    return seed.to(device)


def counter(value: int, device: torch.device = CPU) -> Tensor:
    return torch.tensor([value], device=device)


@pytest.mark.parametrize(
    ("words", "key", "answer"),
    [
        (
            (0, 0, 0, 0),
            (0, 0),
            (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        ),
        (
            (WORD, WORD, WORD, WORD),
            (WORD, WORD),
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_reference_gives_the_known_answers_of_random123(
    words: tuple[int, int, int, int], key: tuple[int, int], answer: tuple[int, int, int, int]
) -> None:
    assert philox_reference(words, key) == answer


def test_compiled_words_are_the_known_answer_of_random123(device: torch.device) -> None:
    # high = 2^62 returns the upper 62 of an index's 64 random bits.
    indices = draw(
        torch.zeros(1, dtype=torch.int64, device=device), counter(0, device), 0, 2**62, 2
    )
    words = (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    assert indices.tolist() == [[(words[k + 1] << 32 | words[k]) >> 2 for k in (0, 2)]]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 255, 256, 4099])
@pytest.mark.parametrize("members", [0, 1, 7])
def test_equals_the_reference(device: torch.device, members: int, size: int) -> None:
    seed, update = seeds(members, device), counter(2**40 + 3, device)
    indices = draw(seed, update, 5, 1_000_003, size)
    assert indices.shape == (members, size)
    assert indices.dtype == torch.int64
    assert indices.device == device
    assert torch.equal(indices, draw_reference(seed, update, 5, 1_000_003, size))


def test_equals_the_reference_across_threads_and_blocks(device: torch.device) -> None:
    seed, update = seeds(3, device), counter(-1, device)
    indices = draw(seed, update, WORD, 2**63 - 1, 50_001)
    assert torch.equal(indices, draw_reference(seed, update, WORD, 2**63 - 1, 50_001))


@given(
    seed=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
    update=st.integers(-(2**63), 2**63 - 1),
    purpose=st.integers(0, WORD),
    high=st.integers(1, 2**63 - 1),
    size=st.integers(0, 40),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_equals_the_reference_for_any_arguments(
    seed: list[int], update: int, purpose: int, high: int, size: int
) -> None:
    arguments = (torch.tensor(seed, dtype=torch.int64), counter(update), purpose, high, size)
    indices = draw(*arguments)
    assert torch.equal(indices, draw_reference(*arguments))
    assert bool(((indices >= 0) & (indices < high)).all())


def test_a_bound_of_one_gives_zeros(device: torch.device) -> None:
    assert int(draw(seeds(2, device), counter(1, device), 0, 1, 999).sum()) == 0


@pytest.mark.parametrize("high", [2, 10, 1000])
def test_indices_are_uniform(high: int) -> None:
    size = 1_000_000
    indices = draw(seeds(1), counter(0), 0, high, size)
    counts = torch.bincount(indices[0], minlength=high).double()
    expected = size / high
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    freedom = high - 1
    # Within six standard deviations of a chi-square variable's mean: too even is not random either.
    assert abs(chi_square - freedom) < 6 * (2 * freedom) ** 0.5


def test_neighbouring_indices_are_independent() -> None:
    pairs = draw(seeds(1), counter(0), 0, 10, 1_000_000)[0].view(-1, 2)
    counts = torch.bincount(pairs[:, 0] * 10 + pairs[:, 1], minlength=100).double()
    chi_square = float(((counts - 5000) ** 2 / 5000).sum())
    assert abs(chi_square - 99) < 6 * (2 * 99) ** 0.5


@pytest.mark.parametrize(
    "other",
    [
        (seeds(1) + 1, counter(3), 4),
        (seeds(1) + 2**32, counter(3), 4),
        (seeds(1), counter(4), 4),
        (seeds(1), counter(3 + 2**32), 4),
        (seeds(1), counter(3), 5),
    ],
    ids=["seed", "upper half of the seed", "update", "upper half of the update", "purpose"],
)
def test_each_part_of_the_key_gives_other_indices(other: tuple[Tensor, Tensor, int]) -> None:
    first = draw(seeds(1), counter(3), 4, 1_000_000, 1000)
    second = draw(*other, 1_000_000, 1000)
    # Two random rows of 1,000 indices below 1,000,000 agree in about 0.001 positions.
    assert int((first == second).sum()) < 4


def test_indices_do_not_depend_on_the_member_order(device: torch.device) -> None:
    seed, update = seeds(7, device), counter(11, device)
    together = draw(seed, update, 2, 1000, 33)
    order = torch.tensor([4, 0, 6, 2, 5, 1, 3], device=device)
    assert torch.equal(draw(seed[order], update, 2, 1000, 33), together[order])
    for member in range(7):
        alone = draw(seed[member : member + 1], update, 2, 1000, 33)
        assert torch.equal(alone[0], together[member])


def test_a_longer_draw_begins_with_the_shorter_one(device: torch.device) -> None:
    seed, update = seeds(3, device), counter(11, device)
    longer = draw(seed, update, 2, 1000, 100)
    assert torch.equal(longer[:, :31], draw(seed, update, 2, 1000, 31))


def test_arguments_may_be_named() -> None:
    named = draw(seed=seeds(2), update=counter(1), purpose=3, high=9, size=5)
    assert torch.equal(named, draw(seeds(2), counter(1), 3, 9, 5))


@pytest.mark.parametrize("size", [0, 5])
def test_passes_opcheck(device: torch.device, size: int) -> None:
    arguments = (seeds(3, device), counter(1, device), 2, 100, size)
    torch.library.opcheck(OPS["draw"].overload, arguments)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"seed": torch.zeros(2)}, TypeError, "seed: expected torch.int64, found torch.float32"),
    (
        {"seed": torch.zeros(2, dtype=torch.int32)},
        TypeError,
        "seed: expected torch.int64, found torch.int32",
    ),
    (
        {"seed": torch.zeros((), dtype=torch.int64)},
        ValueError,
        r"seed: expected shape \[any\], found \[\]",
    ),
    (
        {"seed": torch.zeros(2, 1, dtype=torch.int64)},
        ValueError,
        r"seed: expected shape \[any\], found \[2, 1\]",
    ),
    (
        {"seed": torch.zeros(4, dtype=torch.int64)[::2]},
        ValueError,
        r"seed: expected a contiguous tensor, found strides \(2,\)",
    ),
    (
        {"update": torch.zeros(1, dtype=torch.int32)},
        TypeError,
        "update: expected torch.int64, found torch.int32",
    ),
    (
        {"update": torch.zeros(2, dtype=torch.int64)},
        ValueError,
        r"update: expected shape \[1\], found \[2\]",
    ),
    (
        {"update": torch.zeros((), dtype=torch.int64)},
        ValueError,
        r"update: expected shape \[1\], found \[\]",
    ),
    ({"purpose": -1}, ValueError, r"purpose: expected 0 to 2\^32 - 1, found -1"),
    ({"purpose": 2**32}, ValueError, r"purpose: expected 0 to 2\^32 - 1, found 4294967296"),
    ({"high": 0}, ValueError, r"high: expected 1 to 2\^63 - 1, found 0"),
    ({"high": -5}, ValueError, r"high: expected 1 to 2\^63 - 1, found -5"),
    ({"high": 2**63}, ValueError, r"high: expected 1 to 2\^63 - 1, found 9223372036854775808"),
    ({"size": -1}, ValueError, r"size: expected 0 to 2\^33, found -1"),
    ({"size": 2**33 + 1}, ValueError, r"size: expected 0 to 2\^33, found 8589934593"),
]


@pytest.mark.parametrize(("bad", "error", "message"), BAD)
def test_refuses_a_bad_argument_and_says_what_was_expected(
    bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments: dict[str, Any] = {
        "seed": seeds(2), "update": counter(1), "purpose": 3, "high": 9, "size": 5
    } | bad  # fmt: skip
    with pytest.raises(error, match=message):
        draw(**arguments)


def test_refuses_an_update_on_another_device(cuda_device: torch.device) -> None:
    with pytest.raises(ValueError, match="update: expected a tensor on cuda:0, found cpu"):
        draw(seeds(2, cuda_device), counter(1), 3, 9, 5)


def test_build_without_cuda_refuses_a_gpu_and_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_C, "has_cuda", False)
    with pytest.raises(RuntimeError, match=r"draw: .* found cuda:99: .*FASTIFO_CUDA=ON"):
        launch("draw", torch.device("cuda", 99))


def test_a_side_stream_gives_the_same_indices(cuda_device: torch.device) -> None:
    seed, update = seeds(7, cuda_device), counter(11, cuda_device)
    stream = torch.cuda.Stream(cuda_device)
    stream.wait_stream(torch.cuda.current_stream(cuda_device))
    with torch.cuda.stream(stream):
        update.add_(1)
        indices = draw(seed, update, 2, 1000, 4099)
    stream.synchronize()
    assert torch.equal(indices.cpu(), draw(seed.cpu(), counter(12), 2, 1000, 4099))


def test_a_replayed_graph_draws_for_the_advanced_counter(cuda_device: torch.device) -> None:
    seed, update = seeds(7, cuda_device), counter(0, cuda_device)
    draw(seed, update, 2, 1000, 257)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        indices = draw(seed, update, 2, 1000, 257)
        update.add_(1)
    for update_number in range(3):
        graph.replay()
        assert torch.equal(indices.cpu(), draw(seed.cpu(), counter(update_number), 2, 1000, 257))
