"""Runs that stop, resume, are reopened, or fail: nothing is lost and nothing changes."""

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
import own_envs
from engine.runs import ALL, assert_equal_bits, train
from fastifo.data.dataset import Dataset
from fastifo.engine.checkpoint import Checkpoints
from fastifo.engine.metrics import read_metrics
from fastifo.engine.run_folder import open_folder
from helpers import random_dataset


@pytest.mark.parametrize("name", ALL)
def test_resuming_equals_never_stopping_bit_for_bit(name: str, tmp_path: Path) -> None:
    uninterrupted = train(
        name, random_dataset(), 40, out=tmp_path / "uninterrupted", checkpoint_every=1000
    )

    def stop_at_23(run: Any, update: int, members: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    stop_at_23.every = 23  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt, match="a checkpoint was written"):
        train(name, random_dataset(), 40, out=tmp_path / "cut", callbacks=[stop_at_23])
    resumed = train(name, random_dataset(), 40, out=tmp_path / "cut")
    assert_equal_bits(uninterrupted, resumed)
    assert_equal_bits(uninterrupted, fastifo.open_run(tmp_path / "cut"))
    rows = [(tmp_path / part / "metrics.jsonl").read_text() for part in ("uninterrupted", "cut")]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_a_killed_process_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from engine.runs import train
from helpers import random_dataset
def die(run, update, members):
    os._exit(9)
die.every = 27
train("vfo_disc", random_dataset(), 40, out={str(tmp_path / "cut")!r}, checkpoint_every=9,
      callbacks=[die])
