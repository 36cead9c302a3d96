"""Trackers: every row reaches them once, and their errors never reach training."""

import json
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastifo
from cli.commands import run as run_command
from engine.runs import train
from fastifo.callbacks import Log
from fastifo.engine import log
from helpers import random_dataset


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars of TensorBoard's files in a folder, as its own reader gives them."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard"
    )
    reader = accumulator.EventAccumulator(str(folder))
    reader.Reload()
    return {
        tag: [(event.step, event.value) for event in reader.Scalars(tag)]
        for tag in reader.Tags()["scalars"]
    }


def logged(folder: Path) -> dict[int, dict[str, list[tuple[int, float]]]]:
    """The same by member, from `metrics.jsonl`."""
    members: dict[int, dict[str, list[tuple[int, float]]]] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        stage, update, member = (row.pop(name) for name in ("stage", "update", "member"))
        for name, value in row.items():
            if value is not None:
                tags = members.setdefault(member, {})
                tags.setdefault(f"{stage}/{name}", []).append((update, float(np.float32(value))))
    return members


class StoppedError(Exception):
    """Ends training from a callback."""


def count(run: fastifo.Run, update: int, members: Any) -> dict[str, list[int]]:
    return {"count": [update + member for member in members]}


def test_tensorboard_has_every_row_once_even_after_an_interruption(tmp_path: Path) -> None:
    out = tmp_path / "run"

    def stop(run: fastifo.Run, update: int, members: Any) -> None:
        if update == 15:
            raise StoppedError

    fields: dict[str, Any] = {
        "seeds": [3, 4], "log_every": 5, "checkpoint_every": 10, "out": out, "disc_updates": 10,
    }  # fmt: skip
    with pytest.raises(StoppedError):
        train("vfo_disc", random_dataset(), 20, callbacks=[Log("tensorboard"), stop], **fields)
    train("vfo_disc", random_dataset(), 20, callbacks=[count, Log("tensorboard")], **fields)
    expected = logged(out)
    assert len(expected[0]["train/policy_loss"]) == 4
    assert expected[1]["callback/count"] == [(15, 16.0), (20, 21.0)]
    for member, seed in enumerate((3, 4)):
        found = events(out / f"tensorboard/member-{member}-seed-{seed}")
        assert found == expected[member]


def test_a_finished_run_is_sent_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train("bc", random_dataset(), 20, out=out)
    for _ in range(2):  # a second time replaces the files
        status, printed, _ = run_command(capsys, "log", out, "--to", "tensorboard")
        assert (status, printed) == (0, "tensorboard  2 rows sent\n")
        assert events(out / "tensorboard") == logged(out)[0]


class StandIn(types.ModuleType):
    """A module with what `Log` uses of wandb and trackio."""

    def __init__(self, name: str, fails_at: str = "") -> None:
        super().__init__(name)
        self.fails_at = fails_at
        self.settings: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        self.finished = 0
        self.threads: set[int] = set()

    def init(self, **settings: Any) -> "StandIn":
        self.settings = settings
        self._call("init")
        return self

    def define_metric(self, name: str, step_metric: str) -> None:
        assert (self.__name__, name, step_metric) == ("wandb", "*", "update")

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        self._call("log")
        self.rows.append(values if step is None else values | {"update": step})

    def finish(self) -> None:
        self._call("finish")
        self.finished += 1

    def _call(self, name: str) -> None:
        self.threads.add(threading.get_ident())
        if name == self.fails_at:
            raise ConnectionError("no network")


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_rows_of_all_members_are_sent_together(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = StandIn(name)
    monkeypatch.setitem(sys.modules, name, module)
    out = tmp_path / "run" if name == "wandb" else None
    run = train(
        "bc", random_dataset(), 20, seeds=[0, 1], out=out, callbacks=[Log(name, project="mine")]
    )
    columns = run.metrics(frame=False)["policy_loss"]
    assert [row["update"] for row in module.rows] == [10, 20]
    sent = [row[f"train/policy_loss/{member}"] for row in module.rows for member in (0, 1)]
    assert sent == columns.tolist()
    assert module.finished == 1
    assert threading.get_ident() not in module.threads
    assert module.settings["project"] == "mine"
    assert module.settings["config"]["algorithm"] == "bc"
    if name == "wandb":
        assert module.settings["mode"] == "offline"
        assert module.settings["dir"] == str(out)
        assert module.settings["name"] == "run"


@pytest.mark.parametrize("fails_at", ["init", "log", "finish"])
def test_an_error_of_a_tracker_is_reported_once_and_training_goes_on(
    fails_at: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", StandIn("wandb", fails_at))
    run = train("bc", random_dataset(), 40, callbacks=[Log("wandb")])
    assert run.updates_done == 40
    error = capsys.readouterr().err
    assert error.count("fastifo: wandb: ConnectionError: no network. Training is not") == 1


def test_a_tracker_that_hangs_does_not_hold_up_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = threading.Event()
    module = StandIn("wandb")
    monkeypatch.setattr(module, "log", lambda values: release.wait(60))
    monkeypatch.setattr(log, "WAIT_S", 0.05)
    monkeypatch.setitem(sys.modules, "wandb", module)
    try:
        run = train("bc", random_dataset(), 20, callbacks=[Log("wandb")])
    finally:
        release.set()
    assert run.updates_done == 20
    assert "wandb: TimeoutError: no answer within 0 s" in capsys.readouterr().err


def test_what_cannot_work_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match=r"to: expected tensorboard, wandb, trackio, found 'mlflow"
    ):
        Log("mlflow")
    with pytest.raises(ValueError, match="tensorboard: expected a folder"):
        train("bc", random_dataset(), 2, callbacks=[Log("tensorboard")])
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"pip install 'fastifo\[wandb\]'"):
        train("bc", random_dataset(), 2, callbacks=[Log("wandb")], out=tmp_path / "run")


def test_metrics_are_a_frame_where_pandas_is(monkeypatch: pytest.MonkeyPatch) -> None:
    run = train("bc", random_dataset(), 20)
    frame = run.metrics()
    assert type(frame).__name__ == "DataFrame"
    columns = run.metrics(frame=False)
    assert isinstance(columns, dict)
    assert frame["policy_loss"].tolist() == columns["policy_loss"].tolist()
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert isinstance(run.metrics(), dict)
    with pytest.raises(ImportError, match="frame=True needs pandas"):
        run.metrics(frame=True)
