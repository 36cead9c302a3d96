"""Executors: every job is done, also where a process died or a disk was full."""

import gc
from pathlib import Path
from typing import Any

import pytest

from fastifo.utils import slurm_jobs
from fastifo.utils.executors import InProcess, Processes
from fastifo.utils.machines import make_executor, opened
from fastifo.utils.parallel import Executor, run_jobs
from jobs import FailOnce, Touch


def run(executor: Executor, folder: Path, kinds: tuple[str, ...] = ("die", "full", "no")) -> None:
    """A round in which every kind of failure happens once, and a second one."""
    folder.mkdir()
    run_jobs([FailOnce(folder / how, how) for how in kinds], executor)
    run_jobs([Touch(folder / "late")], executor)
    names = {*kinds, *(f"{how}-tried" for how in kinds if how != "no"), "late"}
    assert {path.name for path in folder.iterdir()} == names


def test_processes_start_a_job_again_whose_process_died_or_disk_was_full(tmp_path: Path) -> None:
    with Processes(1) as executor:
        run(executor, tmp_path / "a")
        with pytest.raises(ZeroDivisionError):  # an error of another kind is not tried again
            executor.run([FailOnce(tmp_path / "c", "wrong")])
    assert executor.pool.workers == []


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # submitit's logs
def test_slurm_jobs_are_submitted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitit = pytest.importorskip("submitit", reason="the extra slurm is not installed")
    monkeypatch.setattr(slurm_jobs, "POLL_S", 0.01)
    executor = slurm_jobs.SlurmJobs(tmp_path / "logs", workers=2, cluster="debug")
    run(executor, tmp_path / "a", ("full", "no"))
    with pytest.raises(ZeroDivisionError):
        executor.run([FailOnce(tmp_path / "c", "wrong")])
    result = submitit.Job.result
    lost: list[Any] = []

    def result_or_loss(job: Any) -> Any:
        if len(lost) < 2:
            lost.append(job)
            raise submitit.core.utils.UncompletedJobError("Job 1 not completed: NODE_FAIL")
        return result(job)

    monkeypatch.setattr(submitit.Job, "result", result_or_loss)
    executor.run([Touch(tmp_path / "again")])
    assert len(lost) == 2
    lost.clear()
    executor.retries = 1
    with pytest.raises(ChildProcessError, match=r"ended without a result \(Job 1 not completed"):
        executor.run([Touch(tmp_path / "again")])
    del lost[:], executor
    gc.collect()


def test_ray_tasks_are_started_again(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is large and not in the extra test")
    with opened(make_executor("ray", workers=2)) as executor:
        run(executor, tmp_path / "a")
        with pytest.raises(ZeroDivisionError):
            executor.run([FailOnce(tmp_path / "c", "wrong")])


def test_names_and_settings_are_checked(tmp_path: Path) -> None:
    assert isinstance(make_executor(), InProcess)
    assert isinstance(make_executor(workers=2), Processes)
    own = InProcess()
    assert make_executor(own) is own
    make_executor("in-process", workers=1).run([Touch(tmp_path / "x")])
    assert (tmp_path / "x").exists()
    with pytest.raises(ValueError, match=r"executor: expected auto, .*, found 'dask'"):
        make_executor("dask")
    with pytest.raises(TypeError, match="executor: expected a name or an Executor, found 3"):
        make_executor(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="workers: expected an integer of at least 0"):
        make_executor("processes", workers=-1)
    for settings in ({"address": "auto"}, {"gpus": 1}, {"slurm": {"timeout_min": 5}}):
        with pytest.raises(ValueError, match=f"{next(iter(settings))}: the executor processes has"):
            make_executor("processes", **settings)
    with pytest.raises(ValueError, match="workers: the executor in-process has no such"):
        make_executor("in-process", workers=2)


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_package_names_its_extra(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ImportError, match=rf"pip install 'fastifo\[{name}\]'"):
        make_executor(name)
