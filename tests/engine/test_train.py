import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import fastifo
from fastifo.data.dataset import Dataset
from fastifo.learner import tensors
from helpers import SMALL, make_learner, make_sampler, random_dataset, run_updates

QUIET: dict[str, Any] = {"progress": False, "log_every": 10, **SMALL}
ALL = ["bc", "awr", "vfo_bin", "vfo_disc"]


def train(name: str, dataset: Dataset, num_updates: int = 30, **fields: Any) -> fastifo.Run:
    if name == "vfo_disc":
        fields.setdefault("disc_updates", 20)
    return fastifo.train(name, dataset, num_updates=num_updates, **QUIET | fields)


def weights(run: fastifo.Run) -> list[dict[str, torch.Tensor]]:
    return [{k: v.clone() for k, v in tensors(learner).items()} for learner in run.learners]


def assert_equal_bits(a: fastifo.Run, b: fastifo.Run) -> None:
    for found, expected in zip(weights(a), weights(b), strict=True):
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("name", ALL)
def test_three_members_equal_three_single_runs(name: str) -> None:
    fields = {"learning_rate": [1e-3, 3e-4], "precision": "fp64"}
    if name != "bc":
        fields["temperature"] = [0.5, 2.0]
    together = train(name, random_dataset(), seeds=[3, 5], **fields)
    assert len(together.learners) == 1
    for place, member in enumerate(together.members):
        single = {k: getattr(member.config, k) for k in fields if k != "precision"}
        alone = train(name, random_dataset(), seeds=member.seed, precision="fp64", **single)
        mine = together.learners[0]
        pairs = zip(mine.parameters(), alone.learners[0].parameters(), strict=True)
        for found, expected in pairs:
            # float64 rounding of another order of sums, magnified by Adam
            torch.testing.assert_close(found[place], expected[0], rtol=0, atol=1e-9)


def test_a_member_does_not_depend_on_its_place() -> None:
    forward = train("vfo_bin", random_dataset(), seeds=[1, 2, 3], precision="fp64")
    backward = train("vfo_bin", random_dataset(), seeds=[3, 2, 1], precision="fp64")
    obs = torch.randn(5, 3)
    for member in range(3):
        found = forward.policy(member).act(obs)
        assert torch.equal(found, backward.policy(2 - member).act(obs))


@pytest.mark.parametrize("name", ["bc", "vfo_bin", "vfo_disc"])
def test_nan_in_rewards_changes_nothing_for_imitation(name: str) -> None:
    clean = random_dataset()
    assert clean.background.reward is not None
    poisoned = random_dataset()
    assert poisoned.background.reward is not None
    poisoned.background.reward.fill_(math.nan)
    assert_equal_bits(train(name, clean), train(name, poisoned))


@pytest.mark.parametrize("name", ["bc", "vfo_bin", "vfo_disc"])
def test_nan_in_expert_actions_changes_nothing(name: str) -> None:
    clean, poisoned = random_dataset(), random_dataset()
    assert poisoned.expert is not None
    actions = torch.full((poisoned.expert.num_transitions, 2), math.nan)
    object.__setattr__(poisoned.expert, "action", actions)
    assert_equal_bits(train(name, clean), train(name, poisoned))


@pytest.mark.parametrize("name", ALL)
def test_resuming_equals_never_stopping_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole = train(name, random_dataset(), 40, out=tmp_path / "whole", checkpoint_every=1000)

    def stop_at_23(run: Any, update: int, members: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    stop_at_23.every = 23  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt, match="a checkpoint was written"):
        train(name, random_dataset(), 40, out=tmp_path / "cut", callbacks=[stop_at_23])
    resumed = train(name, random_dataset(), 40, out=tmp_path / "cut")
    assert_equal_bits(whole, resumed)
    assert_equal_bits(whole, fastifo.open_run(tmp_path / "cut"))
    rows = [(tmp_path / part / "metrics.jsonl").read_text() for part in ("whole", "cut")]
    assert rows[0] == rows[1]


def test_a_killed_process_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from engine.test_train import random_dataset, train
def die(run, update, members):
    os._exit(9)
die.every = 27
train("vfo_disc", random_dataset(), 40, out={str(tmp_path / "cut")!r}, checkpoint_every=9,
      callbacks=[die])
