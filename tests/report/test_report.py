"""Reports are made from run folders alone."""

import csv
import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastifo
from fastifo.envs.returns import Returns
from fastifo.report.figures import find_sweeps
from fastifo.report.report import report, report_tables
from fastifo.report.runs import read_runs
from fastifo.utils.files import read_json, write_json
from helpers import SMALL, random_dataset
from support import contents, full_disk

PNG = b"\x89PNG\r\n\x1a\n"


def make_run(folder: Path, name: str = "bc", seeds: int = 2, **fields: Any) -> Path:
    """A run of a few updates with random numbers as returns."""
    dataset = fields.pop("dataset", None) or random_dataset(env_id="Hopper-v4")
    fastifo.train(
        name,
        dataset,
        num_updates=4,
        seeds=range(seeds),
        log_every=2,
        out=folder,
        progress=False,
        **SMALL | fields,
    )
    rng = np.random.default_rng(seeds)
    for deterministic, file in ((False, "returns.npz"), (True, "returns-deterministic.npz")):
        returns = rng.normal(1000.0 + 500 * deterministic, 10.0, (seeds, 20))
        lengths = np.ones((seeds, 20), np.int64)
        Returns(returns, lengths, "Hopper-v4", deterministic, {}).save(folder / file)
    manifest = folder / "checkpoint/manifest.json"
    write_json(manifest, read_json(manifest) | {"train_s": 12.0})
    return folder


def test_the_table_has_the_background_and_each_run_and_cuts_nothing_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    make_run(tmp_path / "a", "vfo_bin", seeds=6)
    make_run(tmp_path / "b", "bc")
    report_tables(read_runs(tmp_path), [])
    text = capsys.readouterr().out
    assert "…" not in text
    rows = re.findall(r"background|vfo_bin|bc", text)
    assert rows == ["background", "bc", "vfo_bin"]
    (row,) = (line for line in text.splitlines() if "vfo_bin" in line)
    returns = Returns.load(tmp_path / "a/returns.npz")
    low, high = returns.interval
    for part in (f"{returns.mean:.0f}", f"{low:.0f} to {high:.0f}", f"{returns.score:.1f}", "12 s"):
        assert part in row
    assert " ".join(f"{value:.0f}" for value in returns.per_member) in row


def test_the_expert_has_a_row_if_its_return_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = random_dataset(env_id="Hopper-v4")
    info = {"expert_returns": [3234.0, 3234.6]}
    dataset = fastifo.Dataset(base.background, base.expert, base.env_id, info=info)
    make_run(tmp_path / "a", dataset=dataset)
    report_tables(read_runs(tmp_path), [])
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "expert" in line)
    assert "3234" in row
    assert "100.0" in row


def test_a_run_without_evaluation_is_listed_as_not_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path)
    (tmp_path / "returns.npz").unlink()
    (tmp_path / "returns-deterministic.npz").unlink()
    assert report(tmp_path) == tmp_path / "report.png"
    assert "not evaluated" in capsys.readouterr().out


def test_a_run_with_returns_of_the_mode_only_has_a_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path)
    (tmp_path / "returns.npz").unlink()
    report(tmp_path)
    out = capsys.readouterr().out
    mode = Returns.load(tmp_path / "returns-deterministic.npz").mean
    assert "not evaluated" not in out
    (row,) = (line for line in out.splitlines() if " bc " in line)
    assert f"{mode:.0f}" in row


def test_the_figure_is_written_to_the_given_path(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "a", "vfo_bin")
    path = report(tmp_path / "runs", tmp_path / "figures" / "a.png")
    assert path == tmp_path / "figures" / "a.png"
    assert path.read_bytes().startswith(PNG)


def test_runs_without_rewards_or_an_environment_can_be_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, dataset=random_dataset(reward=False))
    report(tmp_path)
    text = capsys.readouterr().out
    assert "no environment: returns" in text
    assert "background" not in text


def test_a_report_needs_only_the_folder_and_changes_no_run(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")
    before = contents(tmp_path)
    report(tmp_path)
    after = contents(tmp_path)
    assert after.pop("report.png").startswith(PNG)
    page = after.pop("report.html").decode()
    assert after.pop("results.csv").startswith(b"env_id,set,background,algorithm,run,")
    assert after.pop("card.md").startswith(b"---\nlibrary_name: fastifo")
    assert after == before
    assert page.count("<img") == 1
    for word in ("moved", "&quot;learning_rate&quot;", "95 % interval", "data:image/png"):
        assert word in page
    assert "http" not in page  # the page needs no other file


def test_a_full_disk_keeps_the_old_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "run")
    report(tmp_path)
    before = contents(tmp_path)
    with full_disk(), pytest.raises(OSError, match=r"report\.png: could not be written"):
        report(tmp_path)
    assert contents(tmp_path) == before


def test_runs_of_the_same_algorithm_are_labelled_by_their_folder(tmp_path: Path) -> None:
    for name in ("wide", "narrow"):
        make_run(tmp_path / name, seeds=1)
    make_run(tmp_path / "v", "vfo_bin")
    assert [run.label for run in read_runs(tmp_path)] == ["narrow", "wide", "vfo_bin"]


