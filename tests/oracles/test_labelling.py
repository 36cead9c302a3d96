"""The SQIL, ORIL and BCO oracles equal simpler oracles in their limits."""

import math
from typing import Any

import pytest
import torch

from . import awr, bc, bco, oril, sqil, vfo
from .problems import (
    SCALES,
    chain_nets,
    column,
    make_config,
    net_close,
    random_batches,
    random_layers,
    random_nets,
    transitions,
)


def privileged(count: int) -> list[dict[str, Any]]:
    """Batches whose expert rows have actions: the background's of another batch."""
    batches = random_batches(count)
    for batch, other in zip(batches, random_batches(count, seed=5), strict=True):
        batch["expert"]["action"] = other["background"]["action"]
    return batches


# SQIL.


def test_sqil_without_the_experts_policy_share_is_vfo_bin() -> None:
    config = make_config(encoder_scales=SCALES, max_weight=100.0) | {"policy_alpha": 1.0}
    nets, batches = random_nets(config), privileged(4)
    after, history = sqil.run(nets, batches, config)
    same, expected = vfo.run_bin(nets, batches, config)
    for name in ("policy", "value"):
        assert net_close(after[name], same[name], tolerance=1e-9)
    for actual, reference in zip(history, expected, strict=True):
        assert actual == pytest.approx({name: reference[name] for name in actual}, rel=1e-10)
    assert set(history[0]) == {"value_loss", "policy_loss"}


def test_sqil_with_alpha_one_is_cloning_of_the_background() -> None:
    config = make_config(alpha=1.0) | {"policy_alpha": -1.0}
    nets = chain_nets([0.0, 0.0, 0.0])
    batch = {"expert": transitions([(0, 1), (1, 1)]), "background": transitions([(0, 2), (2, 2)])}
    after, _ = sqil.run(nets, [batch] * 3, config)
    assert net_close(after["value"], nets["value"], tolerance=0.0)
    assert net_close(after["policy"], bc.run(nets, [batch] * 3, config)[0]["policy"])


def test_sqil_rewards_the_expert_and_mixes_by_the_policys_alpha() -> None:
    batch = {"expert": transitions([(0, 1)]), "background": transitions([(2, 1)])}
    nets = chain_nets([0.0, 0.0, 0.0])
    losses = []
    for policy_alpha in (0.0, 1.0, 0.3, -1.0):
        config = make_config(alpha=0.3, temperature=0.5) | {"policy_alpha": policy_alpha}
        losses.append(sqil.run(nets, [batch], config)[1][0]["policy_loss"])
    # v is 0, so A is 1 on the expert's row and 0 on the other; the logits are those of chain_nets.
    partition = [math.exp(0.3 * s) + math.exp(-0.2) + math.exp(0.1) for s in (0, 2)]
    nll = [math.log(partition[0]), math.log(partition[1]) - 0.6]
    assert losses[:2] == pytest.approx([math.exp(2) * nll[0], nll[1]], rel=1e-12)
    assert losses[2] == pytest.approx(0.7 * losses[0] + 0.3 * losses[1], rel=1e-12)
    assert losses[3] == losses[2]


# ORIL.


def test_oril_is_vfo_disc_on_background_rows_with_the_current_states_reward() -> None:
    config = make_config(alpha=1.0, disc_reward_at="current", target_period=2)
    nets, batches = random_nets(config), random_batches(4)
    expected, _ = vfo.run_disc(nets, batches, config)
    for batch in batches:
        del batch["expert"]
        batch["background"]["reward"] = torch.full((8,), math.nan, dtype=torch.float64)
    after, history = oril.run(nets, batches, config)
    for name in ("policy", "value", "discriminator"):
        assert net_close(after[name], expected[name], tolerance=1e-9)
    assert len(history) == 4


def test_oril_is_awr_on_labelled_rows() -> None:
    config = make_config() | {"disc_activation": "tanh"}
    nets, batches = random_nets(config), random_batches(3)
    (w0, b0), (w1, b1), (w2, b2) = nets["discriminator"]
    after, _ = oril.run(nets, batches, config)
    for batch in batches:
        hidden = torch.tanh(torch.tanh(batch["background"]["obs"] @ w0 + b0) @ w1 + b1)
        batch["background"]["reward"] = torch.sigmoid(hidden @ w2 + b2)[:, 0]
    assert net_close(after["value"], awr.run(nets, batches, config)[0]["value"], tolerance=1e-9)


# BCO.


def invertible(size: int, seed: int) -> dict[str, torch.Tensor]:
    """Transitions of s' = s + 0.1 a in one dimension."""
    generator = torch.Generator().manual_seed(seed)
    drawn = 2 * torch.rand(2, size, 1, dtype=torch.float64, generator=generator) - 1
    obs, action = 0.1 * drawn[0], drawn[1]
    return {"obs": obs, "next_obs": obs + 0.1 * action, "action": action}


@pytest.mark.parametrize(
    ("head", "width", "rate"),
    [("binned", 11, 1.0), ("deterministic", 1, 1.0), ("gaussian", 2, 0.2)],
)
def test_inverse_dynamics_are_recovered_within_one_bin(head: str, width: int, rate: float) -> None:
    config = make_config(num_bins=11, learning_rate=rate) | {"policy_head": head}
    zero = torch.zeros(2, width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    batch = {"background": invertible(256, seed=0)}
    nets, losses = bco.train_inverse({"inverse": [zero]}, [batch] * 150, config)
    assert losses[-1] < losses[0]
    rows = invertible(100, seed=1)
    actions = bco.label(nets, rows["obs"], rows["next_obs"], config)
    # One bin of 0.2 beyond the nearest.
    assert (actions - rows["action"]).abs().max() < 0.3
    if head == "binned":
        assert (
            torch.isin(actions, torch.arange(11, dtype=torch.float64) / 5 - 1).float().mean() > 0.5
        )


def test_bco_clones_both_halves_with_equal_weight() -> None:
    config = make_config()
    nets, batches = random_nets(config), privileged(3)
    merged = [
        {
            "background": {
                name: torch.cat([batch["background"][name], batch["expert"][name]])
                for name in ("obs", "action")
            }
        }
        for batch in batches
    ]
    after, history = bco.run(nets, batches, config)
    same, expected = bc.run(nets, merged, config)
    assert net_close(after["policy"], same["policy"], tolerance=1e-12)
    assert history == expected
    halves = [
        bc.run(nets, [{"background": batches[0][part]}], config)[1][0]["policy_loss"]
        for part in ("background", "expert")
    ]
    assert history[0]["policy_loss"] == pytest.approx(sum(halves) / 2, rel=1e-12)


def test_inverse_net_reads_only_the_background_and_does_not_change_the_policy() -> None:
    config = make_config(encoder_scales=SCALES)
    nets = random_nets(config)
    nets["inverse"] = random_layers([30, 8, 6], torch.Generator().manual_seed(2))
    batches = random_batches(2)
    after, losses = bco.train_inverse(nets, batches, config)
    for batch in batches:
        del batch["expert"]
    again, _ = bco.train_inverse(nets, batches, config)
    assert net_close(after["inverse"], again["inverse"], tolerance=0.0)
    assert net_close(after["policy"], nets["policy"], tolerance=0.0)
    assert len(losses) == 2
    assert bco.label(after, column([0.1, 0.2, 0.3])[None], column([0.0, 0.0, 0.0])[None], config)[
        0
    ].shape == (2,)
