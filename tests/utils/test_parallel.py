"""Work in parallel threads and processes."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import fastifo
from fastifo.algos import ALGORITHMS
from fastifo.utils.parallel import GRACE_S, run_jobs


@pytest.mark.parametrize("name", ["bco", "oril", "otr", "seabo", "smodice", "vfo_disc"])
@pytest.mark.slow
def test_prepared_data_has_the_same_bits_on_any_number_of_threads(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)

    def episode(steps: int) -> dict[str, torch.Tensor]:
        return {
            "obs": torch.randn(steps + 1, 3, generator=generator),
            "action": 2 * torch.rand(steps, 2, generator=generator) - 1,
        }

    # More numbers than torch gives to one thread, in a count that no vector width divides.
    count, steps = {"otr": (2, 401), "seabo": (2, 17001)}.get(name, (60, 4001))
    background, expert = [episode(steps) for _ in range(count)], [episode(401)]
    dataset = fastifo.Dataset.from_episodes(background, [{"obs": expert[0]["obs"]}])
    prepared = []
    learner_class = ALGORITHMS[name]
    prepare = learner_class.prepare.__func__  # type: ignore[attr-defined]

    def recording(cls: Any, *args: Any) -> Any:
        prepared.append(prepare(cls, *args))
        return prepared[-1]

    monkeypatch.setattr(learner_class, "prepare", classmethod(recording))
    fields: dict[str, Any] = {"disc_updates": 50, "inverse_updates": 1, "reward_scaling": "none"}
    known = {key: value for key, value in fields.items() if hasattr(learner_class.Config, key)}
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 5, 7):
            torch.set_num_threads(threads)
            fastifo.train(
                name, dataset, num_updates=1, batch_size=8, learning_rate=0.1, hidden_sizes=(8,),
                device="cpu", progress=False, **known,
            )  # fmt: skip
    finally:
        torch.set_num_threads(before)
    for other in prepared[1:]:
        for part in ("background", "expert"):
            for column in ("obs", "action", "reward"):
                first, again = (getattr(getattr(d, part), column) for d in (prepared[0], other))
                assert (first is None) == (again is None)
                assert first is None or torch.equal(first, again)


@dataclass
class Linger:
    path: Path
    stubborn: bool = False

    def run(self) -> None:
        if self.stubborn:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.path.write_text(str(os.getpid()))
        time.sleep(600)


def main(folder: str) -> None:
    run_jobs([Linger(Path(folder) / "first"), Linger(Path(folder) / "second", stubborn=True)])


def alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="on one core the jobs run in the calling process"
)
@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    here = Path(__file__)
    path = [str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import {here.stem} as m; m.main({str(tmp_path)!r})"],
        cwd=tmp_path,  # inside a checkout, its source would shadow the installed package
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path), "CUDA_VISIBLE_DEVICES": ""},
    )
    paths = [tmp_path / "first", tmp_path / "second"]
    deadline = time.monotonic() + 300
    while not all(path.exists() and path.read_text() for path in paths):
        assert parent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = [int(path.read_text()) for path in paths]
    assert all(map(alive, workers))
    parent.kill()
    parent.wait(10)
    deadline = time.monotonic() + GRACE_S + 60
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    survivors = [pid for pid in workers if alive(pid)]
    for pid in survivors:
        os.kill(pid, signal.SIGKILL)
    assert not survivors
