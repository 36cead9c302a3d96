"""Studies on tiny data: rows are committed one by one, and any process continues."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fastifo
from bench.studies import main, precision, run, tge
from bench.studies.cells import COLUMNS, Cell, Results
from fastifo.benchmarks.bimodal import BimodalSpec
from fastifo.benchmarks.sibench_spec import SIBenchSpec
from fastifo.benchmarks.spec import parse_spec
from fastifo.studies.grid import settings_of
from fastifo.utils.lease import folder_lease
from helpers import SMALL, random_dataset
from support import write_expert

FIELDS = {name: value for name, value in SMALL.items() if name != "hidden_sizes"}


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(run, "EPISODES", 3)
    monkeypatch.setattr(run, "PLAYED", 2)
    expert = write_expert(tmp_path / "expert.npz")
    spec = f"sibench:Hopper-v4/d=1,episodes=2,bc_updates=2,demos=2,expert={expert}"
    shared = ("Hopper-v4", "middle", spec)
    return [
        Cell(*shared, "bc", 8, 2, fields=FIELDS),
        Cell(*shared, "bc", 8, 4, fields=FIELDS),
        Cell(*shared, "bc", 8, 2, iteration=1, fields=FIELDS),
    ]


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results.csv")


def call(cells: Sequence[Cell], results: Results, out: Path, *flags: str) -> None:
    """The study's command."""
    arguments = ["study", "--out", str(out), "--results", str(results.path), *flags]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        run.main("study", "A study.", results.path, lambda paper: cells)


def without_commit(results: Results) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "commit"} for row in results.read().values()]


