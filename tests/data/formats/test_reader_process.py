"""The process that reads HDF5 files: one for each process, and a new one after an interruption."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import fastifo
from data.formats.files import assert_same, episodes, write_d4rl
from fastifo.data.formats import hdf5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_d4rl(tmp_path / "small.hdf5", episodes())
    return tmp_path / "small.hdf5"


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A file that takes a second or two to read."""
    n = 1_000_000
    with h5py.File(tmp_path / "big.hdf5", "w") as f:
        noise = np.random.default_rng(0).normal(size=(n, 8)).astype("f4")
        f.create_dataset("observations", data=noise, compression="gzip")
        f["actions"], f["rewards"] = np.zeros((n, 2), "f4"), np.zeros(n, "f4")
        f["terminals"], f["timeouts"] = np.zeros(n, bool), np.arange(n) % 100 == 99
    return tmp_path / "big.hdf5"


def load(path: Path) -> fastifo.Dataset:
    return fastifo.load(f"d4rl:{path}", progress=False)


def work(path: Path) -> None:
    assert load(path).background.num_transitions > 0
    pid = hdf5._READER.process.pid if hdf5._READER.process else 0
    os._exit(0 if pid not in (0, int(os.environ["PARENTS_READER"])) else 1)


def wait_for(child: Any) -> int | None:
    child.start()
    child.join(60)
    code: int | None = child.exitcode
    if code is None:
        child.kill()
    return code


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
def test_a_forked_child_has_a_reader_of_its_own(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(path)
    assert hdf5._READER.process is not None
    monkeypatch.setenv("PARENTS_READER", str(hdf5._READER.process.pid))
    children = [multiprocessing.get_context("fork").Process(target=work, args=(path,))] * 1
    assert [wait_for(child) for child in children] == [0]
    assert_same(load(path).background, episodes())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_forked_while_a_file_is_read_does_not_hang(
    path: Path, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARENTS_READER", "1")
    reading = threading.Thread(target=load, args=(big,))
    reading.start()
    time.sleep(0.2)
    child = multiprocessing.get_context("fork").Process(target=work, args=(path,))
    assert wait_for(child) == 0
    reading.join()


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError, RuntimeError])
def test_a_load_that_was_cut_short_does_not_break_the_next(
    path: Path, big: Path, error: type[BaseException]
) -> None:
    def interrupt(*_: object) -> None:
        raise error("cut short")

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in (0.02, 0.05, 0.1):
            signal.setitimer(signal.ITIMER_REAL, delay)
            with pytest.raises(error, match="cut short"):
                load(big)
            assert_same(load(path).background, episodes())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_reader_that_was_killed_is_replaced(path: Path) -> None:
    load(path)
    assert hdf5._READER.process is not None
    os.kill(hdf5._READER.process.pid, signal.SIGKILL)
    time.sleep(0.1)
    assert_same(load(path).background, episodes())


def test_nothing_is_written_to_the_temporary_folder(path: Path, tmp_path: Path) -> None:
    code = f"import fastifo; fastifo.load('d4rl:{path}', progress=False)"
    environment = os.environ | {"TMPDIR": str(tmp_path / "missing"), "TMP": "", "TEMP": ""}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_a_relative_path_is_one_of_this_process(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(path)  # the reader starts in another folder
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    path.rename(tmp_path / "sub" / "x.hdf5")
    assert_same(load(Path("x.hdf5")).background, episodes())


def test_the_reader_ends_with_this_process(path: Path) -> None:
    code = f"""
import fastifo, os
from fastifo.data.formats import hdf5
fastifo.load('d4rl:{path}', progress=False)
print(hdf5._READER.process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        if (Path(f"/proc/{pid}/stat")).read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{pid}").exists()


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.hdf5")
    with pytest.raises(FileNotFoundError, match="expected an HDF5 file"):
        load(tmp_path / "pipe.hdf5")
