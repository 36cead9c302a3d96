"""Encoder and nets of the oracles equal values worked out by hand."""

import math

import pytest
import torch

from . import parts
from .problems import SCALES, column, make_config, net_close, random_nets, table


def test_encoder_is_feature_major() -> None:
    phi = parts.encode_obs(column([2.0, -3.0])[None], (0.1, 1.0))
    expected = [math.tanh(x) for x in (0.2, 2.0, -0.3, -3.0)]
    assert torch.allclose(phi[0], column(expected), rtol=0, atol=1e-15)


def test_encoder_is_odd_and_bounded() -> None:
    obs = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    phi = parts.encode_obs(obs, (0.01, 0.1, 1.0))
    assert phi.abs().max() < 1
    assert torch.equal(parts.encode_obs(-obs, (0.01, 0.1, 1.0)), -phi)


def test_encoder_keeps_small_inputs_and_saturates_on_large_ones() -> None:
    assert parts.encode_obs(column([1e-3])[None], SCALES)[0, 4].item() == pytest.approx(
        0.0997, abs=5e-5
    )
    assert (1 - parts.encode_obs(column([1e3])[None], SCALES)).max() < 5e-9


def test_permuting_features_permutes_encoder_blocks() -> None:
    phi = parts.encode_obs(column([0.3, -2.0, 7.0])[None], SCALES).reshape(3, 5)
    swapped = parts.encode_obs(column([7.0, 0.3, -2.0])[None], SCALES).reshape(3, 5)
    assert torch.equal(swapped, phi[[2, 0, 1]])


def test_no_scales_means_no_encoder() -> None:
    obs = column([1.0, 2.0])[None]
    assert torch.equal(parts.encode_obs(obs, ()), obs)


@pytest.mark.parametrize(
    ("activation", "hidden"),
    [
        ("relu", [2.0, 0.0]),
        ("elu", [2.0, math.exp(-1) - 1]),
        ("silu", [2 / (1 + math.exp(-2)), -1 / (1 + math.e)]),
    ],
)
def test_mlp_activates_hidden_layers_and_not_the_output(
    activation: str, hidden: list[float]
) -> None:
    first = (column([1.0, 0.0])[None], column([0.0, -1.0]))
    last = (torch.eye(2, dtype=torch.float64), column([-5.0, 0.0]))
    net = parts.MLP([first, last], make_config(activation=activation))
    output = net(column([2.0])[None])[0].tolist()
    assert output == pytest.approx([hidden[0] - 5, hidden[1]], abs=1e-14)


def test_layers_come_back_as_they_were_given() -> None:
    config = make_config(encoder_scales=SCALES)
    layers = random_nets(config)["policy"]
    assert net_close(parts.MLP(layers, config).layers(), layers, tolerance=0.0)


def test_tanh_net_and_standardised_inputs() -> None:
    moments = {"standardize_obs": True, "obs_mean": [1.0, -2.0], "obs_std": [2.0, 4.0]}
    config = make_config(activation="tanh") | moments
    first = (torch.eye(2, dtype=torch.float64), column([0.0, 0.5]))
    net = parts.MLP([first, table([[1.0], [1.0]])[0]], config)
    # (4 - 1) / 2 = 1.5 and (6 + 2) / 4 = 2.
    expected = math.tanh(1.5) + math.tanh(2.5)
    assert net.scalar(column([4.0, 6.0])[None]).item() == pytest.approx(expected, abs=1e-14)
    encoded = parts.MLP(table([[1.0]] * 4), config | {"encoder_scales": (1.0, 0.1)})
    phi = encoded.encode(column([4.0, 6.0])[None])[0]
    assert phi.tolist() == pytest.approx([math.tanh(x) for x in (1.5, 0.15, 2.0, 0.2)])


def test_pair_is_encoded_one_observation_after_the_other() -> None:
    config = make_config(encoder_scales=(1.0, 0.1))
    net = parts.MLP(table([[1.0], [10.0], [100.0], [1000.0]]), config)
    expected = math.tanh(2) + 10 * math.tanh(0.2) + 100 * math.tanh(-3) + 1000 * math.tanh(-0.3)
    value = net.pair_scalar(column([2.0])[None], column([-3.0])[None])
    assert value.item() == pytest.approx(expected, rel=1e-14)