def test_a_folder_whose_name_is_no_utf_8_can_be_reported(tmp_path: Path) -> None:
    for name in (b"a", b"run-\xe9"):
        make_run(tmp_path / os.fsdecode(name), seeds=1)
    report(tmp_path)
    assert "run-?" in (tmp_path / "report.html").read_text()


def test_each_dataset_has_its_own_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "a", dataset=random_dataset(0, env_id="Hopper-v4"))
    make_run(tmp_path / "b", dataset=random_dataset(1, env_id="Ant-v4"))
    report(tmp_path)
    text = capsys.readouterr().out
    assert text.count("background") == 2
    assert text.index("Hopper-v4: returns") < text.index("Ant-v4: returns")
    assert len(re.findall(r"│ bc +│", text)) == 2  # unique in its table, so no folder


@pytest.mark.parametrize(
    "spec", ["d4rl:hopper-medium-v2", "minari:d", "robomimic:expert.hdf5", None]
)
def test_data_from_files_have_no_set_name(
    spec: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = random_dataset(env_id="Hopper-v4")
    make_run(tmp_path, dataset=dataclasses.replace(base, info={"spec": spec}))
    report(tmp_path)
    assert "Hopper-v4: returns" in capsys.readouterr().out
    (row, *_) = csv.DictReader((tmp_path / "results.csv").read_text().splitlines())
    assert row["set"] == ""


def test_a_folder_without_runs_raises(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"format": "another program"})
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match="no run below this folder"):
            report(folder)


def test_damaged_files_of_a_run_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    metrics = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(metrics[:-5])
    with pytest.raises(ValueError, match=r"metrics\.jsonl: damaged: expected .* bytes or more"):
        report(tmp_path)
    (run / "metrics.jsonl").write_text(metrics + '{"update": 5, "mem')
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 5 is not JSON"):
        report(tmp_path)
    (run / "metrics.jsonl").write_text(metrics)
    (run / "returns.npz").write_bytes((run / "returns.npz").read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"returns\.npz: expected the returns of a run"):
        report(tmp_path)
    config = json.loads((run / "config.json").read_text())
    del config["datasets"]
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json: lacks datasets; train again"):
        report(tmp_path)
    (run / "config.json").write_text(json.dumps(config)[:-1])
    with pytest.raises(ValueError, match=r"config\.json: expected JSON"):
        report(tmp_path)


@pytest.mark.slow
def test_a_sweep_has_a_panel_for_each_field_in_which_members_differ(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", "vfo_bin", temperature=[0.1, 1.0, 10.0], alpha=[0.2, 0.8])
    config = read_json(run / "config.json")
    temperatures = [member["config"]["temperature"] for member in config["members"]]
    assert len(temperatures) == 12
    returns = np.array(temperatures)[:, None] + np.zeros((12, 5))
    Returns(returns, np.ones((12, 5), np.int64), "Hopper-v4", False, {}).save(run / "returns.npz")
    (run / "returns-deterministic.npz").unlink()
    make_run(tmp_path / "b", "bc")
    titles = sorted(sweep.title for sweep in find_sweeps(read_runs(tmp_path)))
    assert titles == ["Hopper-v4: vfo_bin, alpha", "Hopper-v4: vfo_bin, temperature"]
    report(tmp_path)
    assert (tmp_path / "sweeps.png").read_bytes().startswith(PNG)
    assert "Sensitivity" in (tmp_path / "report.html").read_text()


def test_the_csv_file_has_a_line_for_each_policy(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs/vfo", "vfo_bin", seeds=2, temperature=[0.5, 1.0])
    rng = np.random.default_rng(0)
    for deterministic, name in ((False, "returns.npz"), (True, "returns-deterministic.npz")):
        returns = rng.normal(1000.0, 10.0, (4, 20))
        lengths = np.ones((4, 20), np.int64)
        Returns(returns, lengths, "Hopper-v4", deterministic, {}).save(run / name)
    make_run(tmp_path / "runs/bc", "bc", seeds=1)
    report(tmp_path)
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    sampled = Returns.load(tmp_path / "runs/vfo/returns.npz").returns
    modes = Returns.load(tmp_path / "runs/vfo/returns-deterministic.npz").returns
    assert [(row["run"], row["seed"], row["swept"]) for row in rows] == [
        ("runs/bc", "0", ""),
        ("runs/vfo", "0", "temperature=0.5"),
        ("runs/vfo", "1", "temperature=0.5"),
        ("runs/vfo", "0", "temperature=1.0"),
        ("runs/vfo", "1", "temperature=1.0"),
    ]
    for member, row in enumerate(rows[1:]):
        assert row["algorithm"] == "vfo_bin"
        assert float(row["return"]) == pytest.approx(sampled[member].mean(), abs=0.05)
        assert float(row["std"]) == pytest.approx(sampled[member].std(), abs=0.05)
        assert float(row["mode"]) == pytest.approx(modes[member].mean(), abs=0.05)
        assert float(row["score"]) == pytest.approx(
            100.0 * (sampled[member].mean() + 20.272305) / (3234.3 + 20.272305), abs=0.005
        )
