"""What a killed process leaves is recognised and removed; files of others are not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastifo
from fastifo.utils.files import TEMPORARY, sweep, write_atomic, write_bytes
from fastifo.utils.locks import LOCK
from helpers import SMALL, random_dataset
from reliability.damage import make_run
from support import contents

DIE = """
import os, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from fastifo.utils import files
from reliability.damage import make_run
files.sync = lambda path: os._exit(9)  # config.json is written and not yet renamed
{job}
"""
TESTS = str(Path(__file__).parents[1])


def die(job: str) -> None:
    code = DIE.format(tests=TESTS, job=job)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.endswith(TEMPORARY)]


def test_a_run_killed_while_its_config_was_written_continues(tmp_path: Path) -> None:
    die(f"make_run(Path({str(tmp_path / 'run')!r}))")
    assert [name[:13] for name in leftovers(tmp_path)] == [".config.json."]
    assert not (tmp_path / "run/config.json").exists()
    make_run(tmp_path / "run")
    make_run(tmp_path / "reference")
    assert contents(tmp_path / "run").keys() == contents(tmp_path / "reference").keys()


@pytest.mark.parametrize(
    "name",
    [
        f".config.json.abcdefgh{TEMPORARY}",
        ".config.json.abcd_123",  # of a version before
        ".0-train-000000005.safetensors.abcdefgh",
        LOCK,
    ],
)
def test_a_folder_with_leftovers_alone_counts_as_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_bytes(b"{")
    make_run(tmp_path / "run")
    assert (tmp_path / "run" / name).exists() == (not name.endswith(TEMPORARY) and name != LOCK)


@pytest.mark.parametrize("name", [".config.json", ".config.json.swp", "notes", ".hidden", ".x.tmp"])
def test_a_folder_with_files_of_others_is_refused_and_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_bytes(b"mine")
    with pytest.raises(ValueError, match="found other files; choose another"):
        make_run(tmp_path / "run")
    assert contents(tmp_path) == {f"run/{name}": b"mine"}


def test_old_checkpoints_and_temporary_files_are_removed_when_a_run_continues(
    tmp_path: Path,
) -> None:
    make_run(tmp_path / "run")
    folder = tmp_path / "run/checkpoint"
    before = {path.name for path in folder.iterdir()}
    for name in (
        "0-train-000000005.safetensors", "3-discriminator-000000001.safetensors",
        f".manifest.json.abcdefgh{TEMPORARY}", f".0-train-000000010.safetensors.a{TEMPORARY}",
    ):  # fmt: skip
        (folder / name).write_bytes(b"left")
    (folder / "mine.safetensors").write_bytes(b"mine")
    make_run(tmp_path / "run")
    assert {path.name for path in folder.iterdir()} == {*before, "mine.safetensors"}


def test_a_write_removes_leftovers_of_the_same_file_only(tmp_path: Path) -> None:
    left = [f".a.hdf5.x{TEMPORARY}", f".a.hdf5.old.x{TEMPORARY}", f".b.hdf5.x{TEMPORARY}"]
    for name in left:
        (tmp_path / name).write_bytes(b"left")
    write_bytes(tmp_path / "a.hdf5", b"new")
    assert sorted(contents(tmp_path)) == sorted([left[1], left[2], "a.hdf5"])


def test_files_that_a_living_process_writes_are_not_swept(tmp_path: Path) -> None:
    def write(temporary: Path) -> None:
        sweep(tmp_path)
        command = f"from fastifo.utils.files import *; sweep(Path({str(tmp_path)!r}))"
        subprocess.run([sys.executable, "-c", command], check=True)
        temporary.write_bytes(b"new")

    write_atomic(tmp_path / "file", write)
    assert contents(tmp_path) == {"file": b"new"}


def test_a_link_with_the_name_of_a_leftover_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").write_bytes(b"kept")
    (tmp_path / f".x.a{TEMPORARY}").symlink_to(tmp_path / "mine")
    sweep(tmp_path)
    assert (tmp_path / "mine" / "kept").read_bytes() == b"kept"


def test_a_killed_save_leaves_nothing_after_the_next_one(tmp_path: Path) -> None:
    run = fastifo.train("bc", random_dataset(), num_updates=2, progress=False, **SMALL)
    stale = tmp_path / f".run.abcdefgh{TEMPORARY}"
    stale.mkdir()
    (stale / "config.json").write_text("{")
    run.save(tmp_path / "run")
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("folder", ["study", "improve"])
def test_a_plan_that_was_not_finished_is_written_again(tmp_path: Path, folder: str) -> None:
    from fastifo.utils.files import keep_plan

    path = tmp_path / folder / "plan.json"
    path.parent.mkdir()
    (path.parent / f".plan.json.abcdefgh{TEMPORARY}").write_text('{"a"')
    keep_plan(path, {"a": 1})
    assert os.listdir(path.parent) == ["plan.json"]
    assert json.loads(path.read_text()) == {"a": 1}
