"""Compiled actions of many policies against the policies' own."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.runs import train
from fastifo import _C
from fastifo.envs.act import Crowd, kind_of
from fastifo.envs.policy import Policy
from helpers import random_dataset

ROWS = (1, 63, 0, 64, 65, 130)  # of each policy
STREAM, STEP, EPISODES = 77, 12, 140
SETS: list[dict[str, Any]] = [
    {},
    {"hidden_sizes": (), "num_bins": 2, "encoder_scales": ()},
    {"hidden_sizes": (33, 20, 5), "standardize_obs": True, "num_bins": 101},
    {"hidden_sizes": (1, 9), "num_bins": 5},
    {"kernel_reading": "none", "num_bins": 17},
    {"kernel_width": [0.02, 0.3]},
]


def policies(precision: str, fields: dict[str, Any]) -> list[Policy]:
    count = len(ROWS) // max(1, len(fields.get("kernel_width", [])))
    run = train("bc", random_dataset(), 20, precision=precision, seeds=range(count), **fields)
    return [run.policy(member) for member in range(len(ROWS))]


def batch() -> tuple[Tensor, Any, Any]:
    g = torch.Generator().manual_seed(3)
    obs = torch.randn(sum(ROWS), 3, generator=g)
    episode = torch.randint(EPISODES, (sum(ROWS),), generator=g).numpy()
    return obs, np.cumsum([0, *ROWS]), episode


def by_policies(own: list[Policy], deterministic: bool) -> Tensor:
    obs, first, episode = batch()
    found = []
    for policy, begin, end in zip(own, first, first[1:], strict=False):
        noise = None if deterministic else policy.noise(STREAM, STEP, EPISODES)
        rows = None if noise is None else noise[episode[begin:end]]
        found.append(policy.act_rows(obs[begin:end], rows))
    return torch.cat(found)


def together(own: list[Policy], deterministic: bool) -> Tensor:
    return Crowd(own).act(*batch(), (STREAM, STEP, 0 if deterministic else EPISODES))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("fields", SETS, ids=str)
def test_actions_in_double_equal_the_policies(fields: dict[str, Any], deterministic: bool) -> None:
    own = policies("fp64", fields)
    assert torch.equal(together(own, deterministic), by_policies(own, deterministic))


@pytest.mark.parametrize("isa", _C.isas)
@pytest.mark.parametrize("deterministic", [False, True])
def test_actions_in_single_precision_differ_at_ties_alone(
    isa: str, deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_C, "isas", (isa,))
    for fields in SETS:
        own = policies("fp32", fields)
        found, expected = together(own, deterministic), by_policies(own, deterministic)
        assert float((found != expected).double().mean()) < 5e-3


def test_policies_of_different_shapes_act_together() -> None:
    own = [*policies("fp64", SETS[0])[:3], *policies("fp64", SETS[2])[3:]]
    assert torch.equal(together(own, False), by_policies(own, False))


def test_an_action_has_the_same_bits_alone_and_in_parts() -> None:
    own = policies("fp32", {})
    crowd, (obs, first, episode) = Crowd(own), batch()
    draws = STREAM, STEP, EPISODES
    whole = crowd.act(obs, first, episode, draws)
    jobs = crowd.jobs(obs, first, episode, draws)
    assert len(jobs) > 1
    assert torch.equal(torch.cat([job() for job in jobs]), whole)
    for row in (0, 5, 130, 322):
        bounds = first.clip(row, row + 1) - row
        alone = crowd.act(obs[row : row + 1], bounds, episode[row : row + 1], draws)
        assert torch.equal(alone[0], whole[row])


def test_actions_are_in_the_environments_bounds() -> None:
    low, high = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 0.5])
    own = [Policy(p.learner, 0, low, high) for p in policies("fp64", {})]
    found = together(own, False)
    assert torch.equal(found, by_policies(own, False))
    assert bool(((found >= low) & (found <= high)).all())


def test_a_learner_that_sees_one_number_more_acts_too() -> None:
    run = train(
        "smodice", random_dataset(), 10, absorbing_indicator=True, seeds=range(6), precision="fp64"
    )
    own = [run.policy(member) for member in range(6)]
    assert kind_of(own[0]) is not None
    assert torch.equal(together(own, True), by_policies(own, True))


@pytest.mark.parametrize(
    "fields",
    [
        {"policy_head": "gaussian"},
        {"activation": "elu"},
        {"precision": "bf16"},
        {"kernel_reading": "probs"},
        {"action_jitter": True},
        {"fused": False},
    ],
    ids=str,
)
def test_other_policies_act_by_themselves(fields: dict[str, Any]) -> None:
    run = train("bc", random_dataset(), 2, **fields)
    assert kind_of(run.policy()) is None
    assert kind_of(train("bc", random_dataset(), 2).policy()) is not None
