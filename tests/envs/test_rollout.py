"""Rollouts in EnvPool: one episode per slot, equal start states, no rows of the automatic reset."""

from typing import Any

import envpool
import numpy as np
import pytest
import torch

from fastifo.envs.backends.envpool import EnvPoolBackend
from fastifo.envs.evaluate import evaluate_policies
from fastifo.envs.experts import load_expert
from fastifo.envs.registry import check_id
from fastifo.envs.returns import Returns
from fastifo.envs.rollout import collect, rollout
from fastifo.utils.progress import ProgressBar
from support import LinearPolicy

ENV = "Hopper-v4"
QUIET: dict[str, Any] = {"progress": False}


def play(policies: list[Any], num_episodes: int, deterministic: bool = False, **k: Any) -> Returns:
    return evaluate_policies(policies, ENV, num_episodes, deterministic, **QUIET | k)


def test_every_policy_plays_exactly_num_episodes() -> None:
    policies = [LinearPolicy(s) for s in range(3)]
    played = play(policies, 5)
    assert played.returns.shape == played.lengths.shape == (3, 5)
    assert (played.lengths > 0).all()
    assert len(np.unique(played.returns)) == 15
    assert played.env_id == ENV
    assert set(played.versions) == {"envpool", "mujoco_in_envpool"}
    assert "unknown" not in played.versions.values()


def test_all_policies_start_from_the_same_states_and_episodes_from_different_ones() -> None:
    parts = rollout(
        [LinearPolicy(s) for s in (0, 1)], ENV, 4, False, seed=3, record=True, **QUIET
    ).episodes
    first = [np.stack([obs[0] for obs in part.obs]) for part in parts]
    assert np.array_equal(first[0], first[1])
    assert len(np.unique(first[0], axis=0)) == 4
    other = rollout([LinearPolicy(0)], ENV, 4, False, seed=4, record=True, **QUIET).episodes[0]
    assert not set(first[0].ravel()) & set(np.stack([obs[0] for obs in other.obs]).ravel())


@pytest.mark.parametrize("deterministic", [False, True])
def test_returns_do_not_depend_on_the_other_policies(deterministic: bool) -> None:
    a, b, c = (LinearPolicy(s) for s in range(3))
    single = play([b], 4, deterministic).returns[0]
    assert np.array_equal(play([a, b, c], 4, deterministic).returns[1], single)


def test_returns_do_not_depend_on_how_many_slots_play_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policies = [LinearPolicy(s) for s in (0, 1)]
    together = play(policies, 5)
    monkeypatch.setattr(EnvPoolBackend, "max_slots", 3)
    in_batches = play(policies, 5)
    assert np.array_equal(in_batches.returns, together.returns)
    assert np.array_equal(in_batches.lengths, together.lengths)


def test_a_deterministic_policys_episode_does_not_depend_on_num_episodes() -> None:
    few, many = play([LinearPolicy()], 2, True), play([LinearPolicy()], 6, True)
    assert np.array_equal(few.returns[0], many.returns[0, :2])


def test_returns_are_equal_for_equal_seeds_and_differ_for_others() -> None:
    first = play([LinearPolicy()], 3, seed=5).returns
    assert np.array_equal(play([LinearPolicy()], 3, seed=5).returns, first)
    assert not np.array_equal(play([LinearPolicy()], 3, seed=6).returns, first)


def replay(recorded: Any, seed: int, episode: int) -> tuple[Any, Any, bool, bool]:
    """Replays the actions of an episode in a separate environment.

    Returns observations, rewards, whether the episode terminated and whether it was truncated.
    """
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


def test_recorded_rows_belong_to_one_episode_and_never_to_the_automatic_reset() -> None:
    recorded = rollout([LinearPolicy(2)], ENV, 4, False, seed=1, record=True, **QUIET).episodes[0]
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
    (played,) = rollout(
        [LinearPolicy(gain=50.0)], ENV, 2, True, seed=0, record=True, **QUIET
    ).episodes
    actions = np.concatenate(played.actions)
    assert np.abs(actions).max() == 1.0
    assert (np.abs(actions) == 1.0).mean() > 0.5


