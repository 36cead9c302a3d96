"""Starting weights, and numbers at the edge of a precision."""

import torch
from torch import Tensor

from fastifo.nn.binned import BinnedPolicy
from fastifo.nn.mlp import MLP, Init, ScalarNet

DOUBLE = torch.float64


def test_starting_weights_follow_the_seed_and_the_net_and_nothing_else() -> None:
    def start(seeds: list[int], name: str) -> Tensor:
        return Init(seeds, name, "fan_in_uniform", DOUBLE).linear(3, 4)[0]

    assert torch.equal(start([0, 5], "value")[1], start([5], "value")[0])
    found = [
        start([seed], name) for seed in (0, 1, 2**31, 2**32 - 1) for name in ("value", "policy")
    ]
    assert len({float(weight[0, 0, 0]) for weight in found}) == 8


def test_a_value_in_bfloat16_keeps_float32_resolution() -> None:
    init = Init([0], "value", "fan_in_uniform", torch.float32)
    net = ScalarNet(init, [3, 64, 1], "relu", bf16=True)
    with torch.no_grad():
        net.layers[-1].get_parameter("bias").fill_(90.0)
    found = net(torch.randn(1, 500, 3))
    assert len(found.unique()) > 400  # bfloat16 has a step of 0.5 here


def test_probabilities_that_vanish_leave_a_finite_gradient() -> None:
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
