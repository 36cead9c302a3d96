"""Studies and self-improvement on executors give the results of one process."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import fastifo
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
