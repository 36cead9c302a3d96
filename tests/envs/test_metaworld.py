"""Meta-World's tasks in EnvPool, and their experts."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastifo
from fastifo.envs.backends.metaworld import PREFIX, MetaworldBackend
from fastifo.envs.evaluate import evaluate_policies
from fastifo.envs.experts import default_noise, load_expert
from fastifo.envs.experts.metaworld import MetaworldScript
from fastifo.envs.registry import describe
from fastifo.envs.returns import Returns
from fastifo.envs.rollout import rollout
from fastifo.envs.spec import as_spec
from support import LinearPolicy

BUTTON = "metaworld/CoffeeButton"
SHORT = {"max_episode_steps": 80}
needs_package = pytest.mark.skipif(
    importlib.util.find_spec("metaworld") is None, reason="needs the package metaworld"
)


def play(expert: MetaworldScript, count: int, **kwargs: Any) -> Returns:
    spec = as_spec(expert.env_id, kwargs=kwargs)
    return evaluate_policies([expert], spec, count, expert.noise_scale == 0.0, progress=False)


def test_all_tasks_show_the_goal() -> None:
    ids = MetaworldBackend().ids()
    assert len(ids) == 50
    assert {"metaworld/Reach", "metaworld/PegInsertSide", BUTTON} <= set(ids)
    for env_id in ("metaworld/Reach", BUTTON):
        info = describe(as_spec(env_id))
        assert (info.obs_dim, info.action_dim, info.max_episode_steps) == (39, 4, 500)
    script = MetaworldScript(BUTTON)
    (played,) = rollout(
        [script], as_spec(BUTTON, kwargs=SHORT), 3, True, seed=0, record=True, progress=False
    ).episodes
    assert all((obs[:, 36:] != 0).any() for obs in played.obs)


def test_success_ends_the_episode_with_a_reward_of_one() -> None:
    script = MetaworldScript(BUTTON)
    (played,) = rollout(
        [script], as_spec(BUTTON, kwargs=SHORT), 6, True, seed=0, record=True, progress=False
    ).episodes
    for rewards, terminal, success in zip(
        played.rewards, played.terminal, played.success, strict=True
    ):
        assert len(rewards) < 80
        assert rewards[-1] == 1.0
        assert (rewards[:-1] == 0.0).all()
        assert terminal
        assert success == 1.0


def test_success_may_only_cut_the_episode_and_rewards_may_be_shaped() -> None:
    script = MetaworldScript(BUTTON)
    settings = SHORT | {"success_terminal": False, "reward_shaping": True}
    (played,) = rollout(
        [script], as_spec(BUTTON, kwargs=settings), 3, True, seed=0, record=True, progress=False
    ).episodes
    assert not any(played.terminal)
    assert all(success == 1.0 for success in played.success)
    assert all(len(rewards) < 80 for rewards in played.rewards)
    assert all(0.0 < rewards[0] < 10.0 for rewards in played.rewards)


def test_an_episode_without_success_is_cut_by_the_time_limit() -> None:
    script = MetaworldScript(BUTTON)
    script.act = lambda obs: torch.zeros(len(obs), 4, dtype=torch.float64)
    returns = play(script, 3, max_episode_steps=20)
    assert returns.lengths.tolist() == [[20, 20, 20]]
    assert returns.returns.tolist() == [[0.0, 0.0, 0.0]]
    assert returns.success == 0.0


def test_an_episode_depends_on_its_seed_alone() -> None:
    policy = LinearPolicy(0, 0.3, 39, 4)
    spec = as_spec(BUTTON, kwargs={"max_episode_steps": 30, "reward_shaping": True})
    few, many = (
        evaluate_policies([policy], spec, count, False, progress=False).returns for count in (3, 7)
    )
    assert np.array_equal(many[:, :3], few)
    assert len(set(many[0].tolist())) == 7


def test_noise_lengthens_the_script_of_fastifo() -> None:
    script = MetaworldScript(BUTTON)
    exact = play(script, 20, **SHORT)
    script.noise_scale = 1.0
    noisy = play(script, 20, **SHORT)
    assert exact.success == 1.0
    assert noisy.lengths.mean() > exact.lengths.mean() + 5


@needs_package
@pytest.mark.parametrize("task", ["Reach", "DrawerOpen", "PegInsertSide"])
def test_scripts_of_the_package_succeed(task: str) -> None:
    script = MetaworldScript(PREFIX + task)
    success = play(script, 5, max_episode_steps=250).success
    assert success is not None
    assert success >= 0.6


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        ("metaworld/Cofee", {}, "no task 'metaworld/Cofee'; did you mean"),
        ("metaworld/", {}, "no task"),
        ("metaworld/Reach-v3", {}, "did you mean 'metaworld/Reach"),
        (BUTTON, {"reward_shaping": 1}, "reward_shaping: expected true or false, found 1"),
        (BUTTON, {"success_terminal": "no"}, "success_terminal: expected true or false"),
        (BUTTON, {"sucess_terminal": True}, "did you mean 'success_terminal'"),
        (BUTTON, {"task_name": "reach-v3"}, "no setting task_name"),
    ],
)
def test_unknown_tasks_and_settings_are_named(
    env_id: str, kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        describe(as_spec(env_id, kwargs=kwargs))


def test_the_expert_of_a_task_is_found_by_its_id() -> None:
    expert = load_expert(BUTTON)
    assert isinstance(expert, MetaworldScript)
    assert expert.provenance() == {"file": "script CoffeeButton", "source": "fastifo, revision 1"}
    assert default_noise(BUTTON) == 0.1


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install --no-deps metaworld"):
        load_expert("metaworld/Reach")


@needs_package
def test_a_task_without_a_script_is_named() -> None:
    with pytest.raises(ValueError, match="no script for metaworld/Cofee"):
        load_expert("metaworld/Cofee")


def test_sets_of_metaworld_are_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FASTIFO_CACHE", str(tmp_path))
    end = "demos=4,env.max_episode_steps=60"
    mixture = fastifo.load(f"bimodal:{BUTTON}/expert=2,total=5,{end}", progress=False)
    noisy = fastifo.load(f"sibench:{BUTTON}/background_noise=1,episodes=5,{end}", progress=False)
    for dataset in (mixture, noisy):
        assert dataset.env_id == BUTTON
        assert dataset.env_kwargs["max_episode_steps"] == 60
        assert dataset.background.num_episodes == 5
        assert dataset.expert is not None
        assert dataset.expert.num_episodes == 4
        assert dataset.expert.reward is None
        assert dataset.expert.terminal.sum() == 4
    assert mixture.background.lengths[:3].tolist() == [60] * 3  # random actions do not succeed
    returns = mixture.background.returns()
    assert returns is not None
    assert returns.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
