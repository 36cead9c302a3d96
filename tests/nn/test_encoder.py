"""The multi-scale encoder: properties that follow from its definition."""

import torch

from fastifo.nn.encoder import Encoder

SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
DOUBLE = torch.float64


def random_obs(rows: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, rows, width, dtype=DOUBLE, generator=generator)


def test_encoded_features_are_within_1_and_odd_in_the_observation() -> None:
    encoder = Encoder(3, SCALES, False, DOUBLE)
    obs = torch.tensor([[[1e-6, -0.12, 0.1], [0.0, 2e-3, -0.15]]], dtype=DOUBLE)
    encoded = encoder(obs)
    assert encoded.shape == (1, 2, 15)
    assert encoder.width == 15
    assert float(encoded.abs().max()) < 1.0
    assert torch.equal(encoder(-obs), -encoded)


def test_scales_of_a_feature_are_adjacent_and_follow_its_permutation() -> None:
    encoder = Encoder(3, SCALES, False, DOUBLE)
    obs = random_obs(5, 3)
    order = [2, 0, 1]
    by_feature = encoder(obs).view(2, 5, 3, 5)
    assert torch.equal(encoder(obs[..., order]).view(2, 5, 3, 5), by_feature[..., order, :])
    expected = torch.tanh(obs[..., 1] * SCALES[3])
    assert torch.equal(by_feature[..., 1, 3], expected)


def test_a_small_observation_is_not_lost_and_a_huge_one_saturates_every_scale() -> None:
    encoder = Encoder(1, SCALES, False, DOUBLE)
    small = encoder(torch.tensor([[[1e-3]]], dtype=DOUBLE)).flatten()
    assert abs(float(small[4]) - 0.0997) < 1e-4
    huge = encoder(torch.tensor([[[1e3]]], dtype=DOUBLE)).flatten()
    assert float((1 - huge).abs().max()) < 5e-9


def test_without_scales_observations_pass_unchanged() -> None:
    obs = random_obs(3, 4)
    encoder = Encoder(4, (), False, DOUBLE)
    assert torch.equal(encoder(obs), obs)
    assert encoder.width == 4


def test_standardising_precedes_the_scales_and_leaves_constant_features() -> None:
    encoder = Encoder(2, (1.0,), True, DOUBLE)
    encoder.set_statistics(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 0.0]))
    encoded = encoder(torch.tensor([[[3.0, 5.5]]], dtype=DOUBLE))
    torch.testing.assert_close(encoded, torch.tanh(torch.tensor([[[1.0, 0.5]]], dtype=DOUBLE)))


def test_the_encoder_stops_gradients() -> None:
    assert not Encoder(4, SCALES, False, DOUBLE)(random_obs(2, 4).requires_grad_()).requires_grad
