"""Environment settings and reference returns of a dataset reach evaluation, and stay in files."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastifo
from fastifo.envs.backends.envpool import split_settings
from fastifo.envs.registry import describe
from fastifo.envs.returns import Returns
from fastifo.envs.scores import normalized_score, score_remark
from fastifo.envs.spec import as_spec

SMALL: dict[str, Any] = {"num_updates": 2, "hidden_sizes": (8,), "progress": False, "device": "cpu"}


@pytest.mark.parametrize(
    ("env_id", "settings", "known", "unknown"),
    [
        ("Hopper-v5", {"max_episode_steps": 1000}, {}, {}),  # EnvPool's own
        ("Hopper-v5", {"max_episode_steps": 70}, {"max_episode_steps": 70}, {}),
        ("Hopper-v5", {"max_episode_steps": 0}, {}, {"max_episode_steps": 0}),
        ("Hopper-v5", {"max_episode_steps": 2**40}, {}, {"max_episode_steps": 2**40}),
        ("Hopper-v5", {"reset_noise_scale": 0}, {"reset_noise_scale": 0.0}, {}),
        (
            "Hopper-v5", {"terminate_when_unhealthy": False},
            {"terminate_when_unhealthy": False}, {},
        ),
        ("Hopper-v5", {"terminate_when_unhealthy": 0.5}, {}, {"terminate_when_unhealthy": 0.5}),
        (
            "Hopper-v5", {"healthy_angle_range": [-0.5, 0.5]},
            {"healthy_angle_min": -0.5, "healthy_angle_max": 0.5}, {},
        ),
        ("Hopper-v5", {"healthy_z_range": [0.5, float("inf")]}, {"healthy_z_min": 0.5}, {}),
        ("Hopper-v5", {"healthy_z_range": [0.5, 2.0]}, {}, {"healthy_z_range": [0.5, 2.0]}),
        (
            "Hopper-v5", {"xml_file": "/etc/passwd", "render_mode": "human", "seed": 3},
            {}, {"xml_file": "/etc/passwd", "render_mode": "human", "seed": 3},
        ),
        ("Pendulum-v1", {"g": 9.81}, {}, {"g": 9.81}),
    ],
)  # fmt: skip
def test_settings_that_envpool_knows_are_told_from_others(
    env_id: str, settings: dict[str, Any], known: dict[str, Any], unknown: dict[str, Any]
) -> None:
    assert split_settings(env_id, settings) == (known, unknown)
    info = describe(as_spec(env_id, settings=settings))
    assert info.unused == tuple(unknown)
    own = describe(as_spec(env_id)).max_episode_steps
    assert info.max_episode_steps == known.get("max_episode_steps", own)


def dataset(**fields: Any) -> fastifo.Dataset:
    rng = np.random.default_rng(0)
    made = fastifo.Dataset.from_episodes(
        [
            {"obs": rng.normal(size=(31, 17)), "action": rng.uniform(-1, 1, (30, 6)),
             "reward": np.ones(30)}
            for _ in range(3)
        ],
        env_id="HalfCheetah-v5",
    )  # fmt: skip
    return dataclasses.replace(made, **fields)


def test_a_run_plays_with_the_settings_of_its_dataset_also_from_its_folder(tmp_path: Path) -> None:
    settings = {"max_episode_steps": 30, "forward_reward_weight": 0.0, "unheard_of": [1]}
    data = dataset(env_kwargs=settings, reference_returns=(-30.0, 70.0))
    run = fastifo.train("bc", data, out=tmp_path / "run", **SMALL)
    played = run.evaluate(3, progress=False)
    assert played.lengths.tolist() == [[30, 30, 30]]
    assert played.mean < 0  # the control cost alone
    assert played.score == pytest.approx(played.mean + 30)
    assert ", score " in str(played)
    assert "D4RL" not in str(played)
    again = fastifo.open_run(tmp_path / "run")
    assert again.env_kwargs == settings
    repeated = again.evaluate(3, progress=False)
    np.testing.assert_array_equal(repeated.returns, played.returns)
    assert repeated.score == played.score
    assert Returns.load(tmp_path / "run/returns.npz").reference == (-30.0, 70.0)
    run.save(tmp_path / "copy")
    assert fastifo.open_run(tmp_path / "copy").reference_returns == (-30.0, 70.0)


def test_a_run_folder_without_settings_opens(tmp_path: Path) -> None:
    fastifo.train("bc", dataset(), out=tmp_path, **SMALL)
    config = json.loads((tmp_path / "config.json").read_text())
    old = {k: v for k, v in config.items() if k not in ("env_kwargs", "reference_returns")}
    (tmp_path / "config.json").write_text(json.dumps(old))
    manifest = json.loads((tmp_path / "checkpoint/manifest.json").read_text())
    for name in ("sha256", "config_sha256", "metrics_sha256"):  # older folders have no hashes
        del manifest[name]
    (tmp_path / "checkpoint/manifest.json").write_text(json.dumps(manifest))
    run = fastifo.open_run(tmp_path)
    assert (run.env_kwargs, run.reference_returns) == ({}, None)
    fastifo.train("bc", dataset(), out=tmp_path, **SMALL | {"num_updates": 3})


def test_settings_survive_packs_and_datasets_of_one_run_share_them(tmp_path: Path) -> None:
    data = dataset(env_kwargs={"max_episode_steps": 30}, reference_returns=(0.0, 9.0))
    data.save(tmp_path / "a.fastifo")
    again = fastifo.load(tmp_path / "a.fastifo")
    assert again == data
    assert again.reference_returns == (0.0, 9.0)
    assert "HalfCheetah-v5 with max_episode_steps=30" in again.summary()
    with pytest.raises(ValueError, match=r"dataset 1: expected env_kwargs {'max_episode_steps'"):
        fastifo.train("bc", [data, dataset()], **SMALL)


def test_improvement_plays_with_the_settings_and_bounds(tmp_path: Path) -> None:
    data = dataset(env_kwargs={"max_episode_steps": 20})
    assert data.background.action is not None
    data.background.action.mul_(0.5)
    scaled = fastifo.Dataset.from_episodes(
        [
            {"obs": data.background.obs[31 * i : 31 * (i + 1)],
             "action": 0.5 * data.background.action[30 * i : 30 * (i + 1)],
             "reward": np.ones(30)}
            for i in range(3)
        ],
        env_id="HalfCheetah-v5", action_low=-0.5, action_high=0.5,
    )  # fmt: skip
    scaled = dataclasses.replace(scaled, env_kwargs=data.env_kwargs)
    fastifo.improve(
        "bc", scaled, scaled, iterations=1, episodes=2, out=tmp_path,
        **{k: v for k, v in SMALL.items() if k != "progress"}, progress=False,
    )  # fmt: skip
    (path,) = tmp_path.rglob("played.fastifo")
    played = fastifo.load(path)
    assert played.background.lengths.tolist() == [20, 20]
    assert played.action_low is not None
    assert played.action_low.tolist() == [-0.5] * 6
    assert played.background.action is not None
    # The policy's actions within [-0.5, 0.5] are mapped to [-1, 1].
    assert float(played.background.action.abs().max()) > 0.6


@pytest.mark.parametrize(
    ("task", "low", "high", "remark"),
    [
        ("AdroitHandPen-v1", 96.262799, 3076.8331017826877, "100 steps"),
        ("AdroitHandDoor-v1", -56.512833, 2880.5693087298737, "dense rewards"),
        ("AdroitHandHammer-v1", -274.856578, 12794.134825156867, "dense rewards"),
        ("AdroitHandRelocate-v1", -6.425911, 4233.877797728884, "dense rewards"),
    ],
)
def test_adroit_has_d4rls_reference_returns(
    task: str, low: float, high: float, remark: str
) -> None:
    assert normalized_score(task, low) == pytest.approx(0.0)
    assert normalized_score(task, high) == pytest.approx(100.0)
    assert normalized_score(task, 5.0, (0.0, 10.0)) == pytest.approx(50.0)
    assert f"the score of {task} is approximate: " in score_remark(task)
    assert remark in score_remark(task)
    assert score_remark(task, (0.0, 10.0)) == ""
