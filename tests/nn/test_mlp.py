"""Encoder and binned action head: the properties in the methods' description."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from fastifo import losses
from fastifo.nn.binned import BinnedPolicy
from fastifo.nn.encoder import Encoder
from fastifo.nn.mlp import MLP, Init, Linear

SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
DOUBLE = torch.float64
READINGS = ["logits", "targets", "probs", "none"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_policy(
    reading: str = "logits",
    widths: tuple[float, ...] = (0.04,),
    num_bins: int = 101,
    *,
    hidden: tuple[int, ...] = (),
    inputs: int = 4,
    action_dim: int = 2,
    gain: float = 20.0,
) -> BinnedPolicy:
    """One member per kernel width; large weights, so that distributions are far from flat."""
    init = Init(range(len(widths)), "policy", "fan_in_uniform", DOUBLE)
    body = MLP(init, [inputs, *hidden, action_dim * num_bins], "relu")
    with torch.no_grad():
        for parameter in body.layers[-1].parameters():
            parameter.mul_(gain)
    return BinnedPolicy(body, action_dim, num_bins, widths, reading)


def inputs(members: int, rows: int, width: int = 4) -> Tensor:
    return torch.randn(members, rows, width, dtype=DOUBLE, generator=generator(1))


# Encoder


def test_encoded_features_lie_inside_one_and_change_sign_with_the_observation() -> None:
    encoder = Encoder(3, SCALES, False, DOUBLE)
    obs = torch.tensor([[[1e-6, -0.12, 0.1], [0.0, 2e-3, -0.15]]], dtype=DOUBLE)
    found = encoder(obs)
    assert found.shape == (1, 2, 15)
    assert encoder.width == 15
    assert float(found.abs().max()) < 1.0
    assert torch.equal(encoder(-obs), -found)


def test_features_stay_together_and_follow_a_permutation() -> None:
    encoder = Encoder(3, SCALES, False, DOUBLE)
    obs = inputs(2, 5, 3)
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
    obs = inputs(1, 3)
    encoder = Encoder(4, (), False, DOUBLE)
    assert torch.equal(encoder(obs), obs)
    assert encoder.width == 4


def test_standardising_comes_before_the_scales_and_spares_constants() -> None:
    encoder = Encoder(2, (1.0,), True, DOUBLE)
    encoder.set_statistics(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 0.0]))
    found = encoder(torch.tensor([[[3.0, 5.5]]], dtype=DOUBLE))
    torch.testing.assert_close(found, torch.tanh(torch.tensor([[[1.0, 0.5]]], dtype=DOUBLE)))


def test_no_gradient_passes_the_encoder() -> None:
    assert not Encoder(4, SCALES, False, DOUBLE)(inputs(1, 2).requires_grad_()).requires_grad


# Head


@pytest.mark.parametrize("reading", READINGS)
def test_probabilities_sum_to_one(reading: str) -> None:
    policy = make_policy(reading, (0.02, 0.08), hidden=(6,))
    total = policy.log_probs(inputs(2, 7)).exp().sum(-1)
    assert total.shape == (2, 7, 2)
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("reading", READINGS)
def test_a_constant_added_to_the_raw_outputs_changes_nothing(reading: str) -> None:
    policy, x = make_policy(reading), inputs(1, 5)
    before = policy.log_probs(x)
    with torch.no_grad():
        policy.body.layers[-1].get_parameter("bias").add_(3.7)
    torch.testing.assert_close(policy.log_probs(x), before, rtol=0, atol=1e-10)


def test_the_kernel_folds_into_the_last_layer() -> None:
    policy, x = make_policy(hidden=(6,)), inputs(1, 9)
    plain = make_policy("none", hidden=(6,))
    plain.body = copy.deepcopy(policy.body)
    with torch.no_grad():
        for parameter in plain.body.layers[-1].parameters():  # [1, in or 1, A * K]
            shape = parameter.shape
            by_bin = parameter.view(shape[1], 2, 101)
            parameter.copy_((by_bin @ policy.kernel[0].T).reshape(shape))
    torch.testing.assert_close(plain.log_probs(x), policy.log_probs(x), rtol=0, atol=1e-9)


def test_the_gradient_is_the_kernel_transposed_times_p_minus_one_hot() -> None:
    policy, x = make_policy(gain=1.0), inputs(1, 1)
    action = torch.tensor([[[0.31, -0.96]]], dtype=DOUBLE)
    bias = policy.body.layers[-1].get_parameter("bias")
    (found,) = torch.autograd.grad(policy.nll(x, action).sum(), [bias])
    p = policy.log_probs(x).exp()[0, 0]
    one_hot = torch.nn.functional.one_hot(losses.encode_action(action, 101)[0, 0], 101)
    expected = (p - one_hot) @ policy.kernel[0]  # rows of G^T (p - onehot)
    torch.testing.assert_close(found.view(2, 101), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reading", READINGS)
def test_gradients_are_those_of_finite_differences(reading: str) -> None:
    policy = make_policy(reading, (0.3,), num_bins=7, gain=1.0)
    x, action = inputs(1, 3), 2 * torch.rand(1, 3, 2, dtype=DOUBLE, generator=generator()) - 1
    weight = policy.body.layers[-1].get_parameter("weight")

    def loss(value: Tensor) -> Any:
        return torch.func.functional_call(policy, {"body.layers.0.weight": value}, (x, action))

    policy.forward = policy.nll
    assert torch.autograd.gradcheck(loss, weight.detach().clone().requires_grad_())


def test_the_joint_loss_is_the_sum_over_dimensions() -> None:
    policy, x = make_policy(), inputs(1, 6)
    action = 2 * torch.rand(1, 6, 2, dtype=DOUBLE, generator=generator()) - 1
    logp, index = policy.log_probs(x), losses.encode_action(action, 101)
    expected = [
        -sum(float(logp[0, b, a, index[0, b, a]].detach()) for a in range(2)) for b in range(6)
    ]
    assert policy.nll(x, action)[0].tolist() == pytest.approx(expected, rel=1e-12)


def test_soft_targets_use_the_action_as_it_is_not_its_bin() -> None:
    policy, x = make_policy("targets"), inputs(1, 1)
    here = torch.full((1, 1, 2), 0.501, dtype=DOUBLE)
    same_bin = torch.full((1, 1, 2), 0.509, dtype=DOUBLE)
    assert torch.equal(losses.encode_action(here, 101), losses.encode_action(same_bin, 101))
    assert not torch.equal(policy.nll(x, here), policy.nll(x, same_bin))
    centre = torch.linspace(-1, 1, 101, dtype=DOUBLE)
    q = torch.exp(-((0.501 - centre) ** 2) / (2 * 0.04**2))
    expected = -(q / q.sum() * policy.log_probs(x)).sum()
    torch.testing.assert_close(policy.nll(x, here).squeeze(), expected)


def test_smoothed_probabilities_are_a_mixture_of_kernels() -> None:
    policy, x = make_policy("probs"), inputs(1, 3)
    raw = policy.body(x).view(3, 2, 101)
    expected = torch.einsum("km,bak->bam", policy.kernel[0], raw.softmax(-1))
    torch.testing.assert_close(policy.log_probs(x)[0].exp(), expected)


def one_hot_policy(place: int, value: float = 5.0) -> BinnedPolicy:
    """Its raw outputs are zero but for one bin, whatever the input."""
    policy = make_policy(action_dim=1)
    with torch.no_grad():
        for parameter in policy.body.layers[-1].parameters():
            parameter.zero_()
        policy.body.layers[-1].get_parameter("bias")[..., place] = value
    return policy


@pytest.mark.parametrize("place", [10, 50, 90])
def test_a_one_hot_interior_bin_stays_the_likeliest(place: int) -> None:
    mode = one_hot_policy(place).mode(inputs(1, 2))
    assert mode.flatten().tolist() == pytest.approx([place * 0.02 - 1] * 2)


def test_the_mode_is_the_lowest_of_equally_likely_bins() -> None:
    assert one_hot_policy(50, value=0.0).mode(inputs(1, 1)).item() == -1.0


def test_the_mode_is_the_likeliest_bin_of_each_dimension() -> None:
    policy, x = make_policy(widths=(0.02, 0.04)), inputs(2, 8)
    best = policy.log_probs(x).argmax(-1)
    assert torch.equal(policy.mode(x), losses.decode_action(best, 101, DOUBLE))
    assert len(best.unique()) > 3


@pytest.mark.parametrize("reading", READINGS)
def test_sampling_frequencies_pass_a_chi_square_test(reading: str) -> None:
    count = 20_000
    policy, x = make_policy(reading, (0.1,), num_bins=11, action_dim=1, gain=3.0), inputs(1, 1)
    u = torch.rand(1, count, 1, dtype=DOUBLE, generator=generator(5))
    action = policy.sample(x.expand(1, count, 4), u)
    found = torch.bincount(losses.encode_action(action, 11).flatten(), minlength=11)
    expected = policy.log_probs(x).exp().flatten().detach() * count
    assert float(expected.min()) > 5
    # 10 degrees of freedom; 35.6 is exceeded once in ten thousand
    assert float(((found - expected) ** 2 / expected).sum()) < 35.6


def test_sampling_inverts_the_distribution_function() -> None:
    policy, x = make_policy(action_dim=1, num_bins=5, gain=1.0), inputs(1, 1)
    p = policy.log_probs(x).exp().flatten().detach()
    upper = p.cumsum(0)
    for k in range(5):
        middle = (upper[k] - 0.5 * p[k]).view(1, 1, 1)
        assert losses.encode_action(policy.sample(x, middle), 5).item() == k
    assert policy.sample(x, torch.zeros(1, 1, 1, dtype=DOUBLE)).item() == -1.0
    last = torch.full((1, 1, 1), 1 - 2.0**-24, dtype=DOUBLE)
    assert policy.sample(x, last).item() == 1.0


def test_a_bin_of_no_probability_is_never_drawn() -> None:
    policy = make_policy("none", num_bins=5, action_dim=1)
    with torch.no_grad():
        policy.body.layers[-1].get_parameter("weight").zero_()
        logits = torch.tensor([-2000.0, 0.0, -2000.0, 0.0, -2000.0])
        policy.body.layers[-1].get_parameter("bias").copy_(logits)
    u = torch.tensor([0.0, 0.25, 0.5, 0.75, 1 - 2.0**-24], dtype=DOUBLE).view(1, 5, 1)
    drawn = losses.encode_action(policy.sample(inputs(1, 1).expand(1, 5, 4), u), 5)
    assert drawn.flatten().tolist() == [1, 1, 3, 3, 3]


def test_jitter_stays_in_the_bin_and_in_bounds() -> None:
    policy = make_policy(action_dim=1)
    x = inputs(1, 1).expand(1, 500, 4)
    u, jitter = torch.rand(2, 1, 500, 1, dtype=DOUBLE, generator=generator(2))
    plain = policy.sample(x, u)
    jittered = policy.sample(x, u, jitter)
    assert float((jittered - plain).abs().max()) <= 0.01 + 1e-12
    assert float(jittered.abs().max()) <= 1.0
    assert torch.equal(policy.sample(x, u, torch.full_like(u, 0.5)), plain)


# Members


@pytest.mark.parametrize("reading", READINGS)
def test_members_have_a_kernel_and_weights_of_their_own(reading: str) -> None:
    widths = (0.02, 0.08)
    both, x = make_policy(reading, widths, hidden=(5,)), inputs(2, 6)
    action = 2 * torch.rand(2, 6, 2, dtype=DOUBLE, generator=generator()) - 1
    for place, width in enumerate(widths):
        alone = make_policy(reading, (width,), hidden=(5,))
        with torch.no_grad():
            for mine, shared in zip(alone.parameters(), both.parameters(), strict=True):
                mine.copy_(shared[place : place + 1])
        own = slice(place, place + 1)
        torch.testing.assert_close(both.nll(x, action)[own], alone.nll(x[own], action[own]))


@pytest.mark.parametrize("kind", ["fan_in_uniform", "orthogonal"])
def test_starting_weights_follow_seed_and_name_not_place(kind: str) -> None:
    def first(seeds: list[int], name: str) -> Tensor:
        return Init(seeds, name, kind, DOUBLE).linear(6, 4)[0]

    weight = first([3, 5], "value")
    assert torch.equal(weight[1], first([5], "value")[0])
    assert not torch.equal(weight[0], weight[1])
    assert not torch.equal(weight[0], first([3], "policy")[0])
    if kind == "fan_in_uniform":
        assert float(weight.abs().max()) <= 6**-0.5
    else:
        gram = weight[0].T @ weight[0]
        torch.testing.assert_close(gram, 2 * torch.eye(4, dtype=DOUBLE), rtol=0, atol=2e-6)


def test_bfloat16_products_keep_float32_parameters() -> None:
    init = Init([0, 1], "net", "fan_in_uniform", torch.float32)
    half = Linear(init, 8, 3, True)
    x = torch.randn(2, 5, 8, generator=generator())
    found = half(x)
    assert found.dtype == half.weight.dtype == torch.float32
    # bfloat16 has 8 bits of mantissa
    torch.testing.assert_close(found, torch.bmm(x, half.weight) + half.bias, rtol=0.05, atol=0.03)
