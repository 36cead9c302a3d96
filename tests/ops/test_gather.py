"""`gather` copies rows bit for bit, encodes with an accurate tanh and refuses bad arguments."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastifo import _C
from fastifo.ops import OPS, gather
from ops import compare

SCALES = [0.01, 0.1, 1.0, 10.0, 100.0]


def arguments(
    members: int,
    size: int,
    width: int,
    scales: list[float],
    steps: int = 2,
    standardises: bool = False,
    rows: int = 50,
) -> list[Any]:
    """All arguments of `gather`: a flat and a wide random column, both shared and per member."""
    g = torch.Generator().manual_seed(members + 10 * size + 100 * width)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    index = torch.randint(rows, (members, size), generator=g)
    row = torch.arange(rows) + torch.arange(rows) // 10
    mean, deviation = (numbers(width), numbers(width).abs() + 0.5) if standardises else (None, None)
    return [
        index, row, numbers(rows + 5 + steps, width), torch.tensor(scales, dtype=torch.float64),
        mean, deviation, steps, [numbers(rows), numbers(rows, 3)],
        [numbers(members, rows), numbers(members, rows, 2)],
    ]  # fmt: skip


@pytest.mark.parametrize("members", [1, 7])
@pytest.mark.parametrize(("size", "width"), [(0, 3), (1, 1), (33, 17), (256, 40)])
@pytest.mark.parametrize("scales", [[], [2.0], SCALES, [0.1] * 20], ids=len)
@pytest.mark.parametrize("standardises", [False, True])
def test_equals_the_reference(
    members: int, size: int, width: int, scales: list[float], standardises: bool,
    device: torch.device,
) -> None:  # fmt: skip
    inputs = arguments(members, size, width, scales, standardises=standardises)
    compare.assert_equals_reference("gather", inputs, device)


@pytest.mark.parametrize("isa", _C.isas)
@pytest.mark.parametrize("scales", [[], SCALES], ids=len)
def test_every_instruction_set_equals_the_reference(
    isa: str, scales: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    compare.use_instruction_set(isa, monkeypatch)
    for members, size, width in ((1, 1, 1), (3, 45, 17), (2, 5000, 3)):
        compare.assert_equals_reference(
            "gather", arguments(members, size, width, scales, standardises=True), compare.CPU
        )


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_rows_without_an_encoder_are_copied_bit_for_bit(steps: int, device: torch.device) -> None:
    inputs = compare.cast(arguments(3, 40, 5, [], steps), torch.float32, device)
    index, row, obs, *_, columns, member_columns = inputs
    x, shared, shared_wide, per_member, per_member_wide = gather(*inputs)
    for step in range(steps):
        assert torch.equal(x[step], obs[row[index] + step])
    assert torch.equal(shared, columns[0][index])
    assert torch.equal(shared_wide, columns[1][index])
    for member, rows in enumerate(index):
        assert torch.equal(per_member[member], member_columns[0][member, rows])
        assert torch.equal(per_member_wide[member], member_columns[1][member, rows])


@pytest.mark.parametrize("isa", _C.isas)
def test_the_tanh_is_accurate_for_small_and_large_numbers(
    isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare.use_instruction_set(isa, monkeypatch)
    size = torch.logspace(-30, 30, 20001, dtype=torch.float64)
    x = torch.cat([-size, torch.zeros(1), size]).float()
    index = torch.arange(len(x))[None]
    (actual,) = gather(index, index[0], x[:, None], torch.ones(1), None, None, 1, [], [])
    expected = x.double().tanh()
    torch.testing.assert_close(actual.flatten().double(), expected, rtol=4e-7, atol=0)


def test_nan_and_infinity_pass_through_the_encoder(device: torch.device) -> None:
    obs = torch.tensor([[float("nan")], [float("inf")], [-float("inf")]], device=device)
    index = torch.arange(3, device=device)[None]
    (x,) = gather(index, index[0], obs, torch.ones(2, device=device), None, None, 1, [], [])
    assert x[0, 0, 0].isnan().all()
    assert x[0, 0, 1:].tolist() == [[1.0, 1.0], [-1.0, -1.0]]


@given(
    st.integers(1, 4), st.integers(0, 40), st.integers(1, 20), st.integers(0, 7), st.integers(1, 3)
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_equals_the_reference_for_any_shape(
    members: int, size: int, width: int, scales: int, steps: int
) -> None:
    inputs = arguments(members, size, width, SCALES[:1] * scales, steps)
    compare.assert_equals_reference("gather", inputs, compare.CPU)


def test_bits_do_not_depend_on_threads() -> None:
    inputs = compare.cast(arguments(3, 9000, 4, SCALES), torch.float32, compare.CPU)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one_thread = gather(*inputs)
        torch.set_num_threads(3)
        assert all(torch.equal(a, b) for a, b in zip(one_thread, gather(*inputs), strict=True))
    finally:
        torch.set_num_threads(threads)


def test_passes_opcheck(device: torch.device) -> None:
    for size in (0, 5):
        inputs = compare.cast(arguments(2, size, 3, SCALES), torch.float32, device)
        torch.library.opcheck(OPS["gather"].overload, inputs)


INDEX = torch.zeros(2, 3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"index": INDEX.int()}, TypeError, "index: expected torch.int64"),
        ({"index": INDEX[0]}, ValueError, r"index: expected shape \[2, any\], found \[3\]"),
        ({"index": INDEX.T}, ValueError, r"index: expected shape \[2, any\], found \[3, 2\]"),
        ({"row": torch.zeros(9)}, TypeError, "row: expected torch.int64"),
        ({"obs": torch.zeros(10)}, ValueError, r"obs: expected shape \[any, any\]"),
        ({"obs": torch.zeros(10, 4).half()}, TypeError, "obs: expected torch.float32 or"),
        ({"obs": torch.zeros(4, 10).T}, ValueError, "obs: expected a contiguous tensor"),
        ({"scale": torch.zeros(2).double()}, TypeError, "scale: expected torch.float32"),
        ({"mean": torch.zeros(4)}, ValueError, "deviation: expected it together with mean"),
        ({"mean": torch.zeros(3)}, ValueError, r"mean: expected shape \[4\], found \[3\]"),
        ({"steps": 0}, ValueError, "steps: expected at least 1, found 0"),
        ({"columns": [torch.zeros(8)]}, ValueError, r"columns\[0\]: expected shape \[9\]"),
        ({"columns": [torch.zeros(9, 1, 1)]}, ValueError, r"columns\[0\]: expected shape \[N\] or"),
        (
            {"columns": [torch.zeros(9).double()]},
            TypeError,
            r"columns\[0\]: expected torch.float32",
        ),
        ({"member_columns": [torch.zeros(9)]}, ValueError, r"member_columns\[0\]: expected shape"),
    ],
)
def test_refuses_a_bad_argument_and_says_what_was_expected(
    bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    good = {
        "index": INDEX, "row": torch.arange(9), "obs": torch.zeros(10, 4),
        "scale": torch.ones(1), "mean": None, "deviation": None, "steps": 2,
        "columns": [torch.zeros(9)], "member_columns": [torch.zeros(2, 9)],
    }  # fmt: skip
    compare.assert_refused("gather", good, bad, error, message)


def test_refuses_tensors_on_different_devices(cuda_device: torch.device) -> None:
    inputs = compare.cast(arguments(2, 3, 4, []), torch.float32, cuda_device)
    with pytest.raises(ValueError, match="row: expected a tensor on cuda:0, found cpu"):
        gather(inputs[0], inputs[1].cpu(), *inputs[2:])


def test_runs_on_side_streams_and_in_replayed_graphs(cuda_device: torch.device) -> None:
    first = compare.cast(arguments(3, 40, 5, SCALES), torch.float32, cuda_device)
    second = [first[0].flip(1), *first[1:]]
    compare.assert_streams_and_replays("gather", first, second)
