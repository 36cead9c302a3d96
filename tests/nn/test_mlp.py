"""Initial weights and layers with a population axis."""

import pytest
import torch
from torch import Tensor

from fastifo.nn.mlp import MLP, Init, Linear, ScalarNet

DOUBLE = torch.float64


@pytest.mark.parametrize("kind", ["fan_in_uniform", "orthogonal", "xavier_uniform"])
def test_initial_weights_depend_on_seed_and_name_not_on_position(kind: str) -> None:
    def first(seeds: list[int], name: str) -> Tensor:
        return Init(seeds, name, kind, DOUBLE).linear(6, 4)[0]

    weight = first([3, 5], "value")
    assert torch.equal(weight[1], first([5], "value")[0])
    assert not torch.equal(weight[0], weight[1])
    assert not torch.equal(weight[0], first([3], "policy")[0])
    if kind == "fan_in_uniform":
        assert float(weight.abs().max()) <= 6**-0.5
    elif kind == "xavier_uniform":
        assert float(weight.abs().max()) <= 0.6**0.5
    else:
        gram = weight[0].T @ weight[0]
        torch.testing.assert_close(gram, 2 * torch.eye(4, dtype=DOUBLE), rtol=0, atol=2e-6)


def test_initial_weights_of_all_seeds_and_nets_differ() -> None:
    def start(seeds: list[int], name: str) -> Tensor:
        return Init(seeds, name, "fan_in_uniform", DOUBLE).linear(3, 4)[0]

    assert torch.equal(start([0, 5], "value")[1], start([5], "value")[0])
    weights = [
        start([seed], name) for seed in (0, 1, 2**31, 2**32 - 1) for name in ("value", "policy")
    ]
    assert len({float(weight[0, 0, 0]) for weight in weights}) == 8


@pytest.mark.parametrize(("fan_in", "fan_out", "heads"), [(200, 100, 1), (200, 100, 2), (50, 6, 3)])
def test_xavier_weights_have_the_bound_of_each_head(fan_in: int, fan_out: int, heads: int) -> None:
    weight, bias = Init(range(20), "net", "xavier_uniform", DOUBLE).linear(fan_in, fan_out, heads)
    generator = torch.Generator().manual_seed(0)
    draws = [torch.empty(fan_out // heads, fan_in) for _ in range(20)]
    for draw in draws:
        torch.nn.init.xavier_uniform_(draw, generator=generator)
    bound = torch.stack(draws).abs().max()
    assert float(weight.abs().max()) == pytest.approx((6 / (fan_in + fan_out / heads)) ** 0.5, 1e-3)
    assert float(weight.abs().max()) == pytest.approx(float(bound), rel=1e-2)
    assert not bool(bias.any())


@pytest.mark.parametrize("fan_in", [8, 200])
def test_he_weights_have_the_variance_2_by_fan_in_and_are_cut(fan_in: int) -> None:
    weight, bias = Init(range(20), "net", "he_normal", DOUBLE).linear(fan_in, 100)
    deviation = (2 / fan_in) ** 0.5
    assert float(weight.std()) == pytest.approx(deviation, rel=0.02)
    assert float(weight.mean()) == pytest.approx(0.0, abs=0.02 * deviation)
    assert float(weight.abs().max()) == pytest.approx(2 * deviation / 0.87962566, rel=0.01)
    assert not bool(bias.any())


@pytest.mark.parametrize("heads", [1, 2])
def test_only_the_output_layer_has_heads(heads: int) -> None:
    init = Init(range(200), "net", "xavier_uniform", DOUBLE)
    net = MLP(init, [9, 7, 6], "relu", output_heads=heads)
    for layer, (fan_in, fan_out) in zip(net.layers, [(9, 7), (7, 6 / heads)], strict=True):
        largest = float(layer.get_parameter("weight").detach().abs().max())
        assert largest == pytest.approx((6 / (fan_in + fan_out)) ** 0.5, rel=1e-2)


def test_bfloat16_products_keep_float32_parameters() -> None:
    init = Init([0, 1], "net", "fan_in_uniform", torch.float32)
    layer = Linear(init, 8, 3, True)
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    output = layer(x)
    assert output.dtype == layer.weight.dtype == torch.float32
    # bfloat16 has 8 bits of mantissa
    torch.testing.assert_close(
        output, torch.bmm(x, layer.weight) + layer.bias, rtol=0.05, atol=0.03
    )


def test_a_value_in_bfloat16_keeps_float32_resolution() -> None:
    init = Init([0], "value", "fan_in_uniform", torch.float32)
    net = ScalarNet(init, [3, 64, 1], "relu", bf16=True)
    with torch.no_grad():
        net.layers[-1].get_parameter("bias").fill_(90.0)
    values = net(torch.randn(1, 500, 3))
    assert len(values.unique()) > 400  # bfloat16 has a step of 0.5 here