def test_every_cell_has_a_row_and_is_not_trained_again(
    cells: list[Cell], results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    call(cells, results, tmp_path / "out")
    rows = results.read()
    assert {cell.key for cell in cells} == set(rows)
    assert all(tuple(row) == COLUMNS for row in rows.values())
    assert all(row["commit"] for row in rows.values())
    first = rows[cells[0].key]
    assert float(first["low"]) <= float(first["return"]) <= float(first["high"])
    assert len(first["per_seed"].split()) == 2
    assert float(first["mode"]) != float(first["return"])
    assert float(first["background_low"]) <= float(first["background"])
    assert float(first["expert"])
    assert rows[cells[2].key]["mode"] == ""  # an iteration plays samples only

    monkeypatch.setattr(fastifo, "train", None)  # would raise
    call(cells, results, tmp_path / "elsewhere")  # another machine has the rows only
    assert not (tmp_path / "elsewhere").exists()
    capsys.readouterr()
    call(cells, results, tmp_path / "out", "--list")
    assert capsys.readouterr().out.endswith("3 of 3 cells done; about 0 h are left\n")


def test_a_stopped_cell_continues_to_the_same_row(
    cells: list[Cell], results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, train = cells[1], fastifo.train
    call([cell], results, tmp_path / "out")

    def stopped(*arguments: Any, **fields: Any) -> Any:
        train(*arguments, **fields | {"num_updates": 3})
        raise KeyboardInterrupt

    other = Results(tmp_path / "other.csv")
    monkeypatch.setattr(fastifo, "train", stopped)
    call([cell], other, tmp_path / "resumed")
    assert other.read() == {}
    monkeypatch.setattr(fastifo, "train", train)
    call([cell], other, tmp_path / "resumed")
    assert without_commit(other) == without_commit(results)


def test_the_time_limit_stops_between_updates(
    cells: list[Cell], results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = Cell(**vars(cells[0]) | {"updates": 10_000_000})
    run.load_dataset(long.spec)  # so that the time ends in training
    call([long], results, tmp_path / "out", "--minutes", "0.02")
    assert results.read() == {}
    assert capsys.readouterr().out.endswith("stopped; the same command continues\n")
    assert fastifo.open_run(tmp_path / "out" / long.folder / "run").updates_done > 0


def test_a_cell_of_another_process_is_left_to_it(
    cells: list[Cell], results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Cell(**vars(cells[0]) | {"hidden": 6})
    with folder_lease(tmp_path / "out" / cells[0].folder):
        call([cells[0], other], results, tmp_path / "out", "--only", "middle", "2")
        call([cells[0]], results, tmp_path / "out", "--list")
    assert set(results.read()) == {other.key}
    assert "Hopper-v4 middle bc 8x2 2: running" in capsys.readouterr().out


def test_a_file_with_other_columns_is_refused(results: Results) -> None:
    results.path.write_text("task,return\nHopper-v4,1\n")
    with pytest.raises(ValueError, match=r"results\.csv: expected the columns task, set"):
        results.read()


def test_a_cell_that_diverges_stays_open_and_the_next_one_runs(
    cells: list[Cell], results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def values(cell: Cell, *arguments: Any) -> dict[str, Any]:
        if cell == cells[0]:
            raise FloatingPointError("no member's losses are finite")
        return dict.fromkeys(COLUMNS, "")

    monkeypatch.setattr(run, "run_cell", values)
    call(cells[:2], results, tmp_path / "out")
    assert set(results.read()) == {cells[1].key}


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_a_seed_that_diverges_in_an_improvement_has_no_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "PLAYED", 6)
    monkeypatch.setattr(fastifo, "improve", lambda *args, **fields: None)
    dataset = random_dataset(env_id="Hopper-v4")
    (tmp_path / "seed-1/iteration-02").mkdir(parents=True)
    dataset.save(tmp_path / "seed-1/iteration-02/played.fastifo")
    cell = Cell("Hopper-v4", "improve", "spec", "awr", 8, 3, seeds=(0, 1), iteration=3)
    values = run.improve_cell(cell, dataset, tmp_path, "fp32")
    returns = dataset.background.returns()
    assert returns is not None
    assert values["return"] == pytest.approx(float(returns.mean()), abs=0.05)
    assert values["per_seed"].split()[0] == "nan"


@pytest.mark.parametrize("paper", [False, True])
def test_the_main_study_lists_each_cell_once_and_middle_sets_first(paper: bool) -> None:
    cells = main.all_cells(paper)
    assert len({cell.key for cell in cells}) == len(cells)
    middle = {(c.task, c.method) for c in cells[:40] if c.set == "middle"}
    assert middle >= {(t, m) for t in main.TASKS for m in ("bc", "vfo_bin", "vfo_disc", "awr")}
    assert max(cell.updates for cell in cells) == (1_000_000 if paper else 200_000)


@pytest.mark.parametrize("paper", [False, True])
@pytest.mark.parametrize("study", [main, precision, tge])
def test_every_cell_has_fields_and_data_that_exist(study: Any, paper: bool) -> None:
    cells = study.all_cells(paper)
    for cell in {(c.method, c.variant): c for c in cells}.values():
        fields = {"hidden_sizes": (cell.hidden, cell.hidden), "seeds": cell.seeds, **cell.fields}
        assert len(settings_of(cell.method, fields).members) == len(cell.seeds)
        assert run.fast_precision(cell.method) in ("bf16", "auto")
        assert cell.minutes() > 0
    for spec in {cell.spec for cell in cells}:
        if spec.startswith("sibench:"):
            SIBenchSpec.parse(spec)
        else:
            parse_spec(BimodalSpec, spec, "expert", "")


def test_each_case_of_the_precision_study_differs_in_its_precision_alone() -> None:
    cells = precision.all_cells(paper=False)
    assert len({cell.folder for cell in cells}) == len(cells) == 12
    for fp32, bf16 in zip(cells[::2], cells[1::2], strict=True):
        assert (fp32.fields["precision"], bf16.fields["precision"]) == ("fp32", "bf16")
        assert replace(fp32, variant="bf16", fields=bf16.fields) == bf16
        assert fp32.seeds == (0, 1, 2)


def test_a_cell_can_set_its_own_precision(cells: list[Cell], tmp_path: Path) -> None:
    cell = replace(cells[0], fields={**FIELDS, "precision": "fp64"})
    dataset = fastifo.load(cell.spec, progress=False)
    assert run.run_cell(cell, dataset, tmp_path / "out", "fp32")["precision"] == "fp64"
