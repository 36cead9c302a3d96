"""Actions of a `PolicyBatch` in compiled code, compared with each policy's members in torch."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.runs import train
from fastifo import _C
from fastifo.envs.act import PolicyBatch, SamplingStep, batch_key
from fastifo.envs.policy import Policy
from helpers import random_dataset

ROWS = (1, 63, 0, 64, 65, 130)  # per policy
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


def rows() -> tuple[Tensor, Any, Any]:
    g = torch.Generator().manual_seed(3)
    obs = torch.randn(sum(ROWS), 3, generator=g)
    episode = torch.randint(EPISODES, (sum(ROWS),), generator=g).numpy()
    return obs, np.cumsum([0, *ROWS]), episode


def one_by_one(members: list[Policy], deterministic: bool) -> Tensor:
    obs, first, episode = rows()
    actions = []
    for policy, begin, end in zip(members, first, first[1:], strict=False):
        noise = None if deterministic else policy.noise(STREAM, STEP, EPISODES)
        row_noise = None if noise is None else noise[episode[begin:end]]
        actions.append(policy.act_rows(obs[begin:end], row_noise))
    return torch.cat(actions)


def together(members: list[Policy], deterministic: bool) -> Tensor:
    return PolicyBatch(members).act(
        *rows(), SamplingStep(STREAM, STEP, 0 if deterministic else EPISODES)
    )


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("fields", SETS, ids=str)
def test_actions_in_double_precision_equal_those_of_each_policy(
    fields: dict[str, Any], deterministic: bool
) -> None:
    members = policies("fp64", fields)
    assert torch.equal(together(members, deterministic), one_by_one(members, deterministic))


@pytest.mark.parametrize("isa", _C.isas)
@pytest.mark.parametrize("deterministic", [False, True])
def test_actions_in_single_precision_differ_only_at_ties(
    isa: str, deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_C, "isas", (isa,))
    for fields in SETS:
        members = policies("fp32", fields)
        actions, expected = together(members, deterministic), one_by_one(members, deterministic)
        assert float((actions != expected).double().mean()) < 5e-3


@pytest.mark.parametrize(("precision", "tolerance"), [("fp64", 1e-7), ("fp32", 1e-6)])
def test_deterministic_policies_act_together_with_others(precision: str, tolerance: float) -> None:
    fields: dict[str, Any] = {"policy_head": "deterministic", "hidden_sizes": (33, 20)}
    members = [*policies(precision, fields)[:4], *policies(precision, SETS[1])[4:]]
    assert all(batch_key(member) == batch_key(members[0]) for member in members)
    for deterministic in (False, True):
        actions, expected = together(members, deterministic), one_by_one(members, deterministic)
        close = (actions - expected).abs() <= tolerance  # bins may differ at ties
        assert float((~close).double().mean()) < 5e-3
        assert bool(close[: sum(ROWS[:4])].all())


def test_policies_of_different_shapes_act_together() -> None:
    members = [*policies("fp64", SETS[0])[:3], *policies("fp64", SETS[2])[3:]]
    assert torch.equal(together(members, False), one_by_one(members, False))


def test_an_action_has_the_same_bits_for_one_row_for_all_rows_and_in_parts() -> None:
    members = policies("fp32", {})
    batch, (obs, first, episode) = PolicyBatch(members), rows()
    sampling = SamplingStep(STREAM, STEP, EPISODES)
    whole = batch.act(obs, first, episode, sampling)
    jobs = batch.jobs(obs, first, episode, sampling)
    assert len(jobs) > 1
    assert torch.equal(torch.cat([job() for job in jobs]), whole)
    for row in (0, 5, 130, 322):
        bounds = first.clip(row, row + 1) - row
        single = batch.act(obs[row : row + 1], bounds, episode[row : row + 1], sampling)
        assert torch.equal(single[0], whole[row])


def test_actions_are_within_the_environments_bounds() -> None:
    low, high = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 0.5])
    members = [Policy(p.learner, 0, low, high) for p in policies("fp64", {})]
    actions = together(members, False)
    assert torch.equal(actions, one_by_one(members, False))
    assert bool(((actions >= low) & (actions <= high)).all())


def test_a_learner_with_an_absorbing_indicator_acts_in_a_batch_too() -> None:
    run = train(
        "smodice", random_dataset(), 10, absorbing_indicator=True, seeds=range(6), precision="fp64"
    )
    members = [run.policy(member) for member in range(6)]
    assert batch_key(members[0]) is not None
    assert torch.equal(together(members, True), one_by_one(members, True))


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_policies_trained_in_bfloat16_act_in_single_precision(engine: str) -> None:
    fields = {"engine": engine, "policy_head": "deterministic"}
    members, exact = policies("bf16", fields), policies("bf16", fields)
    single = train("bc", random_dataset(), 2, policy_head="deterministic").policy()
    assert batch_key(members[0]) == batch_key(single) is not None
    for policy in exact:
        policy.learner = policy.learner.member(0, "fp64")
    expected = one_by_one(exact, True)
    for act in (together, one_by_one):
        torch.testing.assert_close(act(members, True), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "fields",
    [
        {"policy_head": "gaussian"},
        {"activation": "elu"},
        {"kernel_reading": "probs"},
        {"action_jitter": True},
        {"fused": False},
    ],
    ids=str,
)
def test_other_policies_cannot_join_a_batch(fields: dict[str, Any]) -> None:
    run = train("bc", random_dataset(), 2, **fields)
    assert batch_key(run.policy()) is None
    assert batch_key(train("bc", random_dataset(), 2).policy()) is not None
