"""A run's length, members, best member, metrics and texts."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastifo
from engine.runs import train
from fastifo.callbacks import EvaluateEvery
from fastifo.envs.returns import Returns
from helpers import random_dataset

SWEEP: dict[str, Any] = {"temperature": [0.3, 1.0], "seeds": [4, 7]}


def give_returns(run: fastifo.Run, means: list[float], *, deterministic: bool = False) -> None:
    """An evaluation of every member with these means."""
    returns = np.array(means)[:, None] + np.array([-0.01, 0.0, 0.01])
    lengths = np.ones(returns.shape, np.int64)
    run.evaluations[deterministic] = Returns(
        returns, lengths, "Hopper-v4", deterministic, {}, run.updates_done
    )


def test_a_run_has_a_length_and_its_policies_by_index() -> None:
    run = train("vfo_bin", random_dataset(), **SWEEP)
    obs = np.zeros((5, 3), np.float32)
    assert len(run) == 4
    policies = list(run)
    assert len(policies) == 4
    for index in range(4):
        expected = run.policy(index).act(obs)
        for same in (policies[index], run[index], run[index - 4], run[np.int64(index)]):
            np.testing.assert_array_equal(same.act(obs), expected)
    for index in (4, -5):
        with pytest.raises(IndexError, match=f"member: expected -4 to 3, found {index}"):
            run[index]
        with pytest.raises(IndexError, match=f"member: expected -4 to 3, found {index}"):
            run.policy(index)
    for wrong in ("a", 0.0, None):
        with pytest.raises(TypeError, match="member: expected an integer, found"):
            run.policy(wrong)  # type: ignore[arg-type]


def test_the_members_to_play_are_a_list_of_indices() -> None:
    run = train("vfo_bin", random_dataset(env_id="Hopper-v4"), **SWEEP)
    played: dict[str, Any] = {"num_episodes": 1, "progress": False}
    last = run.evaluate(**played, members=[-1])
    assert last.returns.tolist() == run.evaluate(**played, members=(3,)).returns.tolist()
    for wrong in (0, "0", 1.5):
        with pytest.raises(TypeError, match=f"members: expected a list .*, found {wrong!r}"):
            run.evaluate(**played, members=wrong)  # type: ignore[arg-type]
    for index in (4, -5):
        with pytest.raises(IndexError, match=f"members: expected -4 to 3, found {index}"):
            run.evaluate(**played, members=[0, index])


@pytest.mark.parametrize("best", range(4))
def test_the_best_member_has_the_highest_mean_and_says_by_what(best: int) -> None:
    run = train("vfo_bin", random_dataset(env_id="Hopper-v4"), **SWEEP)
    means = [0.2, 0.4, float("nan"), 0.3]
    means[best] = 0.6
    give_returns(run, means)
    chosen = run.best()
    assert (chosen.member, chosen.seed) == (best, [4, 7, 4, 7][best])
    assert chosen.settings == {"temperature": [0.3, 0.3, 1.0, 1.0][best]}
    assert chosen.return_ == pytest.approx(0.6)
    assert (chosen.num_episodes, chosen.deterministic) == (3, False)
    assert str(chosen) == (
        f"member {best} (seed={chosen.seed}, temperature={chosen.settings['temperature']}): mean "
        "return 0.60 over 3 episodes of Hopper-v4 with sampled actions, after 30 updates"
    )
    give_returns(run, [0.0, 0.0, 0.0, 0.9], deterministic=True)
    assert run.best().member == best
    by_mode = run.best(deterministic=True)
    assert by_mode.member == 3
    assert "with the mode" in str(by_mode)
    del run.evaluations[False]
    assert run.best() == by_mode


def test_the_best_member_is_read_from_the_run_folder(tmp_path: Path) -> None:
    dataset = random_dataset(env_id="Hopper-v4")
    run = train("vfo_bin", dataset, out=tmp_path / "run", **SWEEP)
    give_returns(run, [1.0, 3.0, 2.0, 0.0])
    run.evaluations[False].save(tmp_path / "run/returns.npz")
    opened = fastifo.open_run(tmp_path / "run")
    assert opened.best() == run.best()
    longer = train("vfo_bin", dataset, num_updates=40, out=tmp_path / "run", **SWEEP)
    with pytest.raises(ValueError, match="after 40 updates, found one after 30 updates only"):
        longer.best()


def test_without_an_evaluation_there_is_no_best_member() -> None:
    run = train("bc", random_dataset(env_id="Hopper-v4"))
    with pytest.raises(ValueError, match=r"found no evaluation; call run\.evaluate\(\) first"):
        run.best()
    with pytest.raises(ValueError, match=r"call run\.evaluate\(deterministic=True\) first"):
        run.best(deterministic=True)
    give_returns(run, [float("nan")])
    with pytest.raises(ValueError, match="best: every member diverged"):
        run.best()


@pytest.mark.slow
def test_an_evaluation_knows_seeds_and_settings(tmp_path: Path) -> None:
    dataset = random_dataset(env_id="Hopper-v4")
    run = train("vfo_bin", dataset, out=tmp_path / "run", **SWEEP)
    returns = run.evaluate(3, progress=False)
    assert returns.seeds == (4, 7, 4, 7)
    assert returns.settings == ("temperature=0.3",) * 2 + ("temperature=1.0",) * 2
    assert run.best().return_ == returns.per_member.max()
    assert Returns.load(tmp_path / "run/returns.npz") == returns
    part = run.evaluate(3, members=[3, 0], progress=False)
    assert (part.seeds, part.settings) == ((7, 4), ("temperature=1.0", "temperature=0.3"))
    assert run.evaluations == {False: returns}


@pytest.mark.parametrize("folder", [True, False])
def test_metrics_are_columns_with_a_row_for_each_member_and_interval(
    folder: bool, tmp_path: Path
) -> None:
    run = train(
        "vfo_disc", random_dataset(), seeds=[4, 7], log_every=10, disc_updates=20,
        out=tmp_path / "run" if folder else None,
    )  # fmt: skip
    columns = run.metrics(frame=False)
    assert columns["update"].tolist() == [10, 10, 20, 20, 30, 30]
    assert columns["member"].tolist() == [0, 1] * 3
    assert columns["seed"].tolist() == [4, 7] * 3
    assert {column.shape for column in columns.values()} == {(6,)}
    assert columns["policy_loss"].dtype == np.float64
    assert np.isfinite(columns["policy_loss"]).all()
    everything = run.metrics(stage=None, frame=False)
    (helper,) = set(everything["stage"]) - {"train"}
    assert len(everything["update"]) == 6 + len(run.metrics(helper)["update"])
    in_training = everything["stage"] == "train"
    assert np.isnan(everything["policy_loss"]).tolist() == (~in_training).tolist()
    with pytest.raises(ValueError, match=f"stage: expected None or one of {helper}, train, found"):
        run.metrics("callback")


@pytest.mark.slow
def test_callbacks_log_their_own_stage(tmp_path: Path) -> None:
    dataset = random_dataset(env_id="Hopper-v4")
    run = train("bc", dataset, callbacks=[EvaluateEvery(15, 2)], seeds=[4, 7])
    columns = run.metrics("callback")
    assert columns["update"].tolist() == [15, 15, 30, 30]
    assert np.isfinite(columns["return_mean"]).all()


def test_a_run_and_its_parts_are_short_in_print(tmp_path: Path) -> None:
    dataset = random_dataset(env_id="Hopper-v4")
    run = train("vfo_bin", dataset, out=tmp_path / "run", **SWEEP)
    give_returns(run, [1.0, 3.0, 2.0, 0.0])
    assert repr(run).splitlines() == [
        f"Run(vfo_bin on Hopper-v4, 30 of 30 updates, in {tmp_path}/run)",
        "  4 members: seed 4 7; temperature 0.3 1.0",
        "  Returns(Hopper-v4, sampled actions, 4 members x 3 episodes, mean returns 0.00 to 3.00)",
    ]
    assert repr(run[2]) == (
        "Policy(vfo_bin, member 2, seed=4, temperature=1.0, 11 observations -> 3 actions, on cpu)"
    )
    for part in (run.members[0], run.groups[0], run.spec, run.members[0].config):
        assert len(repr(part)) < 1000
    assert repr(run.members[2]).startswith("Member(seed=4, config=VfOConfig(")
    many = train("bc", random_dataset(), seeds=range(30))
    assert "30 members: seed 0 1 2 3 4 5 6 7 ... 30 in all" in repr(many)


def test_a_dataset_is_short_in_print_and_has_episodes_by_index() -> None:
    dataset = random_dataset(env_id="Hopper-v4")
    assert repr(dataset).splitlines() == [
        "Dataset(Hopper-v4, observations 11 wide, actions 3 wide)",
        "  background  6 episodes, 45 transitions, with actions and rewards",
        "  expert      2 episodes, 14 transitions, with actions",
    ]
    background = dataset.background
    assert repr(background) == (
        "Episodes(6 episodes, 45 transitions, observations 11 wide, actions 3 wide, with rewards)"
    )
    assert len(dataset) == len(background) == 6
    assert [len(episode) for episode in background] == [5, 6, 7, 8, 9, 10]
    episode = background[-3]
    assert repr(episode) == (
        "Episode(obs=float32[9, 11], terminal=True, action=float32[8, 3], reward=float32[8])"
    )
    assert torch.equal(episode.obs, background.take([3]).obs)
    assert episode.columns().keys() == {"obs", "terminal", "action", "reward"}
    assert background[1:3] == background.take([1, 2])
    with pytest.raises(IndexError, match="episode: expected -6 to 5, found 6"):
        background[6]
    with pytest.raises(TypeError, match="episode: expected an integer, found 'obs'"):
        background["obs"]  # type: ignore[call-overload]


def test_episodes_by_index_make_the_same_dataset_again() -> None:
    dataset = random_dataset(env_id="Hopper-v4")
    expert, reward = dataset.expert, dataset.background.reward
    assert expert is not None
    assert reward is not None
    again = fastifo.Dataset.from_episodes(dataset.background, list(expert), "Hopper-v4")
    assert again == dataset
    population = dataclasses.replace(dataset.background, reward=torch.stack([reward] * 2))
    member_rewards = population[2].reward
    assert member_rewards is not None
    assert member_rewards.shape == (2, 7)
