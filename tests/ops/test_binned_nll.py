"""The discretised-action head equals hand-computed losses and its references at every shape."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastifo import _C, losses
from fastifo.ops import OPS, binned_mode, binned_nll, binned_sample
from ops import compare

SHAPES = [(0, 1, 5), (1, 1, 1), (1, 1, 2), (5, 3, 101), (17, 6, 33), (256, 2, 101), (3, 2, 300)]


def arguments(
    members: int = 2, rows: int = 5, dims: int = 3, bins: int = 11, radius: int | None = None,
    *, weighted: bool = True,
) -> list[Any]:  # fmt: skip
    """All arguments of `binned_nll` with random logits.

    radius: None for Gaussian kernels that differ between members, else of random taps.
    """
    g = torch.Generator().manual_seed(members + 10 * rows + bins)

    def unit(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    logits = 3 * torch.randn(members, rows, dims, bins, generator=g, dtype=torch.float64)
    if radius is None and bins > 1:
        widths = [0.01 * 2**m for m in range(members)] if members else [0.04]
        taps, norm = (column[:members] for column in losses.gaussian_taps(widths, bins))
    else:
        taps, norm = unit(members, (radius or 0) + 1), 0.5 + unit(members, bins)
    weight = unit(members, rows) if weighted else None
    return [logits, 2.2 * unit(members, rows, dims) - 1.1, weight, taps, norm]


def identity_kernel(bins: int) -> tuple[Tensor, Tensor]:
    """Taps and norm for one member that leave its logits unchanged."""
    return torch.ones(1, 1).double(), torch.ones(1, bins).double()


@pytest.mark.parametrize("members", [0, 1, 7])
@pytest.mark.parametrize(("rows", "dims", "bins"), SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_nll_equals_the_reference(
    members: int, rows: int, dims: int, bins: int, weighted: bool, device: torch.device
) -> None:
    inputs = arguments(members, rows, dims, bins, weighted=weighted)
    compare.assert_equals_reference("binned_nll", inputs, device, scale=3)


@pytest.mark.parametrize("isa", _C.isas)
@pytest.mark.parametrize("radius", [None, 0, 1, 8, 16, 40, 100])
def test_every_instruction_set_and_radius_equals_the_references(
    isa: str, radius: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare.use_instruction_set(isa, monkeypatch)
    inputs = arguments(3, 7, 5, 101, radius)
    compare.assert_equals_reference("binned_nll", inputs, compare.CPU, scale=30)
    logits, _, _, taps, norm = inputs
    uniform = torch.rand(3, 7, 5, generator=torch.Generator().manual_seed(1)).double()
    for name, extra in (("binned_sample", [uniform]), ("binned_mode", [])):
        result = OPS[name].call(logits, *extra, taps, norm)
        assert torch.equal(result, OPS[name].reference(logits, *extra, taps, norm))


def test_large_batches_equal_the_reference_across_threads(device: torch.device) -> None:
    inputs = arguments(2, 1500, 3, 101)
    compare.assert_equals_reference("binned_nll", inputs, device, scale=3)


@given(st.integers(1, 3), st.integers(0, 20), st.integers(1, 7), st.integers(2, 140), st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_equal_the_references_for_any_shape(
    members: int, rows: int, dims: int, bins: int, data: st.DataObject
) -> None:
    radius = data.draw(st.none() | st.integers(0, bins - 1))
    inputs = arguments(members, rows, dims, bins, radius)
    compare.assert_equals_reference("binned_nll", inputs, compare.CPU, scale=30)
    mode = binned_mode(inputs[0], *inputs[3:])
    assert torch.equal(mode, OPS["binned_mode"].reference(inputs[0], *inputs[3:]))


def test_gradient_passes_finite_differences() -> None:
    logits, *constants = arguments(2, 3, 2, 7)
    compare.assert_gradients_equal_finite_differences("binned_nll", [logits], *constants)


def test_without_a_kernel_it_is_the_cross_entropy() -> None:
    logits, action, *_ = arguments(1, 9, 4, 11)
    loss, gradient = binned_nll(logits, action, None, *identity_kernel(11))
    leaf = logits.clone().requires_grad_()
    index = losses.encode_action(action, 11)
    expected = F.cross_entropy(leaf.view(-1, 11), index.view(-1), reduction="sum") / 9
    torch.testing.assert_close(loss[0], expected.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, leaf)[0])


def test_the_filter_is_the_gaussian_kernels_matrix() -> None:
    logits, action, *_ = arguments(1, 4, 2, 101)
    taps, norm = losses.gaussian_taps([0.04], 101)
    smooth = logits @ losses.gaussian_kernel(0.04, 101).T
    result, _ = binned_nll(logits, action, None, taps, norm)
    torch.testing.assert_close(result, binned_nll(smooth, action, None, *identity_kernel(101))[0])


def test_a_constant_added_to_a_rows_logits_changes_nothing() -> None:
    inputs = arguments(2, 5, 3, 101)
    moved = [inputs[0] + 7.0, *inputs[1:]]
    torch.testing.assert_close(binned_nll(*inputs)[0], binned_nll(*moved)[0])


def test_no_weight_is_a_weight_of_one() -> None:
    logits, action, weight, *kernel = arguments()
    ones = torch.ones_like(weight)
    for unweighted, weighted in zip(
        binned_nll(logits, action, None, *kernel),
        binned_nll(logits, action, ones, *kernel),
        strict=True,
    ):
        assert torch.equal(unweighted, weighted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("isa", _C.isas)
def test_actions_fall_into_the_bins_of_encode_action(
    isa: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare.use_instruction_set(isa, monkeypatch)
    borders = torch.arange(-110, 111, dtype=dtype) / 100  # every border and centre of 101 bins
    action = torch.cat([borders, borders + 1e-6, borders - 1e-6]).view(1, -1, 1)
    logits = torch.zeros(1, action.numel(), 1, 101, dtype=dtype)
    kernel = [column.to(dtype) for column in identity_kernel(101)]
    _, gradient = binned_nll(logits, action, None, *kernel)
    assert torch.equal(gradient.argmin(-1), losses.encode_action(action, 101))


def test_huge_logits_stay_finite(device: torch.device) -> None:
    inputs = compare.cast(arguments(), torch.float32, device)
    inputs[0] = 1e4 * inputs[0]
    assert all(bool(tensor.isfinite().all()) for tensor in binned_nll(*inputs))


def test_nan_logits_reach_the_members_loss(device: torch.device) -> None:
    inputs = compare.cast(arguments(), torch.float32, device)
    inputs[0][1, 2, 1, 4] = math.nan
    loss, gradient = binned_nll(*inputs)
    assert loss.isnan().tolist() == [False, True]
    assert bool(gradient[1, 2, 1].isnan().any())
    assert bool(gradient[0].isfinite().all())


def test_samples_follow_the_probabilities() -> None:
    bins, count = 7, 200_000
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(bins, generator=generator).double()
    taps, norm = losses.gaussian_taps([0.2], bins)
    p = (logits @ losses.gaussian_kernel(0.2, bins).T).softmax(-1)
    uniform = torch.rand(1, count, 1, generator=generator).double()
    result = binned_sample(logits.repeat(1, count, 1, 1), uniform, taps, norm)
    counts = torch.bincount(result.flatten(), minlength=bins).double()
    chi_square = float(((counts - count * p) ** 2 / (count * p)).sum())
    assert chi_square < bins - 1 + 6 * (2 * (bins - 1)) ** 0.5


def test_samples_stay_in_range_for_uniform_numbers_near_one(device: torch.device) -> None:
    logits = torch.full((1, 4, 1, 5), -50.0, device=device)
    logits[..., 1] = 0.0
    uniform = torch.tensor([0.0, 0.5, 1 - 2.0**-24, 1.0], device=device).view(1, 4, 1)
    kernel = [column.float().to(device) for column in identity_kernel(5)]
    result = binned_sample(logits, uniform, *kernel).flatten().tolist()
    assert result[1] == 1
    assert all(0 <= index <= 4 for index in result)


def test_ties_go_to_the_lowest_bin(device: torch.device) -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0, 1.0], [3.0, 3.0, 3.0, 3.0]], device=device)
    kernel = [column.float().to(device) for column in identity_kernel(4)]
    assert binned_mode(logits.view(1, 2, 1, 4), *kernel).flatten().tolist() == [1, 0]


def test_bits_depend_on_neither_threads_nor_member_order() -> None:
    inputs = compare.cast(arguments(7, 300, 3, 101), torch.float32, compare.CPU)
    compare.assert_independent_of_member_order_and_threads("binned_nll", inputs, 7)
    compare.assert_independent_of_member_order_and_threads(
        "binned_mode", [inputs[0], *inputs[3:]], 7
    )


def test_a_rows_bits_do_not_depend_on_the_other_rows() -> None:
    logits, action, _, *kernel = compare.cast(arguments(1, 40, 3, 101), torch.float32, compare.CPU)
    _, together = binned_nll(logits, action, None, *kernel)
    _, alone = binned_nll(logits[:, 5:6].contiguous(), action[:, 5:6].contiguous(), None, *kernel)
    torch.testing.assert_close(40 * together[:, 5:6], alone, rtol=1e-6, atol=1e-9)
    mode = binned_mode(logits, *kernel)
    assert torch.equal(binned_mode(logits[:, 5:6].contiguous(), *kernel), mode[:, 5:6])


def test_pass_opcheck(device: torch.device) -> None:
    for weighted in (False, True):
        inputs = compare.cast(arguments(weighted=weighted), torch.float32, device)
        torch.library.opcheck(OPS["binned_nll"].overload, inputs)
    logits, action, _, taps, norm = inputs
    torch.library.opcheck(OPS["binned_sample"].overload, (logits, action.abs() / 2, taps, norm))
    torch.library.opcheck(OPS["binned_mode"].overload, (logits, taps, norm))


GOOD = dict(
    zip(
        ("logits", "action", "weight", "taps", "norm"),
        compare.cast(arguments(), torch.float32, compare.CPU),
        strict=True,
    )
)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"logits": torch.zeros(2, 5, 3, 11).half()}, TypeError, "logits: expected torch.float32"),
        ({"logits": torch.zeros(2, 5, 33)}, ValueError, r"logits: expected shape \[any, any, any"),
        ({"logits": torch.zeros(2, 5, 11, 3).mT}, ValueError, "logits: expected a contiguous"),
        ({"action": torch.zeros(2, 5, 2)}, ValueError, r"action: expected shape \[2, 5, 3\]"),
        ({"action": torch.zeros(2, 5, 3).double()}, TypeError, "action: expected torch.float32"),
        ({"weight": torch.zeros(5)}, ValueError, r"weight: expected shape \[2, 5\], found \[5\]"),
        ({"taps": torch.zeros(1, 2)}, ValueError, r"taps: expected shape \[2, any\]"),
        ({"taps": torch.zeros(2, 0)}, ValueError, "taps: expected 1 to 11 of them, found 0"),
        ({"taps": torch.zeros(2, 12)}, ValueError, "taps: expected 1 to 11 of them, found 12"),
        ({"norm": torch.zeros(2, 10)}, ValueError, r"norm: expected shape \[2, 11\]"),
    ],
)
def test_refuses_a_bad_argument_and_says_what_was_expected(
    bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    compare.assert_refused("binned_nll", GOOD, bad, error, message)
    if not {"action", "weight"} & bad.keys():
        good = {k: v for k, v in GOOD.items() if k not in ("action", "weight")}
        compare.assert_refused("binned_mode", good, bad, error, message)
        good["uniform"] = GOOD["action"].abs() / 2
        compare.assert_refused("binned_sample", good, bad, error, message)


def test_refuses_too_many_bins() -> None:
    with pytest.raises(ValueError, match="logits: expected 1 to 4096 bins, found 4097"):
        binned_mode(torch.zeros(1, 1, 1, 4097), torch.ones(1, 1), torch.ones(1, 4097))


def test_refuses_a_uniform_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"uniform: expected shape \[2, 5, 3\], found \[2, 5\]"):
        binned_sample(GOOD["logits"], GOOD["weight"], GOOD["taps"], GOOD["norm"])


def test_refuses_tensors_on_different_devices(cuda_device: torch.device) -> None:
    inputs = compare.cast(arguments(), torch.float32, cuda_device)
    with pytest.raises(ValueError, match="action: expected a tensor on cuda:0, found cpu"):
        binned_nll(inputs[0], inputs[1].cpu(), *inputs[2:])


def test_runs_on_side_streams_and_in_replayed_graphs(cuda_device: torch.device) -> None:
    first = compare.cast(arguments(), torch.float32, cuda_device)
    logits, action, _, *kernel = first
    compare.assert_streams_and_replays("binned_nll", first, [logits.flip(1), *first[1:]])
    compare.assert_streams_and_replays("binned_mode", [logits, *kernel], [logits.flip(1), *kernel])
    uniform = action.abs() / 2
    compare.assert_streams_and_replays(
        "binned_sample", [logits, uniform, *kernel], [logits.flip(1), uniform, *kernel]
    )
