"""Action bins and the Gaussian kernel over them: properties of their definitions."""

import pytest
import torch

from fastifo import losses

DOUBLE = torch.float64


@pytest.mark.parametrize("num_bins", [2, 11, 101])
@pytest.mark.parametrize("width", [0.001, 0.01, 0.02, 0.04, 0.08, 3.0])
def test_kernel_rows_sum_to_one(width: float, num_bins: int) -> None:
    kernel = losses.gaussian_kernel(width, num_bins)
    assert kernel.dtype == DOUBLE
    torch.testing.assert_close(kernel.sum(1), torch.ones(num_bins, dtype=DOUBLE))
    assert float(kernel.min()) >= 0.0


@pytest.mark.parametrize(
    ("width", "weights", "edge"),
    [
        (0.01, [0.787, 0.106, 2.6e-4, 0.0], [0.881, 0.119]),
        (0.02, [0.399, 0.242, 0.054, 0.0044], [0.570, 0.346]),
        (0.04, [0.199, 0.176, 0.121, 0.065], [0.333, 0.294]),
        (0.08, [0.0997, 0.097, 0.088, 0.075], [0.181, 0.176]),
    ],
)
def test_kernel_weights_equal_precomputed_ones(
    width: float, weights: list[float], edge: list[float]
) -> None:
    kernel = losses.gaussian_kernel(width, 101)
    # half a unit of the table's last digit, and the truncation at four deviations
    assert kernel[50, 50:54].tolist() == pytest.approx(weights, abs=6e-4)
    assert kernel[0, :2].tolist() == pytest.approx(edge, abs=6e-4)


def test_the_kernel_is_cut_at_four_deviations_and_has_no_subnormal_entry() -> None:
    kernel = losses.gaussian_kernel(0.04, 101)
    assert int((kernel[50] > 0).sum()) == 17
    assert float(kernel[kernel > 0].min()) > 1e-6
    centre = torch.linspace(-1, 1, 101, dtype=DOUBLE)
    full = torch.exp(-0.5 * ((centre[:, None] - centre) / 0.04) ** 2)
    full = full / full.sum(1, keepdim=True)
    assert float((kernel - full).abs().max()) < 1e-4


def test_a_narrow_kernel_is_the_identity() -> None:
    torch.testing.assert_close(losses.gaussian_kernel(1e-3, 101), torch.eye(101, dtype=DOUBLE))


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_actions_are_encoded_into_the_nearest_bin(dtype: torch.dtype) -> None:
    action = torch.tensor([-1, -0.994, -0.99, 0, 0.013, 0.5, 1, 1.3], dtype=dtype)
    assert losses.encode_action(action, 101).tolist() == [0, 0, 1, 50, 51, 75, 100, 100]


def test_every_centre_decodes_to_itself_and_no_action_moves_by_more_than_half_a_bin() -> None:
    index = torch.arange(101)
    for dtype in (torch.float32, DOUBLE):
        centre = losses.decode_action(index, 101, dtype)
        assert torch.equal(losses.encode_action(centre, 101), index)
    assert centre[[0, 50, 100]].tolist() == [-1.0, 0.0, 1.0]
    action = 2 * torch.rand(10_000, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)) - 1
    back = losses.decode_action(losses.encode_action(action, 101), 101, DOUBLE)
    assert float((back - action).abs().max()) <= 0.01 + 1e-12