"""
    code = subprocess.run([sys.executable, "-c", script], check=False).returncode
    assert code == 9
    resumed = train("vfo_disc", random_dataset(), 40, out=tmp_path / "cut", checkpoint_every=9)
    whole = train("vfo_disc", random_dataset(), 40, out=tmp_path / "whole", checkpoint_every=9)
    assert_equal_bits(whole, resumed)
    rows = [(tmp_path / part / "metrics.jsonl").read_text() for part in ("whole", "cut")]
    assert rows[0] == rows[1]


def test_a_longer_horizon_continues_the_run(tmp_path: Path) -> None:
    train("vfo_bin", random_dataset(), 20, out=tmp_path / "a")
    longer = train("vfo_bin", random_dataset(), 40, out=tmp_path / "a")
    assert_equal_bits(longer, train("vfo_bin", random_dataset(), 40))


def test_a_saved_and_reopened_run_acts_identically(tmp_path: Path) -> None:
    run = train("vfo_bin", random_dataset(), seeds=[0, 1])
    run.save(tmp_path / "run")
    reopened = fastifo.open_run(tmp_path / "run")
    obs = torch.randn(4, 3)
    for member in range(2):
        for deterministic in (True, False):
            found = reopened.policy(member).act(obs, deterministic)
            assert torch.equal(found, run.policy(member).act(obs, deterministic))
    assert not list((tmp_path / "run").rglob("*.pkl"))


def test_actions_are_of_the_kind_and_shape_of_the_observations() -> None:
    policy = train("bc", random_dataset()).policy()
    batch = torch.randn(4, 3)
    assert policy.act(batch).shape == (4, 2)
    single = policy.act(batch[0].numpy())
    assert type(single).__name__ == "ndarray"
    assert single.shape == (2,)
    assert torch.equal(torch.from_numpy(single), policy.act(batch)[0])
    with pytest.raises(ValueError, match=r"expected shape \(3,\) or \(B, 3\)"):
        policy.act(torch.zeros(4))


def test_actions_return_to_the_given_bounds() -> None:
    generator = torch.Generator().manual_seed(0)
    episode = {
        "obs": torch.randn(21, 3, generator=generator),
        "action": torch.full((20, 2), 3.0),
    }
    dataset = Dataset.from_episodes([episode], action_low=[-4.0, 1.0], action_high=[4.0, 5.0])
    policy = train("bc", dataset, 300, num_bins=101, learning_rate=3e-3).policy()
    action = policy.act(dataset.background.obs[0])
    assert abs(float(action[0]) - 3.0) < 0.3
    assert abs(float(action[1]) - 3.0) < 0.3


def test_a_member_that_diverges_is_named_and_the_others_go_on() -> None:
    with pytest.warns(UserWarning, match=r"member 1, seed=0, learning_rate=1e\+30"):
        run = train("vfo_bin", random_dataset(), learning_rate=[1e-3, 1e30])
    assert set(run.failed) == {1}
    single = train("vfo_bin", random_dataset(), learning_rate=1e-3)
    obs = torch.randn(4, 3)
    torch.testing.assert_close(run.policy(0).act(obs), single.policy(0).act(obs))
    with pytest.raises(ValueError, match="member 1"):
        run.policy(1)


def test_when_every_member_diverges_training_stops() -> None:
    with (
        pytest.warns(UserWarning, match="lower learning_rate"),
        pytest.raises(FloatingPointError, match="no member's losses are finite"),
    ):
        train("vfo_bin", random_dataset(), learning_rate=1e30)


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


def test_standardised_observations_survive_reopening(tmp_path: Path) -> None:
    run = train("bc", random_dataset(), standardize_obs=True, out=tmp_path / "run")
    obs = torch.randn(4, 3)
    found = fastifo.open_run(tmp_path / "run").policy().act(obs)
    assert torch.equal(found, run.policy().act(obs))
    assert float(run.learners[0].encoder.mean.abs().max()) > 0


def test_metrics_are_interval_means(tmp_path: Path) -> None:
    train("bc", random_dataset(), 20, out=tmp_path / "run", precision="fp64")
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    learner = make_learner("bc")
    history = run_updates(learner, make_sampler(learner, random_dataset()), 20)
    losses = torch.stack([metrics["policy_loss"][0].detach() for metrics in history])
    assert [row["update"] for row in rows] == [10, 20]
    for row, expected in zip(rows, losses.view(2, 10).mean(1).tolist(), strict=True):
        assert abs(row["policy_loss"] - expected) < 1e-12


def test_training_time_adds_up_over_processes_and_leaves_callbacks_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_s() -> float:
        manifest = json.loads((tmp_path / "run/checkpoint/manifest.json").read_text())
        return float(manifest["train_s"])

    clock = [0.0]
    real = time.monotonic
    monkeypatch.setattr("fastifo.engine.loop.time.monotonic", lambda: real() + sum(clock))

    def slow(run: Any, update: int, members: Any) -> None:
        clock.append(1000.0)

    slow.every = 1000  # type: ignore[attr-defined]
    train("bc", random_dataset(), 10, out=tmp_path / "run", callbacks=[slow])
    first = train_s()
    assert 0 < first < 1000.0
    train("bc", random_dataset(), 20, out=tmp_path / "run")
    assert train_s() > first
