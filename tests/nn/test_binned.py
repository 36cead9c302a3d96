"""The binned action head: properties that follow from its definition."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from fastifo import losses
from fastifo.nn.binned import BinnedPolicy
from fastifo.nn.mlp import MLP, Init

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
    """One member per kernel width; the large weights make peaked distributions."""
    init = Init(range(len(widths)), "policy", "fan_in_uniform", DOUBLE)
    body = MLP(init, [inputs, *hidden, action_dim * num_bins], "relu")
    with torch.no_grad():
        for parameter in body.layers[-1].parameters():
            parameter.mul_(gain)
    return BinnedPolicy(body, action_dim, num_bins, widths, reading)


def inputs(members: int, rows: int, width: int = 4) -> Tensor:
    return torch.randn(members, rows, width, dtype=DOUBLE, generator=generator(1))


@pytest.mark.parametrize("reading", READINGS)
def test_probabilities_sum_to_one(reading: str) -> None:
    policy = make_policy(reading, (0.02, 0.08), hidden=(6,))
    total = policy.log_probs(inputs(2, 7)).exp().sum(-1)
    assert total.shape == (2, 7, 2)
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("reading", READINGS)
def test_a_constant_added_to_the_logits_changes_nothing(reading: str) -> None:
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
    (gradient,) = torch.autograd.grad(policy.nll(x, action).sum(), [bias])
    p = policy.log_probs(x).exp()[0, 0]
    one_hot = torch.nn.functional.one_hot(losses.encode_action(action, 101)[0, 0], 101)
    expected = (p - one_hot) @ policy.kernel[0]  # rows of G^T (p - onehot)
    torch.testing.assert_close(gradient.view(2, 101), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reading", READINGS)
def test_gradients_agree_with_finite_differences(reading: str) -> None:
    policy = make_policy(reading, (0.3,), num_bins=7, gain=1.0)
    x, action = inputs(1, 3), 2 * torch.rand(1, 3, 2, dtype=DOUBLE, generator=generator()) - 1
    weight = policy.body.layers[-1].get_parameter("weight")

    def loss(value: Tensor) -> Any:
        return torch.func.functional_call(policy, {"body.layers.0.weight": value}, (x, action))

    policy.forward = policy.nll
    assert torch.autograd.gradcheck(loss, weight.detach().clone().requires_grad_())


def test_the_likelihood_factorises_over_action_dimensions() -> None:
    policy, x = make_policy(), inputs(1, 6)
    action = 2 * torch.rand(1, 6, 2, dtype=DOUBLE, generator=generator()) - 1
    logp, index = policy.log_probs(x), losses.encode_action(action, 101)
    expected = [
        -sum(float(logp[0, b, a, index[0, b, a]].detach()) for a in range(2)) for b in range(6)
    ]
    assert policy.nll(x, action)[0].tolist() == pytest.approx(expected, rel=1e-12)


def test_soft_targets_use_the_exact_action_not_its_bin() -> None:
    policy, x = make_policy("targets"), inputs(1, 1)
    here = torch.full((1, 1, 2), 0.501, dtype=DOUBLE)
    same_bin = torch.full((1, 1, 2), 0.509, dtype=DOUBLE)
    assert torch.equal(losses.encode_action(here, 101), losses.encode_action(same_bin, 101))
    assert not torch.equal(policy.nll(x, here), policy.nll(x, same_bin))
    centre = torch.linspace(-1, 1, 101, dtype=DOUBLE)
    q = torch.exp(-((0.501 - centre) ** 2) / (2 * 0.04**2))
    expected = -(q / q.sum() * policy.log_probs(x)).sum()
    torch.testing.assert_close(policy.nll(x, here).squeeze(), expected)


def test_smoothed_probabilities_are_a_mixture_of_gaussians() -> None:
    policy, x = make_policy("probs"), inputs(1, 3)
    raw = policy.body(x).view(3, 2, 101)
    expected = torch.einsum("km,bak->bam", policy.kernel[0], raw.softmax(-1))
    torch.testing.assert_close(policy.log_probs(x)[0].exp(), expected)


def one_hot_policy(index: int, value: float = 5.0) -> BinnedPolicy:
    """Its logits are 0 except for one bin, for every input."""
    policy = make_policy(action_dim=1)
    with torch.no_grad():
        for parameter in policy.body.layers[-1].parameters():
            parameter.zero_()
        policy.body.layers[-1].get_parameter("bias")[..., index] = value
    return policy


@pytest.mark.parametrize("index", [10, 50, 90])
def test_a_one_hot_interior_bin_stays_the_most_likely(index: int) -> None:
    mode = one_hot_policy(index).mode(inputs(1, 2))
    assert mode.flatten().tolist() == pytest.approx([index * 0.02 - 1] * 2)


def test_the_mode_is_the_lowest_of_equally_likely_bins() -> None:
    assert one_hot_policy(50, value=0.0).mode(inputs(1, 1)).item() == -1.0


def test_the_mode_is_the_most_likely_bin_of_each_dimension() -> None:
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
    counts = torch.bincount(losses.encode_action(action, 11).flatten(), minlength=11)
    expected = policy.log_probs(x).exp().flatten().detach() * count
    assert float(expected.min()) > 5
    # 10 degrees of freedom; 35.6 is exceeded once in ten thousand
    assert float(((counts - expected) ** 2 / expected).sum()) < 35.6


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


def test_a_bin_of_probability_0_is_never_drawn() -> None:
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


@pytest.mark.parametrize("reading", READINGS)
def test_each_member_has_its_kernel_and_weights(reading: str) -> None:
    widths = (0.02, 0.08)
    both, x = make_policy(reading, widths, hidden=(5,)), inputs(2, 6)
    action = 2 * torch.rand(2, 6, 2, dtype=DOUBLE, generator=generator()) - 1
    for member, width in enumerate(widths):
        single = make_policy(reading, (width,), hidden=(5,))
        with torch.no_grad():
            for target, source in zip(single.parameters(), both.parameters(), strict=True):
                target.copy_(source[member : member + 1])
        rows = slice(member, member + 1)
        torch.testing.assert_close(both.nll(x, action)[rows], single.nll(x[rows], action[rows]))


def test_vanishing_probabilities_have_a_finite_gradient() -> None:
    init = Init([0], "policy", "fan_in_uniform", torch.float32)
    body = MLP(init, [3, 101], "relu")
    policy = BinnedPolicy(body, 1, 101, [0.04], "probs")
    with torch.no_grad():
        body.layers[-1].get_parameter("bias")[0, 0, 0] = 500.0
    loss = policy.nll(torch.zeros(1, 1, 3), torch.ones(1, 1, 1)).sum()
    loss.backward()
    assert torch.isfinite(loss)
    gradients = [p.grad for p in body.parameters() if p.grad is not None]
    assert len(gradients) == 2
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
