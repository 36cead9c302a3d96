"""Studies and self-improvement on executors give the results of one process."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import fastifo
from fastifo.report.report import report
from fastifo.studies.grid import train_and_evaluate
from fastifo.utils.executors import OpenExecutor
from fastifo.utils.lease import folder_lease
from fastifo.utils.parallel import Job
from helpers import SMALL, random_dataset


class Pickled(OpenExecutor):
    """Runs copies of jobs as another process would get them."""

    workers = 1

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def run_all(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            pickled = pickle.dumps(job)
            assert len(pickled) < 5000  # names of files, not their content
            self.jobs.append(pickle.loads(pickled))
            self.jobs[-1].run()


def weights(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*.safetensors"))
    }


def test_the_runs_of_a_study_on_an_executor(tmp_path: Path) -> None:
    datasets = [random_dataset(seed, env_id="Hopper-v4") for seed in (0, 1)]
    files = [tmp_path / "data" / f"{index}.fastifo" for index in range(2)]
    fields: dict[str, Any] = {
        "num_updates": 2, "seeds": (0,), "episodes": 2, "progress": False, **SMALL
    }  # fmt: skip
    task, executor = (("bc", "vfo_bin"), "Hopper-v4", datasets), Pickled()
    train_and_evaluate(tmp_path / "here", *task, **fields)
    train_and_evaluate(tmp_path / "there", *task, executor=executor, files=files, **fields)
    assert len(executor.jobs) == 2
    assert weights(tmp_path / "there") == weights(tmp_path / "here")
    with folder_lease(tmp_path / "there"), pytest.raises(BlockingIOError, match="in use by"):
        train_and_evaluate(tmp_path / "there", *task, executor=executor, files=files, **fields)


@pytest.mark.parametrize("executor", [None, Pickled()])
def test_a_run_that_diverges_does_not_stop_the_study(
    tmp_path: Path, executor: Pickled | None, capsys: pytest.CaptureFixture[str]
) -> None:
    def study() -> None:
        train_and_evaluate(
            tmp_path, ("iql", "bc"), "Hopper-v4", [random_dataset(env_id="Hopper-v4")],
            files=[tmp_path / "data.fastifo"], executor=executor, num_updates=10, seeds=(0,),
            episodes=2, progress=False, log_every=5, inverse_temperature=1e38,
            max_weight=float("inf"), **SMALL,
        )  # fmt: skip

    with pytest.warns(UserWarning, match="iql: member 0, seed=0: policy_loss"):
        study()
    study()
    message = "iql/0: iql: no member's losses are finite"
    assert capsys.readouterr().err.count(message) == 2
    assert (tmp_path / "runs/Hopper-v4/bc/returns.npz").exists()
    report(tmp_path)
    printed = capsys.readouterr().out
    assert "diverged" in printed
    assert "not evaluated" not in printed


def test_self_improvement_on_an_executor(tmp_path: Path) -> None:
    dataset, executor = random_dataset(env_id="Hopper-v4"), Pickled()
    fields: dict[str, Any] = {
        "iterations": 2, "episodes": 2, "seeds": (0, 1), "num_updates": 3, "progress": False,
        **SMALL,
    }  # fmt: skip
    here = fastifo.improve("vfo_bin", dataset, dataset, out=tmp_path / "here", **fields)
    there = fastifo.improve(
        "vfo_bin", dataset, dataset, out=tmp_path / "there", executor=executor, **fields
    )
    assert there == here
    assert len(executor.jobs) == 4
    assert weights(tmp_path / "there") == weights(tmp_path / "here")
    with pytest.raises(ValueError, match="env_id: expected a name that other processes can import"):
        fastifo.improve(
            "vfo_bin", dataset, dataset, out=tmp_path / "own", executor=executor,
            env_id=lambda: None, **fields,
        )  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*is nan by update")
def test_a_seed_that_diverges_on_an_executor_is_not_trained_again(tmp_path: Path) -> None:
    dataset, executor = random_dataset(env_id="Hopper-v4"), Pickled()
    fields: dict[str, Any] = {
        "iterations": 2, "episodes": 2, "num_updates": 30, "learning_rate": 1e30, "progress": False,
        "out": tmp_path, "executor": executor, **SMALL,
    }  # fmt: skip
    for _ in range(2):
        with pytest.raises(FloatingPointError, match="iteration-00: vfo_bin: no member's losses"):
            fastifo.improve("vfo_bin", dataset, dataset, seeds=(0,), **fields)
    assert len(executor.jobs) == 1
