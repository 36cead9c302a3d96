"""Where generated datasets and downloads are kept."""

import os
from pathlib import Path

import pytest

import fastifo
from fastifo.report.report import report
from fastifo.utils.folders import cache_folder
from helpers import SMALL, random_dataset


def test_the_cache_folder_follows_xdg_cache_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "fastifo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "fastifo"
    assert not os.path.exists(cache_folder())


def test_a_run_stays_where_it_is_when_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.chdir(first)

    def leave(run: fastifo.Run, update: int, members: object) -> None:
        os.chdir(second)

    dataset = random_dataset(env_id="Hopper-v4")
    run = fastifo.train(
        "bc", dataset, num_updates=4, out="run", log_every=1, callbacks=[leave], progress=False,
        **SMALL,
    )  # fmt: skip
    run.evaluate(1, progress=False)
    assert len(run.metrics()) == 4
    os.chdir(first)
    opened = fastifo.open_run("run")
    os.chdir(second)
    opened.evaluate(1, True, progress=False)
    assert os.listdir(second) == []
    assert {"returns.npz", "returns-deterministic.npz"} <= {*os.listdir(first / "run")}


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    random_dataset(env_id="Hopper-v4").save("~/data.fastifo")
    dataset = fastifo.load("~/data.fastifo")
    fields = SMALL | {"progress": False}
    run = fastifo.train("bc", dataset, num_updates=2, out="~/run", **fields)
    run.evaluate(1, progress=False).save("~/copy.npz")
    fastifo.open_run("~/run").save("~/saved")
    fastifo.improve(
        "bc", dataset, dataset, iterations=1, episodes=1, num_updates=2, out="~/improve", **fields
    )
    report("~/run")
    assert os.listdir() == []
    assert {"data.fastifo", "run", "copy.npz", "saved", "improve"} == {*os.listdir("../home")}
