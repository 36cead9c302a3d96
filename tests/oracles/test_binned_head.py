"""The binned action head of the oracles equals values worked out by hand."""

import math

import pytest
import torch

from . import heads, parts
from .problems import column, make_config, random_batches, random_nets


def test_encode_matches_the_examples() -> None:
    action = column([-1.0, -0.994, -0.99, 0.0, 0.013, 0.5, 1.0, 1.3])
    assert heads.encode_action(action, 101).tolist() == [0, 0, 1, 50, 51, 75, 100, 100]


def test_decode_inverts_encode_within_half_a_bin() -> None:
    index = torch.arange(101)
    assert torch.equal(heads.encode_action(heads.decode_action(index, 101), 101), index)
    action = torch.linspace(-1, 1, 999, dtype=torch.float64)
    decoded = heads.decode_action(heads.encode_action(action, 101), 101)
    assert (decoded - action).abs().max() <= 0.01 + 1e-12
    assert heads.decode_action(torch.tensor([51]), 101).item() == pytest.approx(0.02, abs=1e-15)


@pytest.mark.parametrize(
    ("width", "interior", "edge"),
    [
        (0.01, [0.787, 0.106, 2.6e-4, 0.0], [0.881, 0.119]),
        (0.02, [0.399, 0.242, 0.054, 0.0044], [0.570, 0.346]),
        (0.04, [0.199, 0.176, 0.121, 0.065], [0.333, 0.294]),
        (0.08, [0.0997, 0.097, 0.088, 0.075], [0.181, 0.176]),
    ],
)
def test_kernel_matches_the_table(width: float, interior: list[float], edge: list[float]) -> None:
    kernel = heads.gaussian_kernel(101, width)
    # The table rounds to three digits.
    assert kernel[50, 50:54].tolist() == pytest.approx(interior, abs=6e-4)
    assert kernel[0, :2].tolist() == pytest.approx(edge, abs=6e-4)


@pytest.mark.parametrize(("width", "taps"), [(0.01, 5), (0.02, 9), (0.04, 17), (0.07, 29)])
def test_kernel_is_cut_at_four_sigma_and_its_rows_sum_to_one(width: float, taps: int) -> None:
    kernel = heads.gaussian_kernel(101, width)
    assert int((kernel[50] > 0).sum()) == taps
    assert torch.allclose(kernel.sum(1), torch.ones(101, dtype=torch.float64), atol=1e-14)


def test_cutting_changes_the_kernel_by_less_than_a_ten_thousandth() -> None:
    centre = heads.bin_centres(101)
    full = torch.exp(-((centre[:, None] - centre) ** 2) / (2 * 0.04**2))
    full = full / full.sum(1, keepdim=True)
    assert (heads.gaussian_kernel(101, 0.04) - full).abs().max() < 1e-4


def test_narrow_kernels_tend_to_the_identity() -> None:
    identity = torch.eye(101, dtype=torch.float64)
    assert torch.equal(heads.gaussian_kernel(101, 0.0), identity)
    # The neighbour's weight at sigma = 0.003 is exp(-22.2) = 2.2e-10.
    assert (heads.gaussian_kernel(101, 0.003) - identity).abs().max() < 1e-9


def test_conditioning_at_one_bin_is_69() -> None:
    assert torch.linalg.cond(heads.gaussian_kernel(101, 0.02)).item() == pytest.approx(69, abs=1)


def test_single_logit_keeps_its_argmax_away_from_the_edges() -> None:
    kernel = heads.gaussian_kernel(101, 0.04)
    moved = [k for k in range(101) if int(kernel[:, k].argmax()) != k]
    # Rows near an edge hold less mass and are scaled up, so these four are pulled outwards.
    assert moved == [1, 2, 98, 99]


def test_folding_the_kernel_into_the_last_layer_reproduces_the_likelihood() -> None:
    smooth = make_config(num_bins=101, kernel_width=0.04)
    plain = make_config(num_bins=101)
    kernel = heads.gaussian_kernel(101, 0.04)
    layers = random_nets(smooth)["policy"]
    weight, bias = layers[-1]
    folded_weight = (weight.reshape(-1, 2, 101) @ kernel.T).reshape(-1, 202)
    folded = [*layers[:-1], (folded_weight, (bias.reshape(2, 101) @ kernel.T).reshape(202))]
    rows = random_batches(1)[0]["background"]
    a = heads.log_likelihood(parts.MLP(layers, smooth)(rows["obs"]), rows["action"], smooth)
    b = heads.log_likelihood(parts.MLP(folded, plain)(rows["obs"]), rows["action"], plain)
    assert torch.allclose(a, b, rtol=1e-12)


