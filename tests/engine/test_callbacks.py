"""The protocol of callbacks: what they are given, what they may return, and how they stop a run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastifo
from engine.runs import assert_equal_bits, train
from helpers import random_dataset


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl` that callbacks wrote."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["stage"] == "callback"]


class Recorder:
    """A callback with everything that the protocol offers."""

    every = 4

    def __init__(self) -> None:
        self.checked = 0
        self.calls: list[tuple[int, tuple[int, ...]]] = []

    def check(self, run: fastifo.Run) -> None:
        self.checked += 1

    def __call__(self, run: fastifo.Run, update: int, members: Any) -> dict[str, Any]:
        self.calls.append((update, tuple(members)))
        assert run.policy(members[0]).act(np.zeros(3)).shape == (2,)
        return {"norm": np.arange(len(members)), "half": [0.5] * len(members)}


@pytest.mark.parametrize("engine", ["torch", "native"])
def test_a_callback_is_called_every_few_updates_and_after_the_last(
    tmp_path: Path, engine: str
) -> None:
    recorder = Recorder()
    fields: dict[str, Any] = {"learning_rate": [0.1, 0.2], "activation": "relu", "engine": engine}
    train("bc", random_dataset(), 10, callbacks=[recorder], out=tmp_path / "run", **fields)
    assert recorder.checked == 1
    assert recorder.calls == [(4, (0, 1)), (8, (0, 1)), (10, (0, 1))]
    logged = rows(tmp_path / "run")
    assert [(r["update"], r["member"], r["norm"], r["half"]) for r in logged] == [
        (update, member, member, 0.5) for update in (4, 8, 10) for member in (0, 1)
    ]


def test_each_population_has_its_own_calls() -> None:
    recorder = Recorder()
    train("bc", random_dataset(), 4, callbacks=[recorder], activation=["relu", "elu"])
    assert recorder.calls == [(4, (0,)), (4, (1,))]


@pytest.mark.parametrize("engine", ["torch", "native"])
@pytest.mark.parametrize("no", [False, np.bool_(False)])
def test_false_stops_with_a_checkpoint_and_the_same_call_continues(
    tmp_path: Path, engine: str, no: Any
) -> None:
    others: list[int] = []

    def stop(run: fastifo.Run, update: int, members: Any) -> Any:
        return no if update == 6 else None

    stop.every = 3  # type: ignore[attr-defined]
    fields: dict[str, Any] = {"out": tmp_path / "run", "engine": engine, "log_every": 4}
    both = [stop, lambda run, update, members: others.append(update)]
    stopped = train("bc", random_dataset(), 10, callbacks=both, **fields)
    assert stopped.updates_done == 6
    assert others == [4]
    assert_equal_bits(fastifo.open_run(tmp_path / "run"), stopped)
    continued = train("bc", random_dataset(), 10, callbacks=both, **fields)
    assert continued.updates_done == 10
    assert others == [4, 8, 10]
    whole = train("bc", random_dataset(), 10, **fields | {"out": tmp_path / "whole"})
    assert_equal_bits(continued, whole)
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("run", "whole")]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("result", [None, True, np.bool_(True), {}])
def test_other_results_without_numbers_go_on(result: Any) -> None:
    run = train("bc", random_dataset(), 6, log_every=2, callbacks=[lambda r, u, m: result])
    assert run.updates_done == 6


def test_a_callback_may_stop_a_run_without_a_folder() -> None:
    run = train("bc", random_dataset(), 6, log_every=2, callbacks=[lambda r, u, m: False])
    assert run.updates_done == 2


@pytest.mark.parametrize(("value", "logged"), [(float("nan"), None), (None, None), (2, 2.0)])
def test_missing_numbers_are_null_in_the_log(tmp_path: Path, value: Any, logged: Any) -> None:
    train(
        "bc", random_dataset(), 3, out=tmp_path / "run", callbacks=[lambda r, u, m: {"x": [value]}]
    )
    assert [row["x"] for row in rows(tmp_path / "run")] == [logged]


@pytest.mark.parametrize(
    "result",
    [{"x": [1.0, 2.0]}, {"x": 1.0}, {"x": ["a"]}, {"update": [1.0]}, {3: [1.0]}, [1.0], "no", 0],
)
def test_a_wrong_result_is_named(result: Any) -> None:
    def mine(run: Any, update: int, members: Any) -> Any:
        return result

    with pytest.raises(TypeError, match=r"callback mine: expected None, False, or a dict .* 1 num"):
        train("bc", random_dataset(), 3, callbacks=[mine])
