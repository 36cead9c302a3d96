"""Environments that stay open between rollouts."""

import multiprocessing
from typing import Any

import numpy as np
import pytest

import fastifo
import own_envs
from envs.test_own_envs import line_dataset
from fastifo.envs.evaluate import evaluate_policies
from fastifo.envs.kept import keep_environments
from fastifo.envs.spec import as_spec
from support import LinearPolicy

TINY: dict[str, Any] = {"num_updates": 2, "hidden_sizes": (8,), "num_bins": 5, "progress": False}


def play(env: Any = own_envs.Line, num_episodes: int = 4, **kwargs: Any) -> np.ndarray[Any, Any]:
    policy, spec = LinearPolicy(0, 0.5, 2, 1), as_spec(env, kwargs=kwargs)
    played = evaluate_policies([policy], spec, num_episodes, False, num_workers=2, progress=False)
    return played.returns


def pids() -> set[int | None]:
    return {process.pid for process in multiprocessing.active_children()}


def test_a_rollout_of_the_same_environment_uses_the_same_processes() -> None:
    expected = play()
    before = pids()
    with keep_environments():
        np.testing.assert_array_equal(play(), expected)
        first = pids() - before
        assert len(first) == 2
        with keep_environments():  # no further effect
            np.testing.assert_array_equal(play(), expected)
        assert pids() - before == first
        assert (play(limit=3) != expected).all()  # another environment
        second = pids() - before
        assert len(second) == 2
        assert not first & second
    assert pids() == before


def test_environments_of_a_failed_rollout_are_closed() -> None:
    before = pids()
    with keep_environments():
        with pytest.raises(ValueError, match="observation 0 is nan"):
            play(own_envs.Diverging)
        assert pids() == before
        play()
    assert pids() == before


def test_evaluations_during_training_share_their_processes() -> None:
    before, seen = pids(), []

    def evaluate(run: fastifo.Run, update: int, members: Any) -> None:
        run.evaluate(2, num_workers=2, progress=False)
        seen.append(pids() - before)

    evaluate.every = 1  # type: ignore[attr-defined]
    fastifo.train("bc", line_dataset(), env=own_envs.Line, callbacks=[evaluate], **TINY)
    assert len(seen) == 2
    assert seen[0] == seen[1] != set()
    assert pids() == before
