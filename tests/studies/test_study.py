"""Studies and self-improvement on tiny tasks: they resume, skip finished work and are reported."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastifo
from fastifo.data.dataset import Dataset
from fastifo.engine.train import train
from fastifo.report.aggregates import aggregate
from fastifo.report.report import read_improvements, report
from fastifo.report.runs import by_dataset, read_runs
from fastifo.studies.grid import split_datasets, study_bimodal, study_sibench
from fastifo.studies.improve import improve
from fastifo.studies.improvement import Improvement
from helpers import SMALL, random_dataset
from support import contents, write_expert

TINY: dict[str, Any] = {
    "num_updates": 2, "seeds": (0, 1), "episodes": 3, "progress": False, **SMALL,
}  # fmt: skip


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    expert = write_expert(tmp_path / "expert.npz")
    return {"episodes": 2, "bc_updates": 2, "demos": 3, "expert": str(expert)}


def run_sibench(out: Path, sets: dict[str, Any], **fields: Any) -> None:
    study_sibench(out, ("bc", "vfo_bin"), ("Hopper-v4",), (1, 3), set_options=sets, **TINY | fields)


@pytest.mark.slow
def test_algorithms_that_standardise_have_a_run_for_each_set(
    tmp_path: Path, sets: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out, algorithms = tmp_path / "study", ("bc", "iql", "seabo", "seabo-rebrac")
    fields = {k: v for k, v in TINY.items() if k != "num_bins"}
    study_sibench(
        out, algorithms, ("Hopper-v4",), (1, 3), set_options=sets, reward_scaling="none", **fields
    )
    runs = read_runs(out)
    names = [run.algorithm for run in runs]
    assert names == [name for name in ("bc", "seabo", "seabo-rebrac", "iql") for _ in range(2)]
    separate = {run.algorithm for run in runs if run.folder.parent.name != "Hopper-v4"}
    assert separate == {"seabo", "iql"}
    assert [len(group) for group in by_dataset(runs)] == [4, 4]
    report(out)
    assert "seabo-rebrac" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("algorithm", "fields", "runs"),
    [
        ("smodice", {"preset": "orig"}, 2),  # standardises; without a preset not
        ("bc", {"preset": "orig"}, 2),
        ("bc", {"preset": "orig", "standardize_obs": False}, 1),
        ("iql", {"preset": "jax"}, 1),  # the other way round
    ],
)
def test_a_preset_decides_whether_sets_share_a_run(
    tmp_path: Path, algorithm: str, fields: dict[str, Any], runs: int
) -> None:
    sets = [random_dataset(seed) for seed in (0, 1)]
    assert len(split_datasets(tmp_path, algorithm, sets, fields)) == runs


@pytest.mark.slow
def test_a_study_trains_all_sets_together_and_reports(
    tmp_path: Path, sets: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    run_sibench(out, sets)
    runs = read_runs(out)  # without those of the clones
    assert [run.algorithm for run in runs] == ["bc", "bc", "vfo_bin", "vfo_bin"]
    assert [len(group) for group in by_dataset(runs)] == [2, 2]
    assert all(run.returns is not None and run.returns.returns.shape == (2, 3) for run in runs)
    first = report(out)
    assert first == out / "differences.png"
    names = {path.name for path in out.iterdir()}
    assert {"returns.png", "differences.png", "report.html"} <= names
    page = (out / "report.html").read_text()
    assert page.count("<img") == 2
    text = capsys.readouterr().out
    for word in ("Hopper-v4, d=1: returns", "Hopper-v4, d=3: returns", "stratified bootstrap"):
        assert word in text
    assert "All sets together" in page

    before = contents(out)
    run_sibench(out, sets)  # everything exists already
    after = contents(out)
    assert {k: v for k, v in after.items() if k.endswith((".npz", ".fastifo", ".safetensors"))} == {
        k: v for k, v in before.items() if k.endswith((".npz", ".fastifo", ".safetensors"))
    }
    with pytest.raises(ValueError, match="holds another run"):
        run_sibench(out, sets, batch_size=9)
    run_sibench(out, sets, num_updates=4)
    assert {r.returns.num_updates for r in read_runs(out) if r.returns is not None} == {4}


def test_a_study_refuses_mistakes_before_it_starts(tmp_path: Path, sets: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="no field 'temprature'; did you mean 'temperature'"):
        run_sibench(tmp_path / "a", sets, temprature=1.0)
    with pytest.raises(ValueError, match="bcc"):
        study_sibench(tmp_path / "a", ("bcc",), ("Hopper-v4",), (1,), **TINY)
    with pytest.raises(ValueError, match="Hoper-v4"):
        study_sibench(tmp_path / "a", ("bc",), ("Hoper-v4",), (1,), **TINY)
    with pytest.raises(ValueError, match="sigma: expected above 0, found -1"):
        study_sibench(tmp_path / "a", ("bc", "tge"), ("Hopper-v4",), (1,), sigma=-1.0, **TINY)
    with pytest.raises(ValueError, match="temperature: expected above 0"):
        improve("vfo_bin", "nowhere", "nowhere", out=tmp_path / "a", temperature=0.0)
    assert not (tmp_path / "a").exists()


def test_unsuitable_data_are_refused_before_the_first_training(
    tmp_path: Path, sets: dict[str, Any]
) -> None:
    out, fields = tmp_path / "study", {k: v for k, v in TINY.items() if k != "num_bins"}
    with pytest.raises(ValueError, match="horizon: expected at most"):
        study_sibench(
            out, ("bc", "tge"), ("Hopper-v4",), (1,), set_options=sets, horizon=1024, **fields
        )
    assert not (out / "runs").exists()


def test_a_bimodal_study(tmp_path: Path, sets: dict[str, Any]) -> None:
    options = {"total": 3, "policy": sets["expert"]}
    study_bimodal(tmp_path / "study", ("bc",), ("Hopper-v4",), (0, 2), set_options=options, **TINY)
    runs = read_runs(tmp_path / "study")
    assert [run.dataset["info"]["spec"]["expert"] for run in runs] == [0, 2]
    assert report(tmp_path / "study").name == "differences.png"
    with pytest.raises(ValueError, match="started with kind='bimodal', now asked for 'sibench'"):
        run_sibench(tmp_path / "study", sets)


def start(sets: dict[str, Any]) -> Dataset:
    return fastifo.load(
        f"sibench:Hopper-v4/d=1,episodes=2,demos=2,bc_updates=2,expert={sets['expert']}",
        progress=False,
    )


def run_improve(out: Path, first: Dataset, iterations: int, **fields: Any) -> Improvement:
    fixed = {"num_updates": 3, "seeds": (0, 1), "episodes": 2, "progress": False, **SMALL}
    return improve("vfo_bin", first, first, iterations=iterations, out=out, **fixed | fields)


def test_each_policy_learns_from_the_previous_ones_episodes(
    tmp_path: Path, sets: dict[str, Any]
) -> None:
    first = start(sets)
    out = tmp_path / "improve"
    result = run_improve(out, first, 2)
    assert np.array(result.returns).shape == (2, 3)
    returns = first.background.returns()
    assert returns is not None
    assert [row[0] for row in result.returns] == [pytest.approx(float(returns.mean()))] * 2
    for seed in (0, 1):
        played = fastifo.load(out / f"seed-{seed}/iteration-00/played.fastifo")
        run = fastifo.open_run(out / f"seed-{seed}/iteration-01/run")
        assert first.expert is not None
        expected = Dataset(played.background, first.expert, "Hopper-v4")
        assert run.datasets[0]["fingerprint"] == expected.fingerprint()
        assert run.members[0].seed == seed
    assert "iteration" in str(result)
    assert "seed 1" in str(result)


def test_an_improvement_that_cannot_start_leaves_its_folder_free(tmp_path: Path) -> None:
    dataset = random_dataset(env_id="Hopper-v4")
    fields: dict[str, Any] = {"iterations": 1, "episodes": 1, "num_updates": 1, "progress": False}
    without = dataclasses.replace(dataset, background=dataset.background.without_rewards())
    with pytest.raises(ValueError, match="awr needs the background's rewards"):
        improve("awr", without, without, out=tmp_path / "out", **fields, **SMALL)
    with pytest.raises(TypeError, match="vfo_bin has no field 'temprature'; did you mean 'temp"):
        improve("vfo_bin", dataset, dataset, out=tmp_path / "out", **fields, temprature=1.0)
    with pytest.raises(ValueError, match=r"temperature: expected one value, found \[1.0, 2.0\]"):
        improve("vfo_bin", dataset, dataset, out=tmp_path / "out", **fields, temperature=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"expert observations have width 3, background obs.* 11;"):
        improve("vfo_bin", random_dataset(), dataset, out=tmp_path / "out", **fields, **SMALL)
    assert not (tmp_path / "out").exists()


def test_a_seed_that_diverges_does_not_stop_the_others(
    tmp_path: Path, sets: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    first = start(sets)
    expected = run_improve(tmp_path / "whole", first, 3)
    calls = []

    def diverging(*args: Any, **fields: Any) -> Any:
        """As `train`; one iteration of a seed learns far too fast."""
        calls.append((fields["seeds"], fields["out"].parent.name))
        if calls[-1] != ([1], "iteration-01"):
            return train(*args, **fields)
        with pytest.warns(UserWarning, match="nan"):
            return train(*args, **fields | {"learning_rate": 1e30, "num_updates": 30})

    monkeypatch.setattr("fastifo.studies.iterations.train", diverging)
    result = run_improve(tmp_path / "cut", first, 3)
    assert calls[-2:] == [([1], "iteration-01"), ([0], "iteration-02")]
    assert result.returns[0] == expected.returns[0]
    assert result.returns[1][:2] == expected.returns[1][:2]
    assert np.isnan(result.returns[1][2:]).tolist() == [True, True]
    message = "seed-1/iteration-01: vfo_bin: no member's losses are finite"
    assert capsys.readouterr().err.count(message) == 1
    last = result.rows[-1]
    assert last[2] == "diverged"
    assert last[1] == last[3] != "nan"  # the mean is that of the other seed
    (read,) = read_improvements(tmp_path / "cut")
    assert np.array_equal(read.returns, result.returns, equal_nan=True)
    assert "NaN" not in (tmp_path / "cut/improve.json").read_text()
    assert report(tmp_path / "cut").name == "sawteeth.png"
    again = run_improve(tmp_path / "cut", first, 4)
    assert calls[-1] == ([0], "iteration-03")
    assert calls.count(([1], "iteration-01")) == 1
    assert np.isnan(again.returns[1][2:]).all()
    assert np.isfinite(again.returns[0]).all()


def test_an_improvement_ends_when_every_seed_diverges(tmp_path: Path, sets: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"learning_rate": 1e30, "num_updates": 30}
    message = "seed-0/iteration-00: vfo_bin: no member's.*; .*seed-1/iteration-00: vfo_bin: no memb"
    with (
        pytest.raises(FloatingPointError, match=message),
        pytest.warns(UserWarning, match="nan"),
    ):
        run_improve(tmp_path, start(sets), 2, **fields)
    (read,) = read_improvements(tmp_path)
    assert np.isnan(np.array(read.returns)[:, 1]).all()


def test_an_improvement_resumes(tmp_path: Path, sets: dict[str, Any]) -> None:
    first = start(sets)
    uninterrupted = run_improve(tmp_path / "whole", first, 3)
    run_improve(tmp_path / "cut", first, 1)
    (
        tmp_path / "cut/seed-1/iteration-00/played.fastifo"
    ).unlink()  # as if killed before the second seed
    assert run_improve(tmp_path / "cut", first, 3) == uninterrupted
    assert read_improvements(tmp_path / "cut") == [uninterrupted]
    assert report(tmp_path / "cut").name == "sawteeth.png"
    with pytest.raises(ValueError, match="started with episodes=2, now asked for 5"):
        run_improve(tmp_path / "cut", first, 3, episodes=5)
    with pytest.raises(ValueError, match="iterations: expected an integer of at least 1"):
        run_improve(tmp_path / "cut", first, 0)


@pytest.mark.slow
def test_aggregates_use_what_all_algorithms_share(tmp_path: Path, sets: dict[str, Any]) -> None:
    out = tmp_path / "study"
    run_sibench(out, sets)
    runs = read_runs(out)
    rows = aggregate(runs)
    assert [(row[0], row[3]) for row in rows] == [("bc", 2), ("vfo_bin", 2)]
    rows = aggregate([run for run in runs if run.members != [0, 1] or run.algorithm == "bc"])
    assert [(row[0], row[3]) for row in rows] == [("bc", 1), ("vfo_bin", 1)]
    for _, mean, (low, high), _ in rows:
        assert low <= mean <= high
