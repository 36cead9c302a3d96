"""One process at a time writes to a run folder."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastifo
from fastifo.utils.locks import LOCK, folder_lock
from helpers import SMALL, random_dataset
from reliability.damage import make_run

TESTS = str(Path(__file__).parents[1])
HOLD = """
import sys, time
sys.path.insert(0, {tests!r})
from reliability.damage import make_run
def wait(run, update, members):
    print("training", flush=True)
    time.sleep(600)
wait.every = 3
make_run({folder!r}, callbacks=[wait])
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that trains in the folder `run`."""
    code = HOLD.format(tests=TESTS, folder=str(tmp_path / "run"))
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "training\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_naming_the_first(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    rows = (tmp_path / "run/metrics.jsonl").read_bytes()
    for resume in (True, False):
        with pytest.raises(OSError, match=rf"run: in use by process {holder.pid} .* since "):
            make_run(tmp_path / "run", resume=resume)
    with pytest.raises(OSError, match=rf"in use by process {holder.pid}"):
        fastifo.relabel("seabo", random_dataset(), out=tmp_path / "run", progress=False, **SMALL)
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == rows
    holder.kill()
    holder.wait()
    make_run(tmp_path / "run")  # the lock ended with the process
    assert not (tmp_path / "run" / LOCK).exists()
    rows_of = [
        json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    ]
    keys = [(row["stage"], row["update"], row["member"]) for row in rows_of]
    assert len(keys) == len(set(keys))


def test_a_lock_file_that_a_dead_process_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("process 1 (x) on y since z")
    with folder_lock(tmp_path):
        assert f"process {os.getpid()}" in (tmp_path / LOCK).read_text()
    assert not (tmp_path / LOCK).exists()


def test_two_threads_of_a_process_exclude_each_other(tmp_path: Path) -> None:
    failures = []

    def second() -> None:
        try:
            with folder_lock(tmp_path):
                pass
        except OSError as error:
            failures.append(str(error))

    with folder_lock(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(failures) == 1
    second()
    assert len(failures) == 1


def test_an_interrupted_training_releases_its_lock(tmp_path: Path) -> None:
    def interrupt(run: fastifo.Run, update: int, members: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        make_run(tmp_path / "run", callbacks=[interrupt])
    assert not (tmp_path / "run" / LOCK).exists()
    make_run(tmp_path / "run")


def test_a_run_can_be_opened_while_another_process_trains_it(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    with pytest.raises(FileNotFoundError, match="no weights of population 0"):
        fastifo.open_run(tmp_path / "run")  # there are none yet; the lock does not matter


def test_improving_locks_its_folder(tmp_path: Path) -> None:
    dataset = random_dataset(env_id="Hopper-v4")
    with folder_lock(tmp_path), pytest.raises(OSError, match="in use by process"):
        fastifo.improve(
            "bc", dataset, dataset, iterations=1, episodes=1, out=tmp_path, progress=False,
            num_updates=2, **SMALL,
        )  # fmt: skip


@pytest.mark.parametrize("obstacle", ["folder", "link", "loop"])
def test_what_is_in_the_place_of_a_lock_is_named(tmp_path: Path, obstacle: str) -> None:
    make_run(tmp_path / "run")
    lock, other = tmp_path / "run" / LOCK, tmp_path / "other"
    other.write_text("other")
    if obstacle == "folder":
        lock.mkdir()
    else:
        lock.symlink_to(other if obstacle == "link" else lock)
    with pytest.raises(OSError, match=rf"{LOCK}: could not be created as a lock .*; remove what"):
        make_run(tmp_path / "run", 20)
    assert other.read_text() == "other"


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match=r"link/\S+: could not be created as a lock .*another folder"):
        make_run(tmp_path / "link")


@pytest.mark.parametrize("waits", ["True", "False"])
def test_a_script_that_starts_itself_again_does_not_wait_for_itself(
    tmp_path: Path, waits: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, pathlib, sys\n"
        "from fastifo.utils.locks import folder_lock\n"
        f"with folder_lock(pathlib.Path({str(tmp_path / 'out')!r}), waits={waits}):\n"
        "    spawn = multiprocessing.get_context('spawn')\n"
        "    worker = spawn.Process(target=print, args=('work',))\n"
        "    worker.start()\n"
        "    worker.join()\n"
        "    print('exit code', worker.exitcode)\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "exit code 1\n"
    assert "put the code of the script under `if __name__ ==" in done.stderr
