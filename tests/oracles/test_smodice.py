"""The SMODICE oracle equals values worked out by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from . import bc, parts, smodice
from .problems import (
    SCALES,
    chain_nets,
    column,
    make_config,
    net_close,
    random_batches,
    random_layers,
    random_nets,
    table,
    transitions,
)


def smodice_config(**changed: Any) -> dict[str, Any]:
    config = make_config() | {
        "divergence": "kl",
        "normalizes": False,
        "logit_clamp": math.inf,
        "value_weight_decay": 0.0,
        "entropy_constraint": False,
        "gradient_penalty": 0.0,
    }
    return config | changed


def smodice_batches(count: int, terminals: bool = True) -> list[dict[str, Any]]:
    batches = random_batches(count)
    for batch, other in zip(batches, random_batches(count, seed=6), strict=True):
        batch["initial"] = other["background"]["obs"]
        if not terminals:
            batch["background"]["terminal"] = torch.zeros(8, dtype=torch.float64)
    return batches


def raised(layers: list[tuple[Tensor, Tensor]], shift: float) -> list[tuple[Tensor, Tensor]]:
    weight, bias = layers[-1]
    return [*layers[:-1], (weight, bias + shift)]


def test_kl_dual_is_invariant_to_a_constant_without_terminals() -> None:
    config = smodice_config(normalizes=True)
    nets = random_nets(config)
    other = nets | {"value": raised(nets["value"], 40.0)}
    batches = smodice_batches(3, terminals=False)
    (after, plain), (same, shifted) = (smodice.run(n, batches, config) for n in (nets, other))
    for actual, reference in zip(shifted, plain, strict=True):
        assert actual == pytest.approx(reference, rel=1e-10)
    assert net_close(same["policy"], after["policy"], tolerance=1e-9)
    batches = smodice_batches(1)
    losses = [smodice.run(n, batches, config)[1][0]["value_loss"] for n in (nets, other)]
    assert abs(losses[0] - losses[1]) > 1


def test_kl_optimum_satisfies_the_flow_equation() -> None:
    config = smodice_config(gamma=0.9, normalizes=True)
    pairs = [(0, 1), (0, 2), (1, 2), (1, 0), (2, 0), (2, 2), (0, 1)]
    rows = transitions(pairs)
    reward = column([0.5, -1.0, 0.3])[[s for s, _ in pairs]]
    initial = torch.eye(3, dtype=torch.float64)[[0, 0, 1, 2]]
    value = parts.MLP(table([[0.0]] * 3), config)
    optimizer = torch.optim.LBFGS(
        value.parameters(), max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10
    )

    def closure() -> float:
        optimizer.zero_grad()
        delta = smodice.residual(rows, reward, value, config)
        loss = smodice.dual_loss(value.scalar(initial), delta, config)
        torch.autograd.backward(loss)
        return loss.item()

    optimizer.step(closure)
    with torch.no_grad():
        xi = smodice.ratio(smodice.residual(rows, reward, value, config), config) / len(pairs)
    assert xi.std() > 0.01
    for state, share in enumerate([0.5, 0.25, 0.25]):
        leaves = sum(x.item() for x, (s, _) in zip(xi, pairs, strict=True) if s == state)
        enters = sum(x.item() for x, (_, s) in zip(xi, pairs, strict=True) if s == state)
        assert leaves == pytest.approx(0.1 * share + 0.9 * enters, abs=1e-6)


@pytest.mark.parametrize("divergence", ["kl", "chi2"])
def test_no_reward_on_consistent_data_is_cloning(divergence: str) -> None:
    config = smodice_config(divergence=divergence)
    nets = chain_nets([0.0, 0.0, 0.0]) | {"discriminator": table([[0.0]] * 3)}
    cycle = transitions([(0, 1), (1, 2), (2, 0)])
    batch = {"background": cycle, "initial": cycle["obs"]}
    after, history = smodice.run(nets, [batch] * 3, config)
    # A zero gradient of 1e-17 moves a weight by at most 3e-4 * 1e-17 / 1e-8.
    assert net_close(after["value"], nets["value"], tolerance=1e-11)
    assert net_close(after["policy"], bc.run(nets, [batch] * 3, config)[0]["policy"], 1e-9)
    assert history[2]["weight_mean"] == pytest.approx(1.0, abs=1e-10)


def test_chi2_weights_and_loss_terms() -> None:
    config = smodice_config(divergence="chi2", max_weight=1.9)
    delta = column([-2.0, -1.0, 0.0, 1.0])
    assert smodice.ratio(delta, config).tolist() == [0.0, 0.0, 1.0, 1.9]
    terms = [smodice.dual_loss(column([0.0]), d[None], config).item() for d in delta]
    assert terms == [0.0, -0.5, 0.0, 1.5]
    normalised = smodice.ratio(delta, config | {"normalizes": True, "max_weight": 2.0})
    assert normalised.tolist() == pytest.approx([0.0, 0.0, 4 / 3, 2.0])
    assert smodice.ratio(column([-3.0, -2.0]), config | {"normalizes": True}).tolist() == [0, 0]


def test_kl_weights_are_normalised_before_they_are_capped() -> None:
    delta = column([math.log(x) for x in (1.0, 2.0, 9.0)])
    config = smodice_config(max_weight=2.0)
    assert smodice.ratio(delta, config).tolist() == pytest.approx([1.0, 2.0, 2.0])
    config["normalizes"] = True
    assert smodice.ratio(delta + 500, config).tolist() == pytest.approx([0.25, 0.5, 2.0])


def test_dual_gradient_reaches_both_values() -> None:
    config = smodice_config(gamma=0.9)
    rows = transitions([(0, 1), (0, 1), (2, 2)]) | {"terminal": column([0.0, 1.0, 0.0])}
    value = parts.MLP(table([[0.2], [0.7], [-0.1]]), config)
    delta = smodice.residual(rows, column([0.5, 0.1, 0.0]), value, config)
    # The terminal row bootstraps 0.1 / (1 - 0.9).
    assert delta.tolist() == pytest.approx([0.5 + 0.63 - 0.2, 1.0 - 0.2, -0.09 + 0.1])
    torch.autograd.backward(smodice.dual_loss(value.scalar(rows["obs"][2:]), delta, config))
    p = torch.softmax(delta.detach(), dim=0).tolist()
    gradient = next(value.parameters()).grad
    assert gradient is not None
    expected = [-p[0] - p[1], 0.9 * p[0], 0.1 - 0.1 * p[2]]
    assert gradient[0].tolist() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize(("absorbing", "loss"), [(True, 2.0 / 0.01), (False, 2.0)])
def test_reward_is_the_clamped_logit_of_the_current_state(absorbing: bool, loss: float) -> None:
    config = smodice_config(absorbing=absorbing, logit_clamp=2.0)
    nets = chain_nets([0.0, 5.0, 0.0]) | {"discriminator": table([[7.0], [-3.0], [1.0]])}
    rows = transitions([(0, 1)], terminal=1.0)
    batch = {"background": rows, "initial": rows["obs"]}
    after, history = smodice.run(nets, [batch], config)
    assert history[0]["value_loss"] == pytest.approx(loss, rel=1e-12)
    assert net_close(after["discriminator"], nets["discriminator"], tolerance=0.0)


def test_value_has_an_additional_weight_decay() -> None:
    config = smodice_config(
        learning_rate=0.01, weight_decay=0.1, value_weight_decay=0.2, encoder_scales=()
    )
    nets = chain_nets([0.0, 0.0, 4.0]) | {"discriminator": table([[0.0]] * 3)}
    nets["policy"] = table([[0.0] * 3, [0.0] * 3, [3.0, 3.0, 3.0]])
    rows = transitions([(0, 1)])  # so s2 has no gradient
    batch = {"background": rows, "initial": rows["obs"]}
    after, _ = smodice.run(nets, [batch], config)
    assert after["value"][0][0][2, 0].item() == pytest.approx(4 * (1 - 0.01 * 0.3), rel=1e-14)
    assert after["policy"][0][0][2, 0].item() == pytest.approx(3 * (1 - 0.01 * 0.1), rel=1e-14)


def test_penalty_is_on_the_encoded_input() -> None:
    config = smodice_config(encoder_scales=SCALES, gradient_penalty=10.0)
    generator = torch.Generator().manual_seed(4)
    batch = random_batches(1)[0]
    batch["mix"] = torch.rand(8, dtype=torch.float64, generator=generator)
    linear = random_layers([15, 1], generator)
    plain = config | {"gradient_penalty": 0.0}
    with_penalty, without = (
        smodice.train_discriminator({"discriminator": linear}, [batch], c)[1][0]
        for c in (config, plain)
    )
    norm = linear[0][0].norm().item()
    assert with_penalty - without == pytest.approx(10 * (norm - 1) ** 2, rel=1e-10)


def test_penalty_norm_is_the_gradient_norm_at_the_interpolate() -> None:
    config = smodice_config(encoder_scales=(0.5, 1.0), activation="tanh")
    generator = torch.Generator().manual_seed(4)
    net = parts.MLP(random_layers([4, 5, 1], generator), config)
    expert, background = torch.randn(2, 3, 2, dtype=torch.float64, generator=generator)
    mix = column([0.0, 0.25, 0.9])
    norm = smodice.interpolated_gradient_norm(net, expert, background, mix)
    for row in range(3):
        u = mix[row]
        x = u * net.encode(expert)[row] + (1 - u) * net.encode(background)[row]
        step = 1e-5 * torch.eye(4, dtype=torch.float64)
        gradient = (net.on_encoded(x + step) - net.on_encoded(x - step)) / 2e-5
        assert norm[row].item() == pytest.approx(gradient.norm().item(), rel=1e-8)


def test_penalty_pulls_the_gradient_norm_to_one() -> None:
    config = smodice_config(gradient_penalty=1000.0, disc_learning_rate=0.05)
    ends = {"expert": transitions([(0, 0)]), "background": transitions([(2, 2)])}
    batch = {**ends, "mix": column([0.5])}
    nets = {"discriminator": table([[1.5], [0.0], [-1.5]])}
    after, _ = smodice.train_discriminator(nets, [batch] * 100, config)
    assert after["discriminator"][0][0].norm().item() == pytest.approx(1.0, abs=0.02)


def entropy_problem() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    config = smodice_config(entropy_constraint=True, policy_head="gaussian", learning_rate=0.1)
    layer = torch.zeros(3, 2, dtype=torch.float64), column([0.3, -0.5])
    nets = chain_nets([0.0, 0.0, 0.0]) | {"discriminator": table([[0.0]] * 3), "policy": [layer]}
    rows = transitions([(0, 1)])
    noise = column([1 - math.exp(-2.0), 1 / 6])[None]  # a radius of 2 and a cosine of 1/2
    batch = {"background": rows, "initial": rows["obs"], "policy_noise": noise}
    return config, nets, batch


def test_entropy_term_is_the_density_of_the_sampled_action() -> None:
    config, nets, batch = entropy_problem()
    _, history = smodice.run(nets, [batch], config)
    _, plain = smodice.run(nets, [batch], config | {"entropy_constraint": False})
    std = math.exp(-0.5)
    squashed = math.tanh(0.3 + std)
    log_pi = -0.5 + 0.5 - 0.5 * math.log(2 * math.pi) - math.log(1 - squashed**2 + 1e-6)
    difference = history[0]["policy_loss"] - plain[0]["policy_loss"]
    assert difference == pytest.approx(log_pi, rel=1e-12)


def test_entropy_coefficient_moves_against_the_constraint() -> None:
    config, nets, batch = entropy_problem()
    # log pi + target = 0.07 - 1 < 0: log alpha falls by the rate, e^-0.1 at the second update.
    after, _ = smodice.run(nets, [batch], config)
    _, history = smodice.run(nets, [batch] * 2, config)
    _, plain = smodice.run(nets | after, [batch], config | {"entropy_constraint": False})
    output = parts.MLP(after["policy"], config)(batch["background"]["obs"])
    log_pi = smodice.sampled_log_density(output, batch["policy_noise"], config).item()
    difference = history[1]["policy_loss"] - plain[0]["policy_loss"]
    assert difference == pytest.approx(math.exp(-0.1) * log_pi, abs=1e-7)


def test_sampled_density_has_the_reparameterised_gradient() -> None:
    config, _, batch = entropy_problem()
    output = column([0.3, -0.5])[None].requires_grad_()
    log_pi = smodice.sampled_log_density(output, batch["policy_noise"], config)
    torch.autograd.backward(log_pi.sum())
    std = math.exp(-0.5)
    squashed = math.tanh(0.3 + std)
    gradient = 2 * squashed * (1 - squashed**2) / (1 - squashed**2 + 1e-6)
    assert output.grad is not None
    assert output.grad[0].tolist() == pytest.approx([gradient, gradient * std - 1], rel=1e-10)
