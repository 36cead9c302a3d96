"""Settings of sweeps, sampled actions and modes, and several folders in reports."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastifo
from fastifo.envs.returns import FILE_OF, Returns
from fastifo.report.aggregates import aggregate, aggregate_tables
from fastifo.report.report import report
from fastifo.report.runs import read_runs, series_of
from fastifo.report.tables import Table, run_table
from helpers import SMALL, random_dataset


def make_run(
    folder: Path, name: str, sampled: list[float], mode: list[float] | None = None, **fields: Any
) -> Path:
    """A run of two updates whose members have these mean returns, spread over 11 episodes."""
    dataset = fields.pop("dataset", None) or random_dataset(env_id="Hopper-v4")
    run = fastifo.train(
        name, dataset, num_updates=2, log_every=1, out=folder, progress=False, **SMALL | fields
    )
    for deterministic, means in ((False, sampled), (True, mode)):
        if means is not None:
            spread = np.linspace(-0.05, 0.05, 11) * max(map(abs, means))
            returns = np.array(means)[:, None] + spread
            assert len(returns) == len(run)
            Returns(
                returns, np.ones(returns.shape, np.int64), str(run.env_id), deterministic, {}, 2
            ).save(folder / FILE_OF[deterministic])
    return folder


def cells(table: Table) -> dict[str, dict[str, str]]:
    """The rows of a table by policy, as column -> text."""
    return {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}


@pytest.mark.parametrize(
    ("sampled", "texts"),
    [
        ([0.6, 0.2], "0.60 0.20"),
        ([1.0, 0.05], "1.00 0.05"),
        ([-749.0, -144.0], "-749 -144"),
        ([31.4, 2.0], "31.4 2.0"),
    ],
)
def test_returns_have_sensible_digits(sampled: list[float], texts: str, tmp_path: Path) -> None:
    dataset = random_dataset(env_id="Hopper-v4", reward=False)
    make_run(tmp_path, "bc", sampled, seeds=[0, 1], dataset=dataset)
    assert cells(run_table(read_runs(tmp_path)))["bc"]["by seed 0 1"] == texts
    report(tmp_path)
    rows = csv.DictReader((tmp_path / "results.csv").read_text().splitlines())
    assert [float(row["return"]) for row in rows] == pytest.approx(sampled)


def test_a_sweep_has_a_line_for_each_setting_and_names_the_best_member(tmp_path: Path) -> None:
    make_run(
        tmp_path / "a", "vfo_bin", [100.0, 300.0, 900.0, 500.0], [10.0, 900.0, 20.0, 30.0],
        temperature=[0.3, 1.0], seeds=[4, 7],
    )  # fmt: skip
    make_run(tmp_path / "b", "bc", [50.0], seeds=[4])
    table = run_table(read_runs(tmp_path))
    rows = cells(table)
    assert list(rows) == [
        "background",
        "bc",
        "vfo_bin, temperature=0.3",
        "vfo_bin, temperature=1.0",
    ]
    first, second = list(rows.values())[2:]
    assert (first["sampled actions"], first["mode"]) == ("200", "455")
    assert (second["sampled actions"], second["mode"]) == ("700", "25")
    assert second["by seed"] == "900 500"  # the runs have other seeds: the title names none
    assert second["mode, by seed"] == "20 30"
    low, high = second["95 % interval"].split(" to ")
    assert 600 < float(low) < 700 < float(high) < 800
    assert "400" not in str(table.rows)  # the mean over the sweep
    assert table.notes[0] == (
        "best of vfo_bin: member 2 (seed=4, temperature=1.0) with 900 by sampled actions; "
        "member 1 (seed=7, temperature=0.3) with 900 by the mode"
    )
    assert any("--play both" in note for note in table.notes)


def test_without_an_evaluation_the_table_says_how_to_get_one(tmp_path: Path) -> None:
    for name, env_id in (("a", "Hopper-v4"), ("b", None)):
        fastifo.train(
            "bc", random_dataset(env_id=env_id), num_updates=2, out=tmp_path / name,
            progress=False, **SMALL,
        )  # fmt: skip
    for name, note in (
        ("a", f"not evaluated yet: fastifo evaluate {tmp_path}/a --play both"),
        ("b", "not evaluated: the data name no environment; give one with"),
    ):
        (found,) = run_table(read_runs(tmp_path / name)).notes
        assert found.startswith(note)
        assert report(tmp_path / name).exists()


def test_a_task_without_a_score_has_a_remark(tmp_path: Path) -> None:
    data = random_dataset(env_id="Hopper-v4")
    make_run(tmp_path, "bc", [100.0], [100.0], dataset=data, env=None)
    for path, env_id in ((tmp_path, "Hopper-v4"), (tmp_path, "Hopper-v5")):
        (run,) = read_runs(path)
        run.config["env_id"] = env_id
        table = run_table([run])
        assert any("D4RL's reference returns" in note for note in table.notes) == (
            env_id == "Hopper-v5"
        )


def test_several_folders_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, mean in (("old/bc", 100.0), ("new/bc", 200.0)):
        make_run(tmp_path / name, "bc", [mean], [mean])
    make_run(tmp_path / "vfo", "vfo_bin", [300.0], [300.0])
    folders = [tmp_path / name for name in ("old", "new/bc", "vfo", "old")]
    figure = report(folders, out=tmp_path / "compared")
    assert figure == tmp_path / "compared/report.png"
    assert sorted(path.name for path in (tmp_path / "compared").iterdir()) == [
        "cards", "report.html", "report.png", "results.csv",
    ]  # fmt: skip
    (table,) = [run_table(runs) for runs in [read_runs(folders)]]
    assert {k: v["sampled actions"] for k, v in cells(table).items() if k != "background"} == {
        "new/bc": "200", "old/bc": "100", "vfo_bin": "300",
    }  # fmt: skip
    rows = csv.DictReader((tmp_path / "compared/results.csv").read_text().splitlines())
    assert [row["run"] for row in rows] == ["new/bc", "old/bc", "vfo"]
    assert capsys.readouterr().out.count("returns with 95 % intervals") == 1
    with pytest.raises(FileNotFoundError, match="no run below this folder"):
        report([tmp_path / "nowhere", tmp_path / "neither"], out=tmp_path / "x")
    with pytest.raises(ValueError, match="folders: expected one or more, found none"):
        report([])


@pytest.mark.slow
def test_the_settings_of_a_sweep_are_aggregated_apart(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(
            tmp_path / str(seed), "vfo_bin", [100.0, 100.0, 900.0, 900.0],
            [500.0, 500.0, 50.0, 50.0], temperature=[0.3, 1.0], seeds=[0, 1],
            dataset=random_dataset(seed, env_id="Hopper-v4"),
        )  # fmt: skip
    runs = read_runs(tmp_path)
    names = ["vfo_bin, temperature=0.3", "vfo_bin, temperature=1.0"]
    assert series_of([line for run in runs for line in run.by_setting()]) == names
    rows = aggregate(runs)
    assert [row[0] for row in rows] == names
    assert rows[0][1] == pytest.approx(100 * (100 + 20.272305) / (3234.3 + 20.272305))
    (table,) = aggregate_tables(runs)
    rows_by_name = cells(table)
    scores = [[f"{100 * (mean + 20.272305) / (3234.3 + 20.272305):.1f}" for mean in pair]
              for pair in ((100, 500), (900, 50))]  # fmt: skip
    found = [[rows_by_name[name][kind] for kind in ("sampled actions", "mode")] for name in names]
    assert found == scores
    assert report(tmp_path).name == "differences.png"


def test_only_panels_with_content_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    from matplotlib.axes import Axes

    monkeypatch.setattr(Axes, "set_title", lambda axis, text: titles.append(text))
    make_run(tmp_path / "bc", "bc", [1.0], [2.0])
    report(tmp_path / "bc")
    assert titles == ["final policies", "training"]
    titles.clear()
    make_run(tmp_path / "vfo", "vfo_bin", [1.0], [2.0])
    report(tmp_path / "vfo")
    assert titles == ["final policies", "values"]
    titles.clear()
    (tmp_path / "bc" / FILE_OF[False]).unlink()
    (tmp_path / "bc" / FILE_OF[True]).unlink()
    report(tmp_path / "bc")
    assert titles == ["training"]
