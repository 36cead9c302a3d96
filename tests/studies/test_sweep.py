"""Sweeps: what they choose, that they resume, and that nothing that dies changes the result."""

import csv
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastifo
import sabotage
from fastifo.report.report import report
from fastifo.studies.grid import study_sibench
from fastifo.studies.population import Advance, Population
from fastifo.studies.sweep_results import Sweep
from fastifo.utils.executors import InProcess
from fastifo.utils.lease import folder_lease
from helpers import child_environment, random_dataset
from sabotage import TINY, Sabotage
from support import contents


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "set.fastifo"
    random_dataset(env_id="Hopper-v4").save(path)
    return path


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """The folder of an undisturbed sweep in this process."""
    out = tmp_path_factory.mktemp("reference") / "sweep"
    fastifo.sweep("vfo_bin", data, out=out, **TINY)
    return out


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "results.csv") as file:
        return list(csv.DictReader(file))


def run(data: Path, out: Path, **changed: Any) -> Sweep:
    return fastifo.sweep("vfo_bin", data, out=out, **TINY | changed)


def test_the_table_has_every_member_and_what_choosing_has_cost(reference: Path) -> None:
    table = rows(reference)
    result = Sweep.load(reference / "sweep.json")
    search = [row for row in table if row["kind"] == "search"]
    assert [row["rungs"] for row in search].count("4 8") == 2
    assert [row["rungs"] for row in search].count("4") == 2
    assert sorted(row["status"] for row in search) == ["best", "complete", "stopped", "stopped"]
    assert result.num_evaluations == sum(int(row["evaluations"]) for row in table) == 6
    assert result.num_episodes == 12
    for member, row in zip(result.members, search, strict=True):
        assert member.last.low is not None
        assert member.last.high is not None
        assert member.last.mean is not None
        assert member.last.low <= member.last.mean <= member.last.high
        assert float(row["return"]) == pytest.approx(member.last.mean, rel=1e-5)
        assert 0.05 <= member.last.values["temperature"] <= 5
    complete = [m for m in result.members if len(m.rungs) == 2]
    winner = max(complete, key=lambda m: m.last.mean or 0.0)
    assert winner.status == "best"
    assert result.best == winner.last.values
    stopped = [m.last.mean or 0.0 for m in result.members if m.status == "stopped"]
    assert max(stopped) <= min(m.rungs[0].mean or 0.0 for m in complete)


