"""Leases on folders, which do not rely on file locks."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fastifo.utils import lease
from fastifo.utils.lease import LEASE, folder_lease


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with folder_lease(tmp_path / "a") as held:
        held.check()
        with (
            pytest.raises(BlockingIOError, match=rf"a: in use by process {os.getpid()} \("),
            folder_lease(tmp_path / "a"),
        ):
            pass
        held.check()
    assert list((tmp_path / "a").iterdir()) == []
    with folder_lease(tmp_path / "a"):
        pass


def write(folder: Path, **changed: Any) -> None:
    (folder / LEASE).write_text(json.dumps({"token": "x"} | lease._identity() | changed))


def test_a_lease_of_a_process_that_ended_is_taken_over(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write(tmp_path, pid=ended.pid)
    with folder_lease(tmp_path) as held:
        assert held.is_held()
    write(tmp_path, started="1")  # another process got the same number
    with folder_lease(tmp_path):
        pass
    (tmp_path / LEASE).write_text("")  # a disk that was full
    with folder_lease(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_silent_lease_of_another_machine_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STALE_S", 0.2)
    monkeypatch.setattr(lease, "POLL_S", 0.02)
    write(tmp_path, machine="elsewhere", host="node7")
    with folder_lease(tmp_path) as held:
        held.check()
    assert not (tmp_path / LEASE).exists()


def test_a_live_lease_of_another_machine_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STALE_S", 5.0)
    monkeypatch.setattr(lease, "POLL_S", 0.02)
    write(tmp_path, machine="elsewhere", host="node7", pid=12)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.01):
            os.utime(tmp_path / LEASE)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with (
            pytest.raises(BlockingIOError, match=r"in use by process 12 \(.*\) on node7; wait"),
            folder_lease(tmp_path),
        ):
            pass
    finally:
        ended.set()
        thread.join()


def test_an_owner_notices_that_it_lost_the_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.01)
    with folder_lease(tmp_path) as held:
        (tmp_path / LEASE).unlink()
        write(tmp_path, machine="elsewhere")
        before = os.stat(tmp_path / LEASE).st_mtime_ns
        time.sleep(0.1)
        assert os.stat(tmp_path / LEASE).st_mtime_ns == before  # touches its own file only
        with pytest.raises(BlockingIOError, match="another process took over"):
            held.check()
    assert json.loads((tmp_path / LEASE).read_text())["machine"] == "elsewhere"  # is left


def test_an_owner_notices_that_its_lease_was_deleted(tmp_path: Path) -> None:
    with folder_lease(tmp_path) as held:
        held.check()
        (tmp_path / LEASE).unlink()
        with pytest.raises(BlockingIOError, match="the lease is gone, because the file was"):
            held.check()


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Any, target: Any) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(os, "link", link)
    with folder_lease(tmp_path), pytest.raises(BlockingIOError), folder_lease(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_of_many_that_take_over_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "POLL_S", 0.001)
    write(tmp_path, started="1")
    holders, at_once = [], []
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        with folder_lease(tmp_path, waits=True):
            holders.append(1)
            at_once.append(len(holders))
            time.sleep(0.002)
            holders.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert at_once == [1] * 8
    assert list(tmp_path.iterdir()) == []
    assert socket.gethostname() in lease._machine()