class ClippedPolicy(LinearPolicy):
    """A `LinearPolicy` whose actions are clipped to the bounds."""

    def act_rows(self, obs: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        return super().act_rows(obs, noise).clamp(-1.0, 1.0)


def test_a_policy_with_actions_out_of_bounds_plays_like_its_clipped_version() -> None:
    unclipped = play([LinearPolicy(gain=50.0)], 3, True).returns
    assert np.array_equal(unclipped, play([ClippedPolicy(gain=50.0)], 3, True).returns)


def test_collected_episodes_are_columns_that_tell_terminals_from_timeouts() -> None:
    episodes = collect(LinearPolicy(), ENV, 3, False, seed=0, title="test", progress=False)
    recorded = rollout([LinearPolicy()], ENV, 3, False, seed=0, record=True, **QUIET).episodes[0]
    assert episodes.lengths.tolist() == recorded.lengths.tolist()
    assert np.array_equal(episodes.obs.numpy(), np.concatenate(recorded.obs))
    returns = episodes.returns()
    assert returns is not None
    assert returns.tolist() == pytest.approx(recorded.returns.tolist(), rel=1e-5)  # float32 rows
    last = episodes.start[1:] - 1
    assert bool((episodes.terminal | episodes.timeout)[last].all())
    assert int((episodes.terminal | episodes.timeout).sum()) == 3
    assert not bool((episodes.terminal & episodes.timeout).any())


def test_an_episode_that_reaches_the_time_limit_is_a_timeout() -> None:
    expert = load_expert("HalfCheetah-v4")
    episodes = collect(expert, "HalfCheetah-v4", 1, True, seed=0, title="test", progress=False)
    assert episodes.lengths.tolist() == [1000]
    assert episodes.timeout[-1]
    assert not episodes.terminal.any()
    assert episodes.obs.shape == (1001, 17)


def test_an_unknown_environment_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no environment 'Hoper-v4'; did you mean 'Hopper-v4'"):
        check_id("Hoper-v4")


@pytest.mark.filterwarnings("ignore:.*precision lowered by casting:UserWarning")  # gymnasium's
@pytest.mark.parametrize("env_id", ["CartPole-v1", "FrozenLake-v1"])
def test_an_environment_whose_spaces_are_not_vectors_is_refused(env_id: str) -> None:
    with pytest.raises(ValueError, match="is a vector of real numbers, found Discrete"):
        evaluate_policies([LinearPolicy()], env_id, 1, True, **QUIET)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"obs_dim": 17}, "its observations are 11 wide, which the policy does not accept"),
        ({"action_dim": 6}, "expected actions 3 wide, found a policy with 6"),
    ],
)
def test_a_policy_for_another_environment_is_refused(sizes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"Hopper-v4: {message}.*name the environment"):
        play([LinearPolicy(**sizes)], 1)


def test_no_policies_or_episodes_are_refused() -> None:
    with pytest.raises(ValueError, match="policies: expected one or more, found none"):
        play([], 1)
    with pytest.raises(ValueError, match="num_episodes: expected an integer of at least 1"):
        play([LinearPolicy()], 0)


def test_the_rate_counts_the_steps_that_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[ProgressBar] = []

    class Seen(ProgressBar):
        def __init__(self, *args: Any, **fields: Any) -> None:
            super().__init__(*args, **fields)
            bars.append(self)

    monkeypatch.setattr("fastifo.envs.rollout.ProgressBar", Seen)
    monkeypatch.setattr(EnvPoolBackend, "max_slots", 8)  # three batches
    returns = play([LinearPolicy()], 20, True)
    (bar,) = bars
    assert bar.made == returns.lengths.sum()
    assert bar.made < bar.done == bar.total == 20 * 1000
    bar.started -= 100.0
    assert bar.rate() == pytest.approx(bar.made / 100.0, rel=0.5)