@pytest.mark.parametrize("content", ["{}", '{"populations": 0}'])
def test_damaged_packing_is_named(data: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "search" / "packing.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(ValueError, match=r"packing\.json: populations: expected an integer"):
        run(data, tmp_path)


def test_the_best_setting_is_trained_anew_with_fresh_seeds(reference: Path, data: Path) -> None:
    result = Sweep.load(reference / "sweep.json")
    run = fastifo.open_run(reference / "final")
    assert [member.seed for member in run.members] == [7, 8]
    assert all(getattr(m.config, k) == v for m in run.members for k, v in result.best.items())
    assert run.updates_done == 8
    assert list(run.metrics()["update"]) == [3, 3, 6, 6, 8, 8]
    anew = fastifo.train(
        "vfo_bin", data, seeds=[8], num_updates=8, progress=False, batch_size=8, num_bins=11,
        **result.best,
    )  # fmt: skip
    returns = anew.evaluate(3, progress=False)
    assert result.final[1].last.mean == float(returns.mean)  # the same bits as a single training
    assert result.return_ == pytest.approx(np.mean([m.last.mean for m in result.final]))
    assert "trained anew with seeds 7, 8" in str(result)
    assert "chosen with 6 evaluations (12 episodes)" in str(result)


def test_a_report_has_the_table(reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (reference / "results.csv").read_bytes()
    assert report(reference) == reference / "report.png"
    page = (reference / "report.html").read_text()
    assert "vfo_bin, members of a sweep" in page
    assert "Chosen with 6 evaluations (12 episodes)" in page
    assert "stopped" in capsys.readouterr().out
    assert (reference / "results.csv").read_bytes() == before


def test_the_same_call_changes_nothing_and_another_is_refused(reference: Path, data: Path) -> None:
    before = contents(reference / "search")
    assert run(data, reference) == Sweep.load(reference / "sweep.json")
    assert contents(reference / "search") == before
    with pytest.raises(ValueError, match=r"started with rungs=\[4, 8\], now asked for \[4, 9\]"):
        run(data, reference, rungs=[4, 9])
    with pytest.raises(ValueError, match="started with dataset="):
        run(random_dataset(seed=1, env_id="Hopper-v4"), reference)  # type: ignore[arg-type]


def test_two_drivers_on_one_folder_refuse(reference: Path, data: Path) -> None:
    with folder_lease(reference), pytest.raises(BlockingIOError, match="in use by process"):
        run(data, reference)


def test_results_do_not_depend_on_the_packing(reference: Path, data: Path, tmp_path: Path) -> None:
    run(data, tmp_path, populations=4)
    names = {path.name for path in (tmp_path / "search/wave-0/rung-0").iterdir()}
    assert names == {"part-0", "part-1", "part-2", "part-3"}
    assert len(list((reference / "search/wave-0/rung-0").iterdir())) == 2  # one for each shape
    assert (tmp_path / "results.csv").read_bytes() == (reference / "results.csv").read_bytes()


@pytest.mark.slow
def test_killed_workers_a_killed_driver_and_a_full_disk_change_nothing(
    reference: Path, data: Path, tmp_path: Path
) -> None:
    out, marks = tmp_path / "sweep", tmp_path / "marks"
    command = (
        f"import sabotage; sabotage.killed_driver({str(data)!r}, {str(out)!r}, {str(marks)!r})"
    )
    guarded = f"if __name__ == '__main__':\n    {command}"
    driver = subprocess.run(
        [sys.executable, "-c", guarded], cwd=tmp_path, check=False, capture_output=True, text=True,
        env=child_environment(CUDA_VISIBLE_DEVICES=""),
    )  # fmt: skip
    assert driver.returncode == -signal.SIGKILL, driver.stderr
    assert driver.stderr.count("a worker process died (exit code -9") == 2  # one at each rung
    assert not (out / "results.csv").exists()
    with pytest.raises(OSError, match="Free some space"):
        run(data, out, executor=Sabotage(InProcess(), marks, "full"))
    run(data, out)
    assert sorted(path.name for path in marks.iterdir()) == ["full-0", "kill-0", "kill-1"]
    assert (out / "results.csv").read_bytes() == (reference / "results.csv").read_bytes()
    assert not list(out.rglob(".fastifo-*"))


@pytest.mark.slow
def test_a_lost_ray_node_changes_nothing(reference: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is large and not in the extra test")
    from reliability.sweep_kills import NodeKiller

    marks = tmp_path / "marks"
    run(data, tmp_path / "sweep", executor=NodeKiller(marks))
    assert sorted(path.name for path in marks.iterdir()) == ["node-0", "node-1", "node-2"]
    table = (tmp_path / "sweep/results.csv").read_bytes()
    assert table == (reference / "results.csv").read_bytes()


def test_population_based_training_repeats_the_winners_schedule(data: Path, tmp_path: Path) -> None:
    result = run(
        data, tmp_path, scheduler="pbt", rungs=[2, 4, 6], hidden_sizes=(8,),
        learning_rate="loguniform(1e-4, 1e-1)", keep=0.5,
    )  # fmt: skip
    assert [len(member.rungs) for member in result.members] == [3] * 4
    copied = [(m, k) for m in result.members for k, r in enumerate(m.rungs) if r.parent is not None]
    assert len(copied) == 4  # two after each rung but the last
    for member, rung in copied:
        parent = result.members[member.rungs[rung].parent or 0]
        ratios = {
            round(member.rungs[rung].values[k] / parent.rungs[rung - 1].values[k], 3)
            for k in ("temperature", "learning_rate")
        }
        assert ratios <= {0.8, 1.25} or parent.rungs[rung - 1].values["temperature"] > 4
    assert rows(tmp_path)[copied[0][0].member]["parents"].endswith(("@2", "@4"))
    best = next(m for m in result.members if m.status == "best")
    assert result.best == best.last.values
    assert fastifo.open_run(tmp_path / "final").updates_done == 6
    before = (tmp_path / "results.csv").read_bytes()
    run(
        data, tmp_path, scheduler="pbt", rungs=[2, 4, 6], hidden_sizes=(8,),
        learning_rate="loguniform(1e-4, 1e-1)", keep=0.5,
    )  # fmt: skip
    assert (tmp_path / "results.csv").read_bytes() == before


def test_members_that_diverge_lose(data: Path, tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "hidden_sizes": (8,), "temperature": 1.0, "proposer": "grid", "num_settings": None,
        "final_seeds": [], "rungs": [4],
    }  # fmt: skip
    with pytest.warns(UserWarning, match="member 1"):
        result = run(data, tmp_path / "a", learning_rate=[1e-3, 1e36], **fields)
    assert [member.status for member in result.members] == ["best", "diverged"]
    assert rows(tmp_path / "a")[1]["return"] == ""
    assert result.final == []
    assert not (tmp_path / "a/final").exists()
    assert "diverged" in str(result)
    with (
        pytest.raises(FloatingPointError, match="no setting's losses are finite"),
        pytest.warns(UserWarning, match="member"),
    ):
        run(data, tmp_path / "b", learning_rate=[2e36, 1e36], **fields)


def test_a_population_can_be_advanced_by_anyone(reference: Path, tmp_path: Path) -> None:
    """`advance` needs the folder alone, and repeats its bits."""
    import shutil

    shutil.copytree(reference, tmp_path / "copy")
    folder = tmp_path / "copy/search/wave-0/rung-1/part-0"
    before = contents(folder)
    (folder / "returns-000000008.npz").unlink()
    shutil.rmtree(folder / "run")
    Advance(folder, 8).run()
    Advance(folder, 8).run()
    after = contents(folder)
    weights = [name for name in before if name.endswith((".safetensors", "metrics.jsonl"))]
    assert len(weights) == 2
    assert all(after[name] == before[name] for name in weights)
    assert after.keys() == before.keys()


def test_a_worker_imports_a_method_of_the_users_own(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastifo.algos, "ALGORITHMS", dict(fastifo.algos.ALGORITHMS))
    fields = TINY | {"final_seeds": [], "rungs": [2]}
    del fields["temperature"]
    fastifo.sweep(sabotage.OwnBC, data, out=tmp_path, **fields)
    folder = tmp_path / "search/wave-0/rung-0/part-0"
    del fastifo.algos.ALGORITHMS["own_bc"]  # as in another process
    assert Population.read(folder).training.learner == "sabotage:OwnBC"
    assert fastifo.algos.ALGORITHMS["own_bc"] is sabotage.OwnBC
    monkeypatch.setattr(sabotage.OwnBC, "__module__", "__main__")
    with pytest.raises(ValueError, match="other processes cannot import __main__:OwnBC"):
        fastifo.sweep(sabotage.OwnBC, data, out=tmp_path / "b", executor="processes", **fields)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rungs": [8, 4]}, "rungs: expected growing numbers"),
        ({"rungs": []}, "rungs: expected growing numbers"),
        ({"keep": 0.0}, "keep: expected a share above 0"),
        ({"proposer": "bayes"}, "proposer: expected random, grid, tpe, found 'bayes'"),
        ({"scheduler": "asha"}, "scheduler: expected none, halving, pbt, found 'asha'"),
        ({"waves": 2}, "waves: only proposer='tpe'"),
        ({"proposer": "grid"}, "num_settings: the lists of a grid"),
        ({"proposer": "grid", "num_settings": None}, "temperature: expected a list of values"),
        ({"temperature": 1.0, "hidden_sizes": (8,)}, "space: expected a field with a distribution"),
        ({"temperature": "uniform(-1, 1)"}, "temperature: expected above 0, found -1"),
        ({"temprature": 1.0}, "no field 'temprature'; did you mean 'temperature'"),
        ({"rung": [1]}, "no field 'rung'; did you mean 'rungs'"),
        (
            {"final_seeds": [0]},
            "final_seeds: expected other seeds than those of the search, found 0",
        ),
        ({"seeds": 3}, r"seeds: expected a list, found the number 3"),
        ({"executor": "dask"}, "executor: expected auto"),
        ({"env": "none"}, "env: a sweep compares returns"),
        ({"env": lambda: None}, "env: expected an environment that other processes can import"),
        ({"env": "Hoper-v4"}, "Hoper-v4"),
        ({"episodes": 0}, "episodes: expected an integer of at least 1"),
        ({"populations": 0}, "populations: expected an integer of at least 1"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(
    data: Path, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        run(data, tmp_path / "out", **changed)
    assert not (tmp_path / "out").exists()


def test_a_run_is_no_folder_for_many_runs(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    fields: dict[str, Any] = {"num_updates": 1, "hidden_sizes": (4,), "progress": False}
    fastifo.train("bc", data, out=out, **fields)
    before = contents(out)
    for start in (
        lambda: run(data, out),
        lambda: fastifo.improve("bc", data, data, out=out, iterations=1, **fields),
        lambda: study_sibench(out, ("bc",), ("Hopper-v4",), (1,), **fields),
    ):
        with pytest.raises(ValueError, match="run: expected a folder for many runs, found a run"):
            start()
    assert contents(out) == before
