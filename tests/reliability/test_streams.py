"""Nobody need read stderr: progress and warnings that cannot be written end nothing."""

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastifo
from fastifo.cli.main import main
from fastifo.utils import progress
from helpers import SMALL, random_dataset

TESTS = str(Path(__file__).parents[1])


class Stream:
    """A stand-in for stderr that fails in a chosen way."""

    def __init__(self, error: BaseException | None, terminal: Any = None) -> None:
        self.error, self.text = error, ""
        if terminal is not None:
            self.isatty = lambda: terminal

    def write(self, text: str) -> int:
        if self.error is not None:
            raise self.error
        self.text += text
        return len(text)

    def flush(self) -> None:
        if self.error is not None:
            raise self.error


class OnlyWrites:
    def write(self, text: str) -> int:
        return len(text)


def closed() -> Any:
    with open(os.devnull, "w") as stream:
        return stream


@pytest.mark.parametrize(
    "stream",
    [
        None,
        OnlyWrites(),
        object(),
        Stream(None),
        Stream(BrokenPipeError(32, "Broken pipe")),
        Stream(OSError(5, "Input/output error"), terminal=True),
        Stream(ValueError("I/O operation on closed file")),
        Stream(RuntimeError("a logger's own")),
        Stream(None, terminal=True),
        closed(),
    ],
)
def test_training_goes_on_whatever_stderr_is(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.0)
    dataset = random_dataset(env_id="Hopper-v4")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        run = fastifo.train(
            "vfo_disc", dataset, num_updates=5, disc_updates=3, log_every=1, **SMALL
        )
        assert run.evaluate(1).returns.shape == (1, 1)
    assert run.updates_done == 5


def test_a_terminal_that_was_closed_does_not_end_training(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    code = f"""
import sys, os
sys.path.insert(0, {TESTS!r})
from reliability.damage import make_run
print(sys.stderr.isatty(), flush=True)
sys.stdin.readline()
make_run({str(tmp_path / "run")!r}, 2000, progress=True)
"""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        stderr=theirs, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "True\n"
        os.close(ours)
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait() == 0
    assert fastifo.open_run(tmp_path / "run").updates_done == 2000


def test_a_warning_of_diverged_members_needs_no_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", closed())
            progress.warn("text")
            progress.say("text")
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="text"):
            progress.warn("text")


def test_a_command_prints_on_an_ascii_terminal(tmp_path: Path) -> None:
    random_dataset().save(tmp_path / "set.fastifo")
    done = subprocess.run(
        [sys.executable, "-m", "fastifo", "data", "inspect", str(tmp_path / "set.fastifo")],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "return" in done.stdout


@pytest.mark.parametrize(("stdout", "code"), [("pipe", 0), ("/dev/full", 2)])
def test_a_command_ends_its_work_where_stdout_cannot_be_written(
    tmp_path: Path, stdout: str, code: int
) -> None:
    random_dataset(env_id="Hopper-v4").save(tmp_path / "set.fastifo")
    command = [sys.executable, "-W", "ignore", "-u", "-m", "fastifo", "train", "bc"]
    flags = ["--num-updates", "2", "--hidden-sizes", "8", "--episodes", "1", "--out", "run"]
    if stdout == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open(stdout, os.O_WRONLY)
    done = subprocess.run(
        [*command, "--dataset", "set.fastifo", *flags],
        stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == code, done.stderr
    message = "fastifo: stdout: could not be written ([Errno 28] No space left on device)"
    assert (message in done.stderr) == (stdout != "pipe")
    assert "Broken pipe" not in done.stderr
    assert {"returns.npz", "returns-deterministic.npz"} <= {*os.listdir(tmp_path / "run")}


def test_an_interruption_without_a_reason_has_a_readable_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastifo.cli.data import Inspect

    def interrupt(command: Inspect) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Inspect, "main", interrupt)
    with pytest.raises(SystemExit) as caught, contextlib.suppress(KeyboardInterrupt):
        main(["data", "inspect", "x"])
    assert caught.value.code == 130
    assert capsys.readouterr().err == "fastifo: stopped; run the same command to continue\n"


@pytest.mark.parametrize("delay", [0.05, 0.6, 0.7, 1.5])  # also while EnvPool is loading
def test_ctrl_c_in_an_evaluation_stops_it(tmp_path: Path, delay: float) -> None:
    code = f"""
import os, signal, sys, threading
sys.path.insert(0, {TESTS!r})
from support import LinearPolicy
from fastifo.envs.evaluate import evaluate_policies
threading.Timer({delay}, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
while True:
    evaluate_policies([LinearPolicy()], "Hopper-v4", 500, False, progress=False)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert "KeyboardInterrupt" in done.stderr
    assert done.returncode != 0


@pytest.mark.parametrize("count", [10**9, 10**30, 0, -1, 1.5, True, "3", None])
def test_an_absurd_number_of_episodes_is_refused_at_once(count: Any) -> None:
    run = fastifo.train(
        "bc", random_dataset(env_id="Hopper-v4"), num_updates=1, progress=False, **SMALL
    )
    with pytest.raises(ValueError, match="num_episodes: expected"):
        run.evaluate(count, progress=False)
