"""Environments of a user, by function, class, name and spec; and those that misbehave."""

import copy
import functools
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import fastifo
import own_envs
from cli.commands import run as run_command
from fastifo.envs.evaluate import evaluate_policies
from fastifo.envs.registry import describe
from fastifo.envs.returns import Returns
from fastifo.envs.rollout import collect
from fastifo.envs.spec import as_spec
from support import LinearPolicy

SMALL: dict[str, Any] = {"num_updates": 30, "hidden_sizes": (16,), "progress": False}


def play(env: Any, num_episodes: int = 4, deterministic: bool = False, **k: Any) -> Returns:
    spec = as_spec(env, kwargs=k.pop("kwargs", None), obs_keys=k.pop("obs_keys", ()))
    info = describe(spec)
    policy = LinearPolicy(0, 0.5, info.obs_dim, info.action_dim)
    return evaluate_policies([policy], spec, num_episodes, deterministic, progress=False, **k)


def line_dataset(env_id: str | None = None) -> fastifo.Dataset:
    """Episodes of a controller that moves the point to 0."""
    episodes = []
    for seed in range(20):
        env = own_envs.Line()
        obs = [env.reset(seed=seed)[0]]
        actions: list[Any] = []
        for _ in range(20):
            actions.append(np.clip(-5 * obs[-1][:1], -2, 2))
            obs.append(env.step(actions[-1])[0])
        episodes.append({"obs": np.stack(obs), "action": np.stack(actions)})
    return fastifo.Dataset.from_episodes(episodes, env_id=env_id, action_low=-2, action_high=2)


def test_ten_lines_of_an_environment_are_trained_and_evaluated(tmp_path: Path) -> None:
    longer = SMALL | {"num_updates": 500, "learning_rate": 1e-3}
    run = fastifo.train("bc", line_dataset(), env=own_envs.Line, out=tmp_path, **longer)
    returns = run.evaluate(50, deterministic=True, progress=False)
    random = play(own_envs.Line, 50)
    assert returns.mean > random.mean + 3
    assert returns.success is not None
    assert returns.success > 0.8
    assert returns.success_interval is not None
    low, high = returns.success_interval
    assert low < returns.success <= high <= 1.0
    assert f"success {returns.success:.0%} [{low:.0%}, {high:.0%}]" in str(returns)
    assert returns.env_id == "own_envs:Line"
    assert set(returns.versions) == {"gymnasium"}
    again = Returns.load(tmp_path / "returns-deterministic.npz")
    assert again.success == returns.success


@pytest.mark.parametrize(
    "env",
    [
        own_envs.Line, own_envs.make_line, "own_envs:Line", "own_envs:make_line",
        functools.partial(own_envs.Line, 20), lambda: own_envs.Line(20),
    ],
)  # fmt: skip
def test_all_ways_to_name_an_environment_play_the_same(env: Any) -> None:
    assert np.array_equal(play(env).returns, play(own_envs.Line).returns)


def test_gymnasiums_spec_brings_its_settings() -> None:
    spec = copy.deepcopy(gymnasium.spec("Hopper-v5"))  # not the registered one
    spec.max_episode_steps = 3
    assert describe(as_spec(spec)).max_episode_steps == 3
    private = gymnasium.envs.registration.EnvSpec(
        "Private-v0", "own_envs:Line", max_episode_steps=5, kwargs={"limit": 9}
    )
    assert play(private).lengths.tolist() == [[5] * 4]


