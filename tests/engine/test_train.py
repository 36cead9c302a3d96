"""Training: members, populations, what data can change, logs."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import fastifo
from engine.runs import ALL, NATIVE, assert_equal_bits, train
from fastifo.algos import ALGORITHMS
from helpers import make_learner, make_sampler, random_dataset, run_updates

SWEPT = (
    "temperature",
    "inverse_temperature",
    "max_weight",
    "kernel_width",
)  # the first that exists


@pytest.mark.parametrize("name", ALL)
def test_three_members_equal_three_single_runs(name: str) -> None:
    fields: dict[str, Any] = {"learning_rate": [1e-3, 3e-4], "precision": "fp64"}
    swept = next(x for x in SWEPT if x in vars(ALGORITHMS[name].Config()))
    fields[swept] = [0.5, 2.0]
    together = train(name, random_dataset(), seeds=[3, 5], **fields)
    assert len(together.learners) == 1
    for index, member in enumerate(together.members):
        values = {k: getattr(member.config, k) for k in fields if k != "precision"}
        single = train(name, random_dataset(), seeds=[member.seed], precision="fp64", **values)
        pairs = zip(together.learners[0].parameters(), single.learners[0].parameters(), strict=True)
        for actual, expected in pairs:
            # Sums in another order differ by float64 rounding, which Adam amplifies.
            torch.testing.assert_close(actual[index], expected[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        *(
            (name, {"gamma": [0.9, 0.5]})
            for name in ALL
            if hasattr(ALGORITHMS[name].Config(), "gamma")
        ),
        *((name, {"alpha": [0.2, 0.7]}) for name in ("vfo_bin", "vfo_disc", "sqil")),
        ("sqil", {"policy_alpha": [0.2, 0.7]}),
        ("smodice", {"logit_clamp": [0.05, 1.0]}),
        ("lobsdice", {"kl_weight": [0.0, 2.0]}),
        ("pw_dice", {"temperature": [0.1, 2.0]}),
        ("pw_dice", {"preset": "orig", "embedding_gradient_clip": [1e-3, 1.0]}),
        ("lobsdice", {"preset": "orig", "value_gradient_penalty": [1e-4, 1.0]}),
        ("dilo", {"beta": [0.2, 0.7]}),
        ("iql", {"expectile": [0.6, 0.9]}),
        ("iql", {"preset": "jax", "expectile": [0.6, 0.9]}),
        ("bc", {"preset": "orig", "learning_rate": [1e-3, 3e-4]}),
        ("bco", {"preset": "orig", "learning_rate": [1e-3, 3e-4]}),
        # A last bias of 0 has gradients of pure rounding, which Adam amplifies: not Xavier's start.
        (
            "smodice",
            {"preset": "orig", "init": "fan_in_uniform", "value_weight_decay": [1e-4, 0.3]},
        ),
        ("dilo", {"preset": "orig", "backward_share": [0.3, 0.9]}),
    ],
    ids=str,
)
@pytest.mark.slow
def test_every_float_field_may_differ_between_members(name: str, fields: dict[str, Any]) -> None:
    together = train(name, random_dataset(), 10, seeds=[3, 5], precision="fp64", **fields)
    (swept,) = fields.keys() - {"preset", "init"}
    for index, member in enumerate(together.members):
        values = fields | {swept: getattr(member.config, swept), "seeds": [member.seed]}
        single = train(name, random_dataset(), 10, precision="fp64", **values)
        pairs = zip(together.learners[0].parameters(), single.learners[0].parameters(), strict=True)
        for actual, expected in pairs:
            torch.testing.assert_close(actual[index], expected[0], rtol=0, atol=1e-9)


def test_a_member_does_not_depend_on_its_index() -> None:
    forward = train("vfo_bin", random_dataset(), seeds=[1, 2, 3], precision="fp64")
    backward = train("vfo_bin", random_dataset(), seeds=[3, 2, 1], precision="fp64")
    obs = torch.randn(5, 3)
    for member in range(3):
        action = forward.policy(member).act(obs)
        assert torch.equal(action, backward.policy(2 - member).act(obs))


@pytest.mark.parametrize("name", [name for name in ALL if "reward" not in ALGORITHMS[name].needs])
def test_nan_in_rewards_does_not_change_imitation(name: str) -> None:
    clean = random_dataset()
    assert clean.background.reward is not None
    poisoned = random_dataset()
    assert poisoned.background.reward is not None
    poisoned.background.reward.fill_(math.nan)
    assert_equal_bits(train(name, clean), train(name, poisoned))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        *((name, {}) for name in ALL if name != "sqil"),
        *(
            (name, {"preset": "orig"})
            for name in ("bc", "bco", "smodice", "lobsdice", "pw_dice", "dilo", "tailo")
        ),
        *((name, {"engine": "torch"}) for name in NATIVE if name != "sqil"),
    ],
    ids=str,
)
def test_nan_in_expert_actions_does_not_change_imitation_from_observation(
    name: str, fields: dict[str, Any]
) -> None:
    clean, poisoned = random_dataset(), random_dataset()
    assert poisoned.expert is not None
    actions = torch.full((poisoned.expert.num_transitions, 2), math.nan)
    object.__setattr__(poisoned.expert, "action", actions)
    assert_equal_bits(train(name, clean, **fields), train(name, poisoned, **fields))


def test_sqil_depends_on_expert_actions_and_refuses_nan() -> None:
    clean, other, poisoned = random_dataset(), random_dataset(), random_dataset()
    assert other.expert is not None
    assert poisoned.expert is not None
    assert other.expert.action is not None
    assert poisoned.expert.action is not None
    other.expert.action.neg_()
    poisoned.expert.action.fill_(math.nan)
    learners: list[Any] = [train("sqil", dataset).learners[0] for dataset in (clean, other)]
    assert not torch.equal(*(each.policy.body.layers[0].weight for each in learners))
    with pytest.raises(ValueError, match=r"sqil learns from the expert's actions; .* 2 .*nan"):
        train("sqil", poisoned)


def test_a_member_that_diverges_is_named_and_the_others_train_on() -> None:
    with pytest.warns(UserWarning, match=r"member 1, seed=0, learning_rate=1e\+30"):
        run = train("vfo_bin", random_dataset(), learning_rate=[1e-3, 1e30])
    assert set(run.failed) == {1}
    single = train("vfo_bin", random_dataset(), learning_rate=1e-3)
    obs = torch.randn(4, 3)
    torch.testing.assert_close(run.policy(0).act(obs), single.policy(0).act(obs))
    with pytest.raises(ValueError, match="member 1"):
        run.policy(1)


def test_a_population_that_diverges_does_not_stop_another() -> None:
    with pytest.warns(UserWarning, match="The other members continue"):
        run = train(
            "vfo_bin",
            random_dataset(),
            hidden_sizes=[(4,), (5,)],
            learning_rate=[1e30, 1e-3],
            batch_size=[8, 9],
        )
    diverged = {m for m, member in enumerate(run.members) if member.config.learning_rate > 1}
    assert set(run.failed) == diverged
    assert len(diverged) == 4


def test_two_positional_arguments_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["fastifo.engine.train"], "DEFAULT_NUM_UPDATES", 2)
    run = fastifo.train("vfo_bin", random_dataset())
    assert run.num_updates == 2
    assert run.policy().act(torch.zeros(3)).shape == (2,)


def test_fields_that_change_shapes_split_the_population(tmp_path: Path) -> None:
    run = train(
        "bc",
        random_dataset(),
        seeds=[0, 1],
        hidden_sizes=[(8,), (4, 4)],
        out=tmp_path / "run",
    )
    assert [len(group.members) for group in run.groups] == [2, 2]
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert {row["member"] for row in rows} == {0, 1, 2, 3}
    assert len(fastifo.open_run(tmp_path / "run").learners) == 2


def test_logged_metrics_are_means_over_the_interval(tmp_path: Path) -> None:
    train("bc", random_dataset(), 20, out=tmp_path / "run", precision="fp64")
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    learner = make_learner("bc")
    history = run_updates(learner, make_sampler(learner, random_dataset()), 20)
    losses = torch.stack([metrics["policy_loss"][0].detach() for metrics in history])
    assert [row["update"] for row in rows] == [10, 20]
    for row, expected in zip(rows, losses.view(2, 10).mean(1).tolist(), strict=True):
        assert abs(row["policy_loss"] - expected) < 1e-12


@pytest.mark.parametrize("name", ALL)
@pytest.mark.slow
def test_compiled_ops_train_like_their_references(name: str) -> None:
    fields = {"seeds": [0, 1], "precision": "fp64", "learning_rate": [1e-3, 3e-4]}
    fused, plain = (
        train(name, random_dataset(), 30, fused=fused, **fields) for fused in (True, False)
    )
    pairs = zip(fused.learners[0].parameters(), plain.learners[0].parameters(), strict=True)
    for actual, expected in pairs:
        # Sums run in another order, and Adam amplifies the rounding; embeddings are stored in
        # single precision.
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6 if name == "tge" else 1e-9)