def test_head_is_action_dimension_major() -> None:
    raw = column([1.0, 2.0, 3.0, 0.0, 0.0, 5.0])[None]
    log_p = heads.log_likelihood(raw, column([-1.0, 1.0])[None], make_config())
    first = 1 - math.log(math.exp(1) + math.exp(2) + math.exp(3))
    second = 5 - math.log(2 + math.exp(5))
    assert log_p.item() == pytest.approx(first + second, abs=1e-14)


@pytest.mark.parametrize("reading", ["logits", "targets", "probs"])
def test_adding_a_constant_to_the_head_changes_nothing(reading: str) -> None:
    config = make_config(num_bins=101, kernel_width=0.04, kernel_reading=reading)
    generator = torch.Generator().manual_seed(3)
    raw = torch.randn(5, 202, dtype=torch.float64, generator=generator)
    action = 2 * torch.rand(5, 2, dtype=torch.float64, generator=generator) - 1
    a, b = (heads.log_likelihood(raw + shift, action, config) for shift in (0.0, 7.5))
    assert torch.allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("reading", ["logits", "targets", "probs"])
def test_all_readings_agree_without_a_kernel(reading: str) -> None:
    raw = column([1.0, 2.0, 3.0])[None]
    log_p = heads.log_likelihood(raw, column([0.1])[None], make_config(kernel_reading=reading))
    assert log_p.item() == pytest.approx(
        2 - math.log(sum(math.exp(x) for x in (1, 2, 3))), abs=1e-14
    )


def test_gradient_of_smoothed_logits_is_kernel_transposed_times_p_minus_onehot() -> None:
    config = make_config(num_bins=101, kernel_width=0.04)
    generator = torch.Generator().manual_seed(3)
    raw = torch.randn(1, 101, dtype=torch.float64, generator=generator, requires_grad=True)
    torch.autograd.backward(-heads.log_likelihood(raw, column([0.5])[None], config).sum())
    kernel = heads.gaussian_kernel(101, 0.04)
    error = torch.softmax(kernel @ raw.detach()[0], dim=0)
    error[75] -= 1
    assert raw.grad is not None
    assert torch.allclose(raw.grad[0], kernel.T @ error, rtol=0, atol=1e-15)


def test_soft_targets_weight_bins_by_distance_from_the_unrounded_action() -> None:
    q = heads.soft_targets(column([0.013])[None], 101, 0.02)[0, 0]
    # 0.013 lies 0.007 below bin 51 and 0.013 above bin 50.
    ratio = math.exp((0.013**2 - 0.007**2) / (2 * 0.02**2))
    assert (q[51] / q[50]).item() == pytest.approx(ratio, rel=1e-10)
    assert q.sum().item() == pytest.approx(1.0, abs=1e-14)
    raw = torch.zeros(1, 101, dtype=torch.float64)
    config = make_config(num_bins=101, kernel_width=0.02, kernel_reading="targets")
    log_p = heads.log_likelihood(raw, column([0.013])[None], config)
    assert log_p.item() == pytest.approx(-math.log(101), abs=1e-13)


def test_smoothed_probabilities_are_a_mixture_of_discretised_gaussians() -> None:
    config = make_config(num_bins=101, kernel_width=0.04, kernel_reading="probs")
    raw = torch.full((1, 101), -1e3, dtype=torch.float64)
    raw[0, 0] = 0.0  # all mass on bin 0, whose row of the kernel holds 0.294 at bin 1
    log_p = heads.log_likelihood(raw, heads.decode_action(torch.tensor([[1]]), 101), config)
    assert log_p.exp().item() == pytest.approx(0.294, abs=6e-4)
    raw = torch.randn(1, 101, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    action = heads.bin_centres(101)[:, None]
    assert heads.log_likelihood(raw.expand(101, 101), action, config).exp().sum().item() == (
        pytest.approx(1.0, abs=1e-12)
    )
