"""Work in parallel threads and processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import fastifo
from fastifo.algos import ALGORITHMS
from fastifo.utils.parallel import GRACE_S, run_jobs
from helpers import child_environment
from jobs import Fail, Linger, Touch, Unreadable

NEEDS_CORES = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="on one core the jobs run in the calling process"
)


@pytest.mark.parametrize("name", ["bco", "lobsdice", "oril", "otr", "seabo", "smodice", "vfo_disc"])
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


def start(function: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", f"import jobs; jobs.{function}({str(folder)!r})"],
        cwd=folder,  # inside a checkout, its source would shadow the installed package
        env=child_environment(CUDA_VISIBLE_DEVICES=""),
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )


def alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="on one core the jobs run in the calling process"
)
@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    parent = start("linger_main", tmp_path)
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
    parent.communicate(timeout=60)
    assert not survivors


def children(pid: int) -> list[int]:
    """All processes below a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *children(child)]
    return found


def is_worker(pid: int) -> bool:
    """Whether a process does jobs; multiprocessing's tracker of resources ends a little later."""
    return alive(pid) and "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()


@NEEDS_CORES
@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGINT to the parent", "SIGTERM"])
def test_a_signal_ends_all_workers_with_checkpoints_and_starts_nothing(
    tmp_path: Path, how: str
) -> None:
    parent = start("train_main", tmp_path)
    deadline = time.monotonic() + 300
    while len(list(tmp_path.glob("*/metrics.jsonl"))) < 2:
        assert parent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    begun = sorted(path.name for path in tmp_path.iterdir())
    workers = [pid for pid in children(parent.pid) if is_worker(pid)]
    assert len(workers) >= 2
    if how == "Ctrl-C":
        os.killpg(parent.pid, signal.SIGINT)  # a terminal sends it to all of them
    else:
        os.kill(parent.pid, signal.SIGTERM if how == "SIGTERM" else signal.SIGINT)
    error = parent.communicate(timeout=60)[1]
    assert parent.returncode != 0
    assert "KeyboardInterrupt: stopped; finished parts and checkpoints are kept" in error
    assert not [pid for pid in workers if alive(pid)]
    assert sorted(path.name for path in tmp_path.iterdir()) == begun
    for name in begun:
        assert fastifo.open_run(tmp_path / name).updates_done > 0


@NEEDS_CORES
@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("error", FileNotFoundError, "no such set"),
        ("die", ChildProcessError, r"a worker process died \(exit code 7"),
        ("odd", OSError, "OddError"),
    ],
)
def test_a_job_that_fails_is_named_and_stops_the_others(
    tmp_path: Path, how: str, error: type[Exception], message: str
) -> None:
    lingers, fails, late = (
        Linger(tmp_path / "lingers"),
        Fail(tmp_path, how),
        Touch(tmp_path / "late"),
    )
    with pytest.raises(error, match=message):
        run_jobs([lingers, fails, late, late, late])
    assert not (tmp_path / "late").exists()
    if (tmp_path / "lingers").exists():
        assert not alive(int((tmp_path / "lingers").read_text()))


@NEEDS_CORES
@pytest.mark.slow
def test_a_job_that_a_worker_cannot_import_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        run_jobs([Unreadable()] * 2)


@NEEDS_CORES
@pytest.mark.slow
def test_all_jobs_are_done_and_no_process_is_left(tmp_path: Path) -> None:
    run_jobs([Touch(tmp_path / str(i)) for i in range(7)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(i) for i in range(7)]
    assert not [pid for pid in children(os.getpid()) if is_worker(pid)]
