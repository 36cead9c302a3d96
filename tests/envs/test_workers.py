"""Environments in worker processes: equal results, and processes that die."""

import functools
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import own_envs
from fastifo.envs.backends.gymnasium import GymnasiumEnv
from fastifo.envs.evaluate import evaluate_policies
from fastifo.envs.lanes import LaneVector
from fastifo.envs.registry import describe
from fastifo.envs.returns import Returns
from fastifo.envs.rollout import collect
from fastifo.envs.spec import as_spec
from fastifo.envs.workers import WorkerLanes
from helpers import child_environment
from support import LinearPolicy

SCRIPT = """
import functools, sys

import own_envs
from fastifo.envs.backends.gymnasium import GymnasiumEnv
from fastifo.envs.spec import as_spec
from fastifo.envs.workers import WorkerLanes

print("script", flush=True)
make = functools.partial(GymnasiumEnv, as_spec(own_envs.Line))
lanes = WorkerLanes(make, 1, 1, needs_script=sys.argv[1] == "True")
print("played", lanes.info.obs_dim)
lanes.close()
"""

pytestmark = pytest.mark.slow


def play(env: Any, num_episodes: int, num_workers: int = 2, **k: Any) -> Returns:
    spec = as_spec(env, kwargs=k.pop("kwargs", None))
    info = describe(spec)
    policy = LinearPolicy(0, 0.5, info.obs_dim, info.action_dim)
    return evaluate_policies(
        [policy], spec, num_episodes, False, progress=False, num_workers=num_workers, **k
    )


def test_a_process_that_dies_loses_its_episode_and_the_others_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastifo.envs.backends.gymnasium.LANES", 1)
    alone = play(own_envs.Line, 12, 0)
    starts = [own_envs.Line().reset(seed=10_000 + e)[0][0] for e in range(12)]
    dies = np.array(starts) > 0.6
    assert 1 <= dies.sum() <= 3
    with pytest.warns(UserWarning, match=r"worker process \d+ died with exit code 7; its episodes"):
        played = play(own_envs.Dying, 12, kwargs={"place": 0.6})
    assert np.array_equal(np.isnan(played.returns[0]), dies)
    assert np.array_equal(played.returns[0][~dies], alone.returns[0][~dies])
    assert played.num_lost == dies.sum()
    assert f"{dies.sum()} episodes lost" in str(played)
    assert played.mean == pytest.approx(alone.returns[0][~dies].mean())
    assert np.isfinite(played.interval).all()
    assert played.success == pytest.approx(alone.successes[0][~dies].mean())  # type: ignore[index]


def test_lost_episodes_are_left_out_of_collected_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastifo.envs.backends.gymnasium.LANES", 1)
    spec = as_spec(own_envs.Dying, kwargs={"place": 0.6})
    policy = LinearPolicy(0, 0.5, 2, 1)
    with pytest.warns(UserWarning, match=r"start seeds .* are lost"):
        episodes = collect(
            policy, spec, 12, False, seed=0, title="t", num_workers=2, progress=False
        )
    assert 9 <= episodes.num_episodes < 12
    first = episodes.start[:-1].numpy() + np.arange(episodes.num_episodes)
    assert float(episodes.obs[first][:, 0].max()) < 0.6


@pytest.mark.filterwarnings("ignore:.*are lost, the others continue")
def test_processes_that_always_die_end_the_evaluation() -> None:
    with pytest.raises(ChildProcessError, match=r"own_envs:Dying: worker process .* in a row"):
        play(own_envs.Dying, 200, kwargs={"place": -2.0})
    with pytest.raises(ChildProcessError, match="every episode was lost"):
        play(own_envs.Dying, 2, 1, kwargs={"place": -2.0})


def test_a_killed_process_is_replaced() -> None:
    make = functools.partial(GymnasiumEnv, as_spec(own_envs.Line))
    vector = LaneVector(WorkerLanes(make, 2, 2))
    try:
        vector.start([1, 2, 3])
        rows = 0
        while rows < 2:
            rows += len(vector.recv().slots)
        first = vector.lanes.workers[0].process  # type: ignore[attr-defined]
        os.kill(first.pid, signal.SIGKILL)
        vector.send(np.arange(2), np.zeros((2, 1)))
        lost: list[int] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            while not lost:
                step = vector.recv()
                lost += step.slots[step.lost].tolist()
        assert lost == [0]
        assert "exit code -9 (-9 often means out of memory)" in str(caught[0].message)
        assert vector.lanes.workers[0].process is not first  # type: ignore[attr-defined]
    finally:
        vector.close()


def test_errors_of_the_environment_come_back_from_its_process() -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'my own bug'") as caught:
        play(own_envs.Failing, 3)
    assert caught.value.__notes__ == ["raised by own_envs:Failing in step 1 of an episode"]
    with pytest.raises(TypeError, match="found a tuple of 4"):
        play(own_envs.OldInterface, 3)
    with pytest.raises(ValueError, match="observation 0 is nan"):
        play(own_envs.Diverging, 3)


def test_processes_do_not_run_a_script_that_they_do_not_need(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for needs_script, count in ((False, 1), (True, 2)):
        done = subprocess.run(
            [sys.executable, script, str(needs_script)], capture_output=True, text=True,
            env=child_environment(), check=False,
        )  # fmt: skip
        assert done.stdout.count("script") == count
        if needs_script:
            assert "it imports your script, which must do its work below if __name__" in done.stderr
        else:
            assert "played 2" in done.stdout, done.stderr


def test_a_process_that_is_killed_at_its_start_does_not_blame_the_script() -> None:
    with pytest.raises(ChildProcessError, match=r"exit code -9 .* creating the environment$"):
        WorkerLanes(own_envs.make_killed, 1, 1)


def test_what_cannot_be_sent_to_a_process_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot be pickled for a worker process"):
        play(lambda: own_envs.Line(20), 3)
    assert play(lambda: own_envs.Line(20), 3, 0).returns.shape == (1, 3)