@pytest.mark.parametrize("lanes", [1, 3, 64])
@pytest.mark.parametrize("name", ["Line", "Walk"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_an_episode_depends_on_its_seed_alone_whatever_lanes_played_before(
    monkeypatch: pytest.MonkeyPatch, lanes: int, name: str, deterministic: bool
) -> None:
    env = getattr(own_envs, name)
    monkeypatch.setattr("fastifo.envs.backends.gymnasium.LANES", lanes)
    together = play(env, 7, deterministic)
    assert len(np.unique(together.returns)) == 7
    monkeypatch.setattr("fastifo.envs.backends.gymnasium.LANES", 7)
    assert np.array_equal(play(env, 7, deterministic).returns, together.returns)
    if deterministic:  # the noise of samples is drawn for all episodes of a call
        assert np.array_equal(play(env, 3, True).returns[0], together.returns[0, :3])


def test_torch_policies_return_the_same_bits_in_any_number_of_lanes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = SMALL | {"hidden_sizes": (64, 64), "activation": "tanh"}
    run = fastifo.train("bc", line_dataset(), env=own_envs.Walk, **sizes)
    parts = []
    for lanes in (1, 3, 20, 64):
        monkeypatch.setattr("fastifo.envs.backends.gymnasium.LANES", lanes)
        parts.append(run.evaluate(40, progress=False).returns)
    assert all(np.array_equal(part, parts[0]) for part in parts)


def test_recorded_episodes_are_those_of_the_environment() -> None:
    policy = LinearPolicy(0, 0.5, 2, 1)
    episodes = collect(policy, as_spec(own_envs.Walk), 5, False, seed=2, title="t", progress=False)
    for e in range(5):
        env = own_envs.Walk()
        obs = [env.reset(seed=10_000 + 2_000_000 + e)[0]]
        begin, end = int(episodes.start[e]), int(episodes.start[e + 1])
        assert episodes.action is not None
        assert episodes.reward is not None
        ends = []
        for row in range(begin, end):
            step = env.step(episodes.action[row].numpy())
            obs.append(step[0])
            ends.append(step[2] or step[3])
            assert float(episodes.reward[row]) == pytest.approx(step[1], abs=1e-6)
        assert ends == [False] * (end - begin - 1) + [True]
        rows = slice(begin + e, end + e + 1)
        np.testing.assert_allclose(episodes.obs[rows].numpy(), np.stack(obs), atol=1e-6)
        assert bool(episodes.terminal[end - 1]) == step[2]


def test_success_at_any_step_counts() -> None:
    episodes = play(own_envs.Line, 30, kwargs={"goal": 0.2})
    assert episodes.successes is not None
    assert 0 < episodes.successes.mean() < 1
    assert set(np.unique(episodes.successes)) == {0.0, 1.0}
    assert play(own_envs.Unlimited, kwargs={"max_episode_steps": 5}).success is None


def test_settings_reach_the_function_and_unknown_ones_are_named() -> None:
    assert play(own_envs.Line, kwargs={"limit": 6}).lengths.tolist() == [[6] * 4]
    assert play("own_envs:Line", kwargs={"max_episode_steps": 4}).lengths.tolist() == [[4] * 4]
    with pytest.raises(TypeError, match=r"own_envs:Line: env_kwargs: .*limt"):
        play(own_envs.Line, kwargs={"limt": 6})
    with pytest.raises(TypeError, match="env_kwargs: expected JSON values"):
        play(own_envs.Line, kwargs={"limit": np.ones(3)})
    with pytest.raises(ValueError, match="max_episode_steps: expected an integer of at least 1"):
        play(own_envs.Line, kwargs={"max_episode_steps": 0})


def test_an_environment_that_never_ends_is_cut_and_the_limit_is_stated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastifo.envs.backends.gymnasium.DEFAULT_LIMIT", 50)
    with pytest.warns(UserWarning, match="states no time limit, and 4 episodes were cut after 50"):
        played = play(own_envs.Unlimited)
    assert played.lengths.tolist() == [[50] * 4]
    assert play(own_envs.Unlimited, kwargs={"max_episode_steps": 7}).lengths.max() == 7


@pytest.mark.parametrize(
    ("what", "text"), [("obs", "observation 0 is nan"), ("reward", "the reward is inf")]
)
def test_values_that_are_not_finite_are_named_with_episode_and_step(what: str, text: str) -> None:
    with pytest.raises(ValueError, match=rf"after step 3 of episode 0 \(start seed 10000\) {text}"):
        play(own_envs.Diverging, kwargs={"what": what})


@pytest.mark.parametrize(
    ("env", "kind", "text"),
    [
        (own_envs.make_number, TypeError, "makes one gymnasium.Env, found one that returns int"),
        (own_envs.make_number, TypeError, "without reset, step, observation_space, action_space"),
        (":Line", ValueError, "expected a module and a function, found no module ''"),
        (lambda: own_envs.Line, TypeError, "found one that returns the class Line"),
        (lambda: gymnasium.make_vec("Pendulum-v1"), TypeError, "a vector of environments"),
        (own_envs.OldInterface, TypeError, r"step\(action\) to return .* found a tuple of 4"),
        (own_envs.WrongWidth, ValueError, r"expected observations of shape \(2,\).* found \(3,\)"),
        (own_envs.Buttons, ValueError, r"action is a vector of real numbers, found Discrete\(3\)"),
        ("own_envs:Lien", ValueError, "own_envs has no function 'Lien'; did you mean 'Line'"),
        ("own_env:Line", ValueError, "found no module 'own_env'"),
        ("gymnasium/Hoper-v5", ValueError, "no environment 'Hoper-v5'; did you mean 'Hopper-v5'"),
        ("Hoper-v5", ValueError, "no environment 'Hoper-v5'; did you mean 'Hopper-v5'"),
        (3, TypeError, "env: expected an environment's id, .* found int"),
        (own_envs.Line(), TypeError, "found Line; pass a function that makes one"),
    ],
)  # fmt: skip
def test_what_is_no_environment_is_refused(env: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        play(env)


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ({"reward": "good"}, "expected the reward to be a number, found str 'good'"),
        ({"reward": None}, "expected the reward to be a number, found NoneType"),
        ({"reward": np.ones(2)}, "expected the reward to be a number, found ndarray"),
        ({"terminated": None}, "expected terminated to be true or false, found NoneType"),
        ({"truncated": "no"}, "expected truncated to be true or false, found str 'no'"),
        ({"success": "yes"}, r"expected info\['success'\] to be true or false, found str"),
        ({"success": [True, False]}, r"expected info\['success'\] to be true or false"),
        ({"obs": 3}, "expected an observation with the entry 'goal/x', .* found int"),
        ({"obs": {"goal": {"x": 1}}}, "with the entry 'goal/y', .* found a dict with goal"),
        (
            {"obs": {"goal": {"x": [1, 2], "y": [3]}, "point": [4]}},  # as wide as it should be
            r"goal/x: expected observations of shape \(1,\), .* found \(2,\)",
        ),
        ({"obs": {"goal": {"x": 1, "y": [1j]}}}, r"goal/y: .* of shape \(1,\), .* found list"),
        ({"obs": {"goal": {"x": 1, "y": "a"}}}, r"goal/y: .* of shape \(1,\), .* found str"),
    ],
)  # fmt: skip
def test_a_step_that_returns_something_else_is_named(answers: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^own_envs:Answering: .*{text}"):
        play(functools.partial(own_envs.Answering, **answers))


def test_arrays_of_one_entry_are_numbers_and_success_may_be_unknown() -> None:
    answers = {"reward": np.ones(1), "terminated": np.zeros(1, bool), "success": [True]}
    played = play(functools.partial(own_envs.Answering, **answers))
    assert played.returns.tolist() == [[20.0] * 4]
    assert played.success == 1.0
    for unknown in (None, float("nan")):
        assert play(functools.partial(own_envs.Answering, success=unknown)).success is None


def test_an_environments_own_error_is_raised_and_says_whose_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(KeyError, match="my own bug") as caught:
        play(own_envs.Failing)
    assert caught.value.__notes__ == ["raised by own_envs:Failing in step 1 of an episode"]
    fastifo.train("bc", line_dataset("none"), out=tmp_path, **SMALL)
    status, _, err = run_command(
        capsys, "evaluate", tmp_path, "--episodes", 1, "--env-id", "own_envs:Unseeded"
    )
    assert status == 2
    assert "unexpected keyword argument 'seed'; raised by own_envs:Unseeded in reset(" in err
    settings = ["--env-arg", "limit=4", "limit=5"]
    status, _, err = run_command(capsys, "evaluate", tmp_path, "--env-id", "x", *settings)
    assert status == 2
    assert "--env-arg: expected each name once, found limit twice" in err


def test_bounds_and_widths_are_checked_before_training_starts(tmp_path: Path) -> None:
    data = line_dataset()
    small = functools.partial(own_envs.Line, 20, high=1.0)
    with pytest.raises(ValueError, match=r"actions are in \[-1, 1\], those of the data in \[-2"):
        fastifo.train("bc", data, env=small, out=tmp_path / "a", **SMALL)
    narrow = fastifo.Dataset.from_episodes([{"obs": np.ones((9, 2)), "action": np.zeros((8, 1))}])
    with pytest.raises(ValueError, match=r"\[-2, 2\], those of the data in \[-1, 1\].*action_low"):
        fastifo.train("bc", narrow, env=own_envs.Line, out=tmp_path / "a", **SMALL)
    with pytest.raises(ValueError, match=r"its observations are 4 wide .* those of the data 2"):
        fastifo.train("bc", data, env=own_envs.Goal, out=tmp_path / "a", **SMALL)
    assert not (tmp_path / "a").exists()


def test_a_folder_keeps_the_name_and_the_settings_but_never_runs_its_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fastifo.train(
        "bc", line_dataset(), env=own_envs.Line, env_kwargs={"limit": 9}, out=tmp_path, **SMALL
    )
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["env_id"], config["env_kwargs"]) == ("own_envs:Line", {"limit": 9})
    run = fastifo.open_run(tmp_path)
    with pytest.raises(ValueError, match=r"own_envs:Line: a file names this code, .* pass env="):
        run.evaluate(2, progress=False)
    status, _, err = run_command(capsys, "evaluate", tmp_path, "--episodes", 2)
    assert status != 0
    assert "--env-id own_envs:Line" in err
    status, out, err = run_command(
        capsys, "evaluate", tmp_path, "--episodes", 2, "--env-id", "own_envs:Line",
        "--env-arg", "limit=4", "max_episode_steps=3",
    )  # fmt: skip
    assert status == 0, err
    assert "played with gymnasium" in out
    assert Returns.load(tmp_path / "returns.npz").lengths.tolist() == [[3, 3]]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["env_kwargs"] == {"limit": 4, "max_episode_steps": 3}


def test_a_wrong_environment_is_corrected_on_a_finished_run(tmp_path: Path) -> None:
    run = fastifo.train("bc", line_dataset("none"), env="none", out=tmp_path, **SMALL)
    with pytest.raises(ValueError, match="names no environment"):
        run.evaluate(1, progress=False)
    assert run.evaluate(2, env=own_envs.Line, progress=False).env_id == "own_envs:Line"
    assert run.evaluate(2, progress=False).env_id == "own_envs:Line"  # known in this process
    assert fastifo.open_run(tmp_path).env_id == "own_envs:Line"
