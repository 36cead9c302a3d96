"""Work in processes of its own."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastifo.jobs import GRACE, run_jobs


@dataclass
class Linger:
    path: Path
    stubborn: bool = False

    def run(self) -> None:
        if self.stubborn:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.path.write_text(str(os.getpid()))
        time.sleep(60)


def main(folder: str) -> None:
    run_jobs([Linger(Path(folder) / "first"), Linger(Path(folder) / "second", stubborn=True)])


def alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core works in its own process")
def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    here = Path(__file__)
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import {here.stem} as m; m.main({str(tmp_path)!r})"],
        env=os.environ | {"PYTHONPATH": f"{here.parent}:{os.environ.get('PYTHONPATH', '')}",
                          "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    paths = [tmp_path / "first", tmp_path / "second"]
    deadline = time.monotonic() + 60
    while not all(path.exists() and path.read_text() for path in paths):
        assert parent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = [int(path.read_text()) for path in paths]
    assert all(map(alive, workers))
    parent.kill()
    parent.wait(10)
    deadline = time.monotonic() + GRACE + 10
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in workers if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left
