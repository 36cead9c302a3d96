"""Evaluation in EnvPool: one episode per slot, the same starts, nothing of the auto-reset."""

import json
import sys
from pathlib import Path
from typing import Any

import envpool
import numpy as np
import pytest
import torch

import fastifo
from fastifo.engine.callbacks import EvaluateEvery
from fastifo.envs.envpool import check_env
from fastifo.envs.experts import load_expert
from fastifo.envs.returns import Returns, bootstrap_interval, evaluate_policies, normalized_score
from fastifo.envs.rollout import collect, rollout
from support import LinearPolicy, contents, full_disk

ENV = "Hopper-v4"
QUIET: dict[str, Any] = {"progress": False}


def play(policies: list[Any], num_episodes: int, deterministic: bool = False, **k: Any) -> Returns:
    return evaluate_policies(policies, ENV, num_episodes, deterministic, **QUIET | k)


def test_every_policy_plays_exactly_the_episodes_asked_for() -> None:
    policies = [LinearPolicy(s) for s in range(3)]
    found = play(policies, 5)
    assert found.returns.shape == found.lengths.shape == (3, 5)
    assert (found.lengths > 0).all()
    assert len(np.unique(found.returns)) == 15
    assert found.env_id == ENV
    assert set(found.versions) == {"envpool", "mujoco_in_envpool"}
    assert "unknown" not in found.versions.values()


def test_all_policies_start_from_the_same_states_and_episodes_from_different_ones() -> None:
    parts = rollout([LinearPolicy(s) for s in (0, 1)], ENV, 4, False, seed=3, record=True, **QUIET)
    first = [np.stack([obs[0] for obs in part.obs]) for part in parts]
    assert np.array_equal(first[0], first[1])
    assert len(np.unique(first[0], axis=0)) == 4
    other = rollout([LinearPolicy(0)], ENV, 4, False, seed=4, record=True, **QUIET)[0]
    assert not set(first[0].ravel()) & set(np.stack([obs[0] for obs in other.obs]).ravel())


@pytest.mark.parametrize("deterministic", [False, True])
def test_returns_do_not_depend_on_who_else_plays(deterministic: bool) -> None:
    a, b, c = (LinearPolicy(s) for s in range(3))
    alone = play([b], 4, deterministic).returns[0]
    assert np.array_equal(play([a, b, c], 4, deterministic).returns[1], alone)


def test_returns_do_not_depend_on_how_many_slots_play_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policies = [LinearPolicy(s) for s in (0, 1)]
    whole = play(policies, 5)
    monkeypatch.setattr(sys.modules["fastifo.envs.rollout"], "MAX_SLOTS", 3)
    in_turns = play(policies, 5)
    assert np.array_equal(in_turns.returns, whole.returns)
    assert np.array_equal(in_turns.lengths, whole.lengths)


def test_a_deterministic_policys_episode_does_not_depend_on_how_many_follow() -> None:
    few, many = play([LinearPolicy()], 2, True), play([LinearPolicy()], 6, True)
    assert np.array_equal(few.returns[0], many.returns[0, :2])


def test_a_seed_repeats_and_another_differs() -> None:
    first = play([LinearPolicy()], 3, seed=5).returns
    assert np.array_equal(play([LinearPolicy()], 3, seed=5).returns, first)
    assert not np.array_equal(play([LinearPolicy()], 3, seed=6).returns, first)


def replay(recorded: Any, seed: int, episode: int) -> tuple[Any, Any, bool, bool]:
    """The recorded actions in an environment of their own: observations, rewards, how it ended."""
    start = 10_000 + seed * 1_000_000 + episode
    env = envpool.make(ENV, env_type="gymnasium", num_envs=1, num_threads=1, seed=start)
    observations, rewards, ended = [env.reset()[0][0]], [], (False, False)
    for action in recorded.actions[episode].astype(np.float64):
        assert ended == (False, False)
        obs, reward, terminated, truncated, _ = env.step(action[None])
        observations.append(obs[0])
        rewards.append(reward[0])
        ended = (bool(terminated[0]), bool(truncated[0]))
    return np.stack(observations), np.array(rewards), *ended


def test_recorded_rows_are_those_of_one_episode_and_never_of_the_automatic_reset() -> None:
    recorded = rollout([LinearPolicy(2)], ENV, 4, False, seed=1, record=True, **QUIET)[0]
    assert len(set(recorded.lengths)) > 1
    for episode in range(4):
        obs, rewards, terminated, truncated = replay(recorded, 1, episode)
        assert terminated or truncated
        assert terminated == recorded.terminal[episode]
        assert len(rewards) == recorded.lengths[episode]
        assert np.array_equal(recorded.obs[episode], obs.astype(np.float32))
        assert np.array_equal(recorded.rewards[episode], rewards.astype(np.float32))
        assert recorded.returns[episode] == pytest.approx(rewards.astype(np.float64).sum())