"""
    code = subprocess.run([sys.executable, "-c", script], check=False).returncode
    assert code == 9
    resumed = train("vfo_disc", random_dataset(), 40, out=tmp_path / "cut", checkpoint_every=9)
    uninterrupted = train(
        "vfo_disc", random_dataset(), 40, out=tmp_path / "uninterrupted", checkpoint_every=9
    )
    assert_equal_bits(uninterrupted, resumed)
    rows = [(tmp_path / part / "metrics.jsonl").read_text() for part in ("uninterrupted", "cut")]
    assert rows[0] == rows[1]


def test_an_interrupt_in_the_last_update_is_not_lost(tmp_path: Path) -> None:
    def stop(run: Any, update: int, members: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    stop.every = 1000  # type: ignore[attr-defined]
    fields = {"hidden_sizes": [(4,), (5,)], "out": tmp_path / "run"}
    with pytest.raises(KeyboardInterrupt, match="stopped at update 10"):
        train("bc", random_dataset(), 10, callbacks=[stop], **fields)
    assert_equal_bits(
        train("bc", random_dataset(), 10, **fields),
        train("bc", random_dataset(), 10, hidden_sizes=fields["hidden_sizes"]),
    )


def test_a_signal_ends_a_callback_immediately_and_it_is_called_again_on_resume(
    tmp_path: Path,
) -> None:
    """Also after the last update."""
    events: list[tuple[int, str]] = []

    def interrupt_twice(run: Any, update: int, members: Any) -> dict[str, list[float]]:
        events.append((update, "begin"))
        if len(events) in (3, 8):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        events.append((update, "end"))
        return {"value": [float(update)]}

    interrupt_twice.every = 10  # type: ignore[attr-defined]
    fields: dict[str, Any] = {"callbacks": [interrupt_twice], "out": tmp_path / "run"}
    for stopped_at in (20, 40):
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt, match=f"stopped at update {stopped_at}; a check"):
            train("bc", random_dataset(), 40, **fields)
        assert time.monotonic() - started < 25
    train("bc", random_dataset(), 40, **fields)
    train("bc", random_dataset(), 40, **fields)  # no callback is left to call
    assert [update for update, event in events if event == "end"] == [10, 20, 30, 40]
    rows = read_metrics(tmp_path / "run/metrics.jsonl")
    assert [row["value"] for row in rows if row["stage"] == "callback"] == [10, 20, 30, 40]


def test_a_checkpoint_between_logs_never_holds_diverged_weights(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"log_every": 1000, "checkpoint_every": 10, "out": tmp_path / "run"}
    train("vfo_bin", random_dataset(), 20, **fields)

    def weights() -> Any:
        return json.loads((tmp_path / "run/checkpoint/manifest.json").read_text())["files"]

    before = weights()
    run = fastifo.open_run(tmp_path / "run")
    original = type(run.learners[0]).update

    def diverging(self: Any, batch: Any) -> Any:
        return {name: value * math.nan for name, value in original(self, batch).items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(run.learners[0]), "update", diverging)
        with (
            pytest.raises(FloatingPointError, match="no member's losses are finite"),
            pytest.warns(UserWarning, match="is nan by update 30"),
        ):
            train("vfo_bin", random_dataset(), 60, engine="torch", **fields)
    assert weights() == before


def test_other_action_bounds_are_another_run(tmp_path: Path) -> None:
    def bounded(width: float) -> Dataset:
        episode = {"obs": torch.zeros(9, 3), "action": torch.full((8, 2), 0.5 * width)}
        return Dataset.from_episodes([episode], action_low=-width, action_high=width)

    train("bc", bounded(1.0), 5, out=tmp_path)
    with pytest.raises(ValueError, match="differs in action_bounds"):
        train("bc", bounded(5.0), 5, out=tmp_path)


ENDLESS = {"terminate_when_unhealthy": False}  # Hopper's episodes then last as long as they may


def test_other_settings_of_the_environment_are_another_run(tmp_path: Path) -> None:
    data = random_dataset(env_id="Hopper-v4")
    train("bc", data, 5, out=tmp_path, env_kwargs=ENDLESS)
    changed: tuple[dict[str, Any], ...] = ({"terminate_when_unhealthy": True}, {"frame_skip": 2})
    for other in (*changed, ENDLESS | {"max_episode_steps": 5}, None):
        with pytest.raises(ValueError, match=r"differs in env_kwargs.*evaluate --env-id --env-arg"):
            train("bc", data, 5, out=tmp_path, env="Hopper-v4", env_kwargs=other)
    assert fastifo.open_run(tmp_path).env_kwargs == ENDLESS


@pytest.mark.parametrize("env", ["Hopper-v4", own_envs.Line, "own_envs:Line"])
def test_settings_that_an_evaluation_recorded_are_kept(tmp_path: Path, env: Any) -> None:
    """Those that it added, and those that it changed."""
    if env == "Hopper-v4":
        data, name = random_dataset(env_id=env), "max_episode_steps"
    else:
        episode = {"obs": torch.zeros(9, 2), "action": torch.zeros(8, 1)}
        data, name = Dataset.from_episodes([episode], action_low=-2.0, action_high=2.0), "limit"
    for step, given in enumerate(({}, {name: 8})):
        fields: dict[str, Any] = {"out": tmp_path / str(step), "env": env, "env_kwargs": given}
        train("bc", data, 5, **fields).evaluate(2, env_kwargs={name: 5}, progress=False)
        for kwargs in (given, {name: 5}, given):
            run = train("bc", data, 10, **fields | {"env_kwargs": kwargs})
            assert run.env_kwargs == {name: 5}
            assert run.evaluate(2, progress=False).lengths.max() <= 5
        assert fastifo.open_run(tmp_path / str(step)).env_kwargs == {name: 5}


def test_a_folder_of_an_earlier_version_takes_the_settings(tmp_path: Path) -> None:
    data = random_dataset(env_id="Hopper-v4")
    train("bc", data, 5, out=tmp_path)
    content, checkpoints = open_folder(tmp_path)
    del content["env_kwargs"], content["given_env_kwargs"]
    checkpoints.write_config(content)
    assert train("bc", data, 5, out=tmp_path, env_kwargs=ENDLESS).env_kwargs == ENDLESS


def test_a_larger_num_updates_continues_the_run(tmp_path: Path) -> None:
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
            action = reopened.policy(member).act(obs, deterministic)
            assert torch.equal(action, run.policy(member).act(obs, deterministic))
    assert not list((tmp_path / "run").rglob("*.pkl"))


def test_when_every_member_diverges_training_stops_and_the_last_checkpoint_is_kept(
    tmp_path: Path,
) -> None:
    train("vfo_bin", random_dataset(), 10, out=tmp_path)
    before = sorted((tmp_path / "checkpoint").iterdir())
    poisoned: Any = fastifo.open_run(tmp_path).learners[0]
    with torch.no_grad():
        poisoned.value.layers[0].bias.fill_(math.nan)
    path = next(p for p in before if p.suffix == ".safetensors")
    checkpoints = Checkpoints(tmp_path / "checkpoint")
    checkpoints.save("0-train", poisoned, {}, checkpoints.metrics_bytes)
    kept = path.read_bytes()
    with (
        pytest.warns(UserWarning, match="lower learning_rate"),
        pytest.raises(FloatingPointError, match="no member's losses are finite"),
    ):
        train("vfo_bin", random_dataset(), 30, out=tmp_path)
    assert path.read_bytes() == kept
    assert sorted((tmp_path / "checkpoint").iterdir()) == before


def test_standardised_observations_survive_reopening(tmp_path: Path) -> None:
    dataset = random_dataset()
    dataset.background.obs.mul_(30.0).add_(100.0)
    run = train("bc", dataset, standardize_obs=True, out=tmp_path / "run")
    reopened = fastifo.open_run(tmp_path / "run")
    for opened in (run, reopened):
        encoded = opened.learners[0].encoder(dataset.background.obs)
        assert float(encoded[:, 1::5].std()) > 0.05  # the 0.1 scale is not saturated
    x = dataset.background.obs[None]
    learners: list[Any] = [reopened.learners[0], run.learners[0]]
    actual, expected = (each.policy.log_probs(each.encoder(x)) for each in learners)
    assert torch.equal(actual, expected)


def test_training_time_adds_up_over_processes_without_callbacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_s() -> float:
        manifest = json.loads((tmp_path / "run/checkpoint/manifest.json").read_text())
        return float(manifest["train_s"])

    waited = [0.0]
    real = time.monotonic
    monkeypatch.setattr("fastifo.engine.loop.time.monotonic", lambda: real() + sum(waited))

    def slow(run: Any, update: int, members: Any) -> None:
        waited.append(1000.0)

    slow.every = 1000  # type: ignore[attr-defined]
    train("bc", random_dataset(), 10, out=tmp_path / "run", callbacks=[slow])
    first = train_s()
    assert 0 < first < 1000.0
    train("bc", random_dataset(), 20, out=tmp_path / "run")
    assert train_s() > first
