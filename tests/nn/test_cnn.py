"""Encoders of frames against torch.nn in float64, and how a net reads frames."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fastifo.nn.cnn import Convolutions, ConvSpec, DrQEncoder, SpatialSoftmaxEncoder
from fastifo.nn.mlp import MLP, Init
from fastifo.nn.pixels import PixelInputs, with_frames
from oracles import cnn

SIZE = (18, 17, 3)
KINDS: dict[str, Any] = {
    "drqv2": (DrQEncoder, cnn.DrQ),
    "spatial_softmax": (SpatialSoftmaxEncoder, cnn.SpatialSoftmax),
}
CAMERAS = (("front", *SIZE), ("wrist", 16, 16, 1))


def init(seeds: tuple[int, ...] = (0, 1), dtype: torch.dtype = torch.float64) -> Init:
    return Init(seeds, "policy", "fan_in_uniform", dtype)


def frames(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def copy_member(encoder: Any, oracle: Any, member: int) -> None:
    """Copies one member's parameters into the oracle; channels come first there."""
    convolutions: list[Any] = [m for m in oracle.modules() if isinstance(m, torch.nn.Conv2d)]
    weights, biases = encoder.convolutions.weights, encoder.convolutions.biases
    for layer, weight, bias in zip(convolutions, weights, biases, strict=False):
        layer.weight.data.copy_(weight[member])
        layer.bias.data.copy_(bias[member])
    linear = encoder.linear.weight[member]  # [in, out]
    if isinstance(encoder, DrQEncoder):
        height, width, channels = encoder.convolutions.size
        linear = linear.view(height, width, channels, -1).permute(2, 0, 1, 3).flatten(0, 2)
        target = oracle.trunk[0]
    else:
        target = oracle.linear
        keypoints = encoder.keypoints.weight[member].T[:, :, None, None]
        convolutions[-1].weight.data.copy_(keypoints)
        convolutions[-1].bias.data.copy_(encoder.keypoints.bias[member, 0])
    target.weight.data.copy_(linear.T)
    target.bias.data.copy_(encoder.linear.bias[member, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_features_and_gradients_equal_torchs_own(kind: str) -> None:
    ours_class, oracle_class = KINDS[kind]
    encoder: Any = ours_class(init(), SIZE, 7, False)
    images = frames(2, 5, *SIZE)
    features = encoder(images.double() / 255.0)
    assert features.shape == (2, 5, 7)
    coefficients = torch.linspace(-1, 1, 70, dtype=torch.float64).view(2, 5, 7)
    (features * coefficients).sum().backward()
    for member in range(2):
        oracle: Any = oracle_class(*SIZE, 7).double()
        copy_member(encoder, oracle, member)
        expected = oracle(images[member])
        torch.testing.assert_close(features[member], expected, rtol=1e-12, atol=1e-12)
        (expected * coefficients[member]).sum().backward()
        convolutions: list[Any] = [m for m in oracle.modules() if isinstance(m, torch.nn.Conv2d)]
        for layer, weight, bias in zip(
            convolutions, encoder.convolutions.weights, encoder.convolutions.biases, strict=False
        ):
            torch.testing.assert_close(
                weight.grad[member], layer.weight.grad, rtol=1e-10, atol=1e-12
            )
            torch.testing.assert_close(bias.grad[member], layer.bias.grad, rtol=1e-10, atol=1e-12)
        linear: Any = oracle.trunk[0] if kind == "drqv2" else oracle.linear
        bias_gradient = encoder.linear.bias.grad[member, 0]
        torch.testing.assert_close(bias_gradient, linear.bias.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_members_features_do_not_depend_on_the_others(kind: str) -> None:
    images = frames(3, 4, *SIZE).float() / 255.0
    seeds = (3, 1, 2)
    together = KINDS[kind][0](init(seeds, torch.float32), SIZE, 6, False)(images)
    for index, seed in enumerate(seeds):
        alone = KINDS[kind][0](init((seed,), torch.float32), SIZE, 6, False)
        torch.testing.assert_close(together[index], alone(images[index : index + 1])[0])


def test_convolutions_count_their_multiplications() -> None:
    layer = Convolutions(init(), (9, 9, 2), [ConvSpec(4, 3, 2), ConvSpec(5, 1)], False)
    assert layer.size == (4, 4, 5)
    assert layer.macs == 16 * (9 * 2 * 4) + 16 * (4 * 5)


def test_small_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="frames of 14 x 20 are too small"):
        DrQEncoder(init(), (14, 20, 3), 8, False)


def test_bfloat16_convolves_close_to_float32() -> None:
    images = frames(2, 4, *SIZE).float() / 255.0
    exact, rounded = (
        DrQEncoder(init(dtype=torch.float32), SIZE, 8, bf16) for bf16 in (False, True)
    )
    result = rounded(images)
    assert result.dtype == torch.float32
    assert 0.0 < float((result - exact(images)).detach().abs().max()) < 0.1


def test_pixels_are_replaced_by_features_and_the_rest_is_kept() -> None:
    front = PixelInputs(init(), CAMERAS, 4, 2, "drqv2", 6, False)
    assert front.width == 2 * (4 + 2 * 6)
    obs = torch.arange(2 * 5 * 4, dtype=torch.float64).view(2, 5, 4)
    first = [frames(2, 5, *size) for _, *size in CAMERAS]
    second = [frame.flip(1) for frame in first]
    action = torch.full((2, 5, 3), 0.5, dtype=torch.float64)
    rows = [with_frames(obs, first), with_frames(-obs, second), action]
    assert rows[0].shape[-1] == 4 + sum(math.prod(size) for _, *size in CAMERAS)
    out = front(torch.cat(rows, -1))
    assert out.shape == (2, 5, front.width + 3)
    assert torch.equal(out[..., :4], obs)
    assert torch.equal(out[..., 16:20], -obs)
    assert torch.equal(out[..., -3:], action)
    for index, encoder in enumerate(front.encoders):
        begin = 4 + 6 * index
        for frame, offset in ((first, 0), (second, 16)):
            expected = encoder(frame[index].double() / 255.0)
            part = out[..., offset + begin : offset + begin + 6]
            torch.testing.assert_close(part, expected, rtol=1e-12, atol=1e-12)


def test_a_net_without_a_front_is_the_same_as_before() -> None:
    net = MLP(init(), [3, 4, 2], "relu")
    assert net.front is None
    assert [name for name, _ in net.named_parameters()] == [
        f"layers.{layer}.{kind}" for layer in range(2) for kind in ("weight", "bias")
    ]