def test_actions_are_clipped_to_the_bounds_of_the_environment() -> None:
    wild = rollout([LinearPolicy(gain=50.0)], ENV, 2, True, seed=0, record=True, **QUIET)[0]
    actions = np.concatenate(wild.actions)
    assert np.abs(actions).max() == 1.0
    assert (np.abs(actions) == 1.0).mean() > 0.5


class Signs(LinearPolicy):
    """What is left of a wild policy once it is clipped."""

    def act_rows(self, obs: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        return super().act_rows(obs, noise).clamp(-1.0, 1.0)


def test_a_policy_past_the_bounds_plays_as_its_clipped_self() -> None:
    wild = play([LinearPolicy(gain=50.0)], 3, True).returns
    assert np.array_equal(wild, play([Signs(gain=50.0)], 3, True).returns)


def test_collected_episodes_are_columns_with_ends_apart() -> None:
    found = collect(LinearPolicy(), ENV, 3, False, seed=0, title="test", progress=False)
    recorded = rollout([LinearPolicy()], ENV, 3, False, seed=0, record=True, **QUIET)[0]
    assert found.lengths.tolist() == recorded.lengths.tolist()
    assert np.array_equal(found.obs.numpy(), np.concatenate(recorded.obs))
    returns = found.returns()
    assert returns is not None
    assert returns.tolist() == pytest.approx(recorded.returns.tolist(), rel=1e-5)  # float32 rows
    last = found.start[1:] - 1
    assert bool((found.terminal | found.timeout)[last].all())
    assert int((found.terminal | found.timeout).sum()) == 3
    assert not bool((found.terminal & found.timeout).any())


def test_an_episode_that_runs_out_of_time_is_a_timeout() -> None:
    expert = load_expert("HalfCheetah-v4")
    found = collect(expert, "HalfCheetah-v4", 1, True, seed=0, title="test", progress=False)
    assert found.lengths.tolist() == [1000]
    assert found.timeout[-1]
    assert not found.terminal.any()
    assert found.obs.shape == (1001, 17)


def a_result(**fields: Any) -> Returns:
    plain: dict[str, Any] = {
        "returns": np.array([[1.0, 3.0], [5.0, 7.0]]),
        "lengths": np.array([[10, 20], [30, 40]]),
        "env_id": ENV,
        "deterministic": False,
        "versions": {"envpool": "1"},
    }
    return Returns(**plain | fields)


def test_returns_come_back_from_their_file(tmp_path: Path) -> None:
    before = a_result(deterministic=True)
    before.save(tmp_path / "returns.npz")
    after = Returns.load(tmp_path / "returns.npz")
    for name, value in vars(before).items():
        assert np.array_equal(getattr(after, name), value), name
    with np.load(tmp_path / "returns.npz", allow_pickle=False) as file:
        assert json.loads(str(file["header"]))["versions"] == {"envpool": "1"}


def test_a_damaged_or_foreign_returns_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "returns.npz"
    a_result().save(path)
    whole = path.read_bytes()
    np.savez(tmp_path / "foreign.npz", a=np.zeros(2))
    np.save(tmp_path / "plain.npy", np.zeros(2))
    cuts = [whole[:size] for size in (0, 3, 30, len(whole) // 2, len(whole) - 1)]
    flips = [whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :] for i in range(0, 300, 7)]
    foreign = [(tmp_path / n).read_bytes() for n in ("foreign.npz", "plain.npy")] + [b"text"]
    messages = []
    for content in [*cuts, *flips, *foreign]:
        path.write_bytes(content)
        try:
            assert np.array_equal(Returns.load(path).returns, a_result().returns)
        except ValueError as error:
            messages.append(str(error))
    assert all("returns.npz: expected the returns of a run" in text for text in messages)
    assert len(messages) > len(cuts) + len(foreign) + len(flips) // 2
    with pytest.raises(FileNotFoundError, match="nowhere: no such file"):
        Returns.load(tmp_path / "nowhere")


def test_a_full_disk_keeps_the_old_returns(tmp_path: Path) -> None:
    a_result().save(tmp_path / "returns.npz")
    before = contents(tmp_path)
    with full_disk(), pytest.raises(OSError, match=r"returns\.npz: could not be written"):
        a_result(env_id="Ant-v4").save(tmp_path / "returns.npz")
    assert contents(tmp_path) == before


def test_mean_std_and_members_are_over_episodes() -> None:
    found = a_result()
    assert found.mean == 4.0
    assert found.std == pytest.approx(5**0.5)
    assert found.per_member == [2.0, 6.0]
    assert "2 members x 2 episodes (sampled), D4RL score" in str(found)
    assert "(mode)" in str(a_result(deterministic=True))
    assert "score" not in str(a_result(env_id="Pusher-v4"))


def test_the_score_is_zero_at_random_and_hundred_at_the_reference_expert() -> None:
    assert normalized_score("Hopper-v4", -20.272305) == pytest.approx(0.0)
    assert normalized_score("Hopper-v2", 3234.3) == pytest.approx(100.0)
    assert normalized_score("Walker2d-v4", 0.5 * (1.629008 + 4592.3)) == pytest.approx(50.0)
    assert normalized_score("HalfCheetah-v4", -280.178953) == pytest.approx(0.0)
    assert normalized_score("HalfCheetah-v4", 12135.0) == pytest.approx(100.0)
    assert normalized_score("Ant-v4", -325.6) == pytest.approx(0.0)
    assert normalized_score("Ant-v4", 3879.7) == pytest.approx(100.0)
    assert normalized_score("Pusher-v4", 1.0) is None


def test_the_interval_holds_the_mean_and_shrinks_with_more_episodes() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.normal(size=(1, 25)), rng.normal(size=(1, 2500))
    for values in (few, many):
        low, high = bootstrap_interval(values)
        assert low < values.mean() < high
        # the normal interval, to a fifth of its width
        assert high - low == pytest.approx(2 * 1.96 * values.std() / values.size**0.5, rel=0.2)
    assert bootstrap_interval(few) == bootstrap_interval(few)


def test_the_interval_redraws_within_members_so_their_difference_does_not_widen_it() -> None:
    values = np.array([[0.0] * 10, [1000.0] * 10])
    assert bootstrap_interval(values) == (500.0, 500.0)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        low, high = bootstrap_interval(rng.normal(size=(1, 50)), resamples=200)
        covered += low < 0.0 < high
    assert 85 <= covered <= 100  # 95 expected; 85 is 4.6 deviations below


def test_an_unknown_environment_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no environment 'Hoper-v4'; did you mean 'Hopper-v4'"):
        check_env("Hoper-v4")


@pytest.mark.filterwarnings("ignore:.*precision lowered by casting:UserWarning")  # gymnasium's
@pytest.mark.parametrize("env_id", ["CartPole-v1", "FrozenLake-v1"])
def test_an_environment_without_real_vectors_is_refused(env_id: str) -> None:
    with pytest.raises(ValueError, match="is a vector of real numbers, found Discrete"):
        evaluate_policies([LinearPolicy()], env_id, 1, True, **QUIET)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"obs_dim": 17}, "its observations are 11 wide, which the policy does not take"),
        ({"action_dim": 6}, "expected actions 3 wide, found a policy with 6"),
    ],
)
def test_a_policy_for_another_environment_is_refused(sizes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"Hopper-v4: {message}.*name the environment"):
        play([LinearPolicy(**sizes)], 1)


