"""The action heads of the oracles equal values worked out by hand."""

import math

import pytest
import torch

from . import bc, heads
from .problems import SCALES, column, make_config, random_batches, random_layers


def test_deterministic_head_is_the_mean_square_over_dimensions() -> None:
    config = {"policy_head": "deterministic"}
    output, action = column([0.5, -1.0])[None], column([0.1, 1.0])[None]
    expected = ((math.tanh(0.5) - 0.1) ** 2 + (math.tanh(-1) - 1) ** 2) / 2
    assert heads.log_likelihood(output, action, config).item() == pytest.approx(-expected)
    chosen = heads.likeliest_action(output, config)[0]
    assert chosen.tolist() == pytest.approx([math.tanh(0.5), math.tanh(-1)])


def test_gaussian_head_is_the_tanh_normal_means_first() -> None:
    config = {"policy_head": "gaussian"}
    output, action = column([0.3, -0.4, -1.0, 0.2])[None], column([0.6, -0.2])[None]
    expected = 0.0
    for mean, log_std, a in ((0.3, -1.0, 0.6), (-0.4, 0.2, -0.2)):
        normal = ((math.atanh(a) - mean) / math.exp(log_std)) ** 2 / 2
        expected -= normal + log_std + 0.5 * math.log(2 * math.pi)
        expected -= math.log(1 - a * a + 1e-6)
    assert heads.log_likelihood(output, action, config).item() == pytest.approx(expected, abs=1e-9)
    chosen = heads.likeliest_action(output, config)[0]
    assert chosen.tolist() == pytest.approx([math.tanh(0.3), math.tanh(-0.4)])


def test_gaussian_density_integrates_to_one() -> None:
    action = torch.linspace(-1, 1, 4001, dtype=torch.float64)[1:-1, None]
    output = column([0.2, -0.7]).expand(3999, 2)
    density = heads.gaussian_log_likelihood(output, action).exp()
    assert density.sum().item() * 2 / 4000 == pytest.approx(1.0, abs=1e-5)


def test_gaussian_head_limits_its_moments_and_the_action() -> None:
    mean, std = heads.gaussian_moments(column([9.0, -9.0, 3.0, -6.0])[None])
    assert mean[0].tolist() == [7.24, -7.24]
    assert std[0].tolist() == pytest.approx([math.exp(2), math.exp(-5)])
    at_limit, beyond = (
        heads.gaussian_log_likelihood(column([0.0, 0.0])[None], column([a])[None])
        for a in (1 - 1e-6, 1.5)
    )
    assert beyond.item() == at_limit.item()
    assert math.isfinite(at_limit.item())


@pytest.mark.parametrize(("reading", "bin_index"), [("logits", 0), ("targets", 1), ("probs", 1)])
def test_likeliest_bin_uses_the_kernel_reading_of_training(reading: str, bin_index: int) -> None:
    config = make_config(num_bins=101, kernel_width=0.04, kernel_reading=reading)
    raw = torch.zeros(1, 202, dtype=torch.float64)
    raw[0, 1] = 50.0  # near the edge the kernel's renormalised rows pull it to bin 0
    raw[0, 101 + 70] = 50.0
    expected = heads.decode_action(torch.tensor([bin_index, 70]), 101)
    assert torch.equal(heads.likeliest_action(raw, config)[0], expected)
    tied = column([0.0, 0.0, 0.0, -1.0, 2.0, 2.0])[None]
    assert heads.likeliest_action(tied, make_config()).tolist() == [[-1.0, 0.0]]


@pytest.mark.parametrize(("head", "width"), [("deterministic", 2), ("gaussian", 4)])
def test_cloning_with_a_continuous_head_lowers_its_loss(head: str, width: int) -> None:
    config = make_config(encoder_scales=SCALES, learning_rate=0.01) | {"policy_head": head}
    nets = {"policy": random_layers([15, 8, width], torch.Generator().manual_seed(0))}
    _, history = bc.run(nets, random_batches(1) * 40, config)
    assert history[-1]["policy_loss"] < history[0]["policy_loss"] - 0.2