def test_no_policies_or_episodes_are_refused() -> None:
    with pytest.raises(ValueError, match="policies: expected one or more, found none"):
        play([], 1)
    with pytest.raises(ValueError, match="num_episodes: expected at least 1, found 0"):
        play([LinearPolicy()], 0)


def test_the_last_tenth_is_the_mean_of_what_was_found_while_training(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    obs, action = torch.randn(9, 11, generator=generator), torch.zeros(8, 3)
    dataset = fastifo.Dataset.from_episodes([{"obs": obs, "action": action}], env_id=ENV)
    run = fastifo.train(
        "bc", dataset, num_updates=40, seeds=[0, 1], out=tmp_path / "run", progress=False,
        hidden_sizes=(8,),
        callbacks=[EvaluateEvery(2, 2), EvaluateEvery(20, 2, deterministic=True)],
    )  # fmt: skip
    found = fastifo.open_run(tmp_path / "run").evaluate(protocol="last_tenth")
    assert found.returns.shape == (2, 2)  # updates 38 and 40
    last = run.evaluate(2, progress=False)
    assert np.allclose(found.returns[:, 1], last.returns.mean(1))
    mode = run.evaluate(deterministic=True, protocol="last_tenth")
    assert np.allclose(mode.returns[:, 0], run.evaluate(2, True, progress=False).returns.mean(1))
    with pytest.raises(ValueError, match="protocol: expected final or last_tenth, found 'best'"):
        run.evaluate(protocol="best")
    plain = fastifo.train("bc", dataset, num_updates=2, hidden_sizes=(8,), progress=False)
    with pytest.raises(ValueError, match=r"protocol: last_tenth .* the run has none\. Train"):
        plain.evaluate(protocol="last_tenth")
