"""Damaged and hostile files of a run are refused by name, and nothing outside it is touched."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastifo
from fastifo.engine.checkpoint import Checkpoints
from fastifo.report.report import report
from helpers import SMALL_UNET
from reliability.damage import FIELDS, change_manifest, make_run
from support import contents


def opening(run: Path, num_updates: int = 20) -> list[Callable[[], Any]]:
    """The ways to open a run."""
    return [lambda: fastifo.open_run(run), lambda: make_run(run, num_updates)]


@pytest.fixture
def untouched(run: Path) -> Iterator[Path]:
    """A folder beside the run, which the test must not change."""
    other = run.with_name("other")
    shutil.copytree(run, other)
    before = contents(other)
    yield other
    assert contents(other) == before


@pytest.mark.parametrize(
    "name",
    [
        "{other}/checkpoint/0-train-000000010.safetensors",
        "../../other/checkpoint/0-train-000000010.safetensors",
        "../checkpoint/0-train-000000010.safetensors",
        "./0-train-000000010.safetensors",
        "sub/0-train-000000010.safetensors",
        "..",
        ".",
        "",
        "manifest.json",
        "../config.json",
        "0-train-000000010.safetensors\0",
        "0-discriminator-000000004.safetensors",
        7,
        None,
        ["0-train-000000010.safetensors"],
    ],
)
def test_a_manifest_cannot_name_another_file(run: Path, untouched: Path, name: Any) -> None:
    if isinstance(name, str):
        name = name.format(other=untouched)
    change_manifest(run, lambda m: m["files"]["0-train"].update(file=name))
    before = contents(run)
    for attempt in opening(run):
        with pytest.raises(ValueError, match=r"manifest\.json: files\.0-train\.file: expected"):
            attempt()
    assert contents(run) == before


def test_a_manifest_key_cannot_lead_out_of_the_folder(run: Path, untouched: Path) -> None:
    key = "../../other/checkpoint/0-train"
    file = f"{key}-000000010.safetensors"
    change_manifest(run, lambda m: m["files"].update({key: m["files"]["0-train"] | {"file": file}}))
    with pytest.raises(ValueError, match=r"manifest\.json: files\."):
        make_run(run, 20)


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoint/0-train-000000010.safetensors"])
def test_a_link_out_of_the_folder_is_not_followed(run: Path, untouched: Path, name: str) -> None:
    (run / name).unlink()
    (run / name).symlink_to(untouched / name)
    with pytest.raises((ValueError, FileNotFoundError), match=r"found a link"):
        make_run(run, 20)


def test_a_checkpoint_folder_that_is_a_link_is_not_followed(run: Path, untouched: Path) -> None:
    shutil.rmtree(run / "checkpoint")
    (run / "checkpoint").symlink_to(untouched / "checkpoint")
    for attempt in opening(run):
        with pytest.raises(ValueError, match=r"checkpoint: expected a folder, found a link"):
            attempt()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"kernel_width": 0.04', '"kernel_width": 0.94'),
        ('"seed": 1', '"seed": 4'),
        ('"num_updates": 10', '"num_updates": 90'),
        ('"kernel_reading": "logits"', '"kernel_reading": "none"'),
        ('"low": null', '"low": [-2, -2]'),
        ('"engine": "native"', '"engine": "nbtive"'),
        ('"obs_dim": 3', '"obs_dim": 2'),
        ('"failed": {}', '"failed": {"0": 3}'),
        ("\n}", "\n} "),
    ],
)
def test_a_changed_config_is_called_damaged(run: Path, old: str, new: str) -> None:
    path = run / "config.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    attempts: list[Callable[[], Any]] = [*opening(run), lambda: report(run)]
    for attempt in attempts:
        with pytest.raises(ValueError, match=r"config\.json: damaged, its hash differs"):
            attempt()


def test_any_flipped_digit_of_a_manifest_is_noticed(run: Path) -> None:
    path = run / "checkpoint" / "manifest.json"
    text = path.read_text()
    start = text.index("train_s")
    time = range(start, text.index(",", start))  # differs between equal runs
    digits = [i for i, c in enumerate(text) if c.isdigit() and i not in time]
    for index in digits:
        flipped = str((int(text[index]) + 1) % 10)
        path.write_text(text[:index] + flipped + text[index + 1 :])
        with pytest.raises(ValueError, match=r"manifest\.json"):
            fastifo.open_run(run)


def test_a_manifest_with_other_counts_is_damaged_even_with_a_right_hash(run: Path) -> None:
    folder = run / "checkpoint"
    weights = folder / "0-train-000000010.safetensors"
    weights.rename(folder / "0-train-000000090.safetensors")
    change_manifest(
        run,
        lambda m: m["files"]["0-train"].update(
            num_updates=90, file="0-train-000000090.safetensors"
        ),
    )
    for attempt in opening(run, 90):
        with pytest.raises(ValueError, match=r"num_updates: expected 10, as in .*: damaged"):
            attempt()


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("files", [], "files: expected an object, found a list"),
        ("files", {"0-train": 3}, r"files\.0-train: expected an object, found 3"),
        ("metrics_bytes", -1, "metrics_bytes: expected an integer of at least 0, found -1"),
        ("metrics_bytes", 1.5, "metrics_bytes: expected an integer"),
        ("metrics_bytes", True, "metrics_bytes: expected an integer"),
        ("train_s", "1", "train_s: expected a number, found '1'"),
        ("failed", {"x": 1}, "failed: expected members' numbers, found x"),
        ("failed", {"0": None}, r"failed\.0: expected an integer of at least 0, found None"),
        ("config_sha256", "x", "config_sha256: expected a list, found 'x'"),
        ("metrics_sha256", 10**400, "metrics_sha256: expected text, found 1000"),
    ],
)
def test_odd_values_of_a_manifest_are_named(
    run: Path, field: str, value: Any, expected: str
) -> None:
    change_manifest(run, lambda m: m.update({field: value}))
    with pytest.raises(ValueError, match=rf"manifest\.json: {expected}"):
        fastifo.open_run(run)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "3", "{}", "[" * 100_000, '{"files": ' * 20_000, "9" * 5000, "\ud800x"],
)
@pytest.mark.parametrize("file", ["config.json", "checkpoint/manifest.json"])
def test_a_file_of_something_else_is_named(run: Path, file: str, text: str) -> None:
    (run / file).write_bytes(text.encode(errors="surrogatepass"))
    for attempt in opening(run):
        with pytest.raises(ValueError, match=file.rpartition("/")[2]):
            attempt()


@pytest.mark.parametrize("file", ["config.json", "checkpoint/manifest.json", "metrics.jsonl"])
def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(run: Path, file: str) -> None:
    (run / file).unlink()
    os.mkfifo(run / file)
    with pytest.raises(ValueError, match="expected a file, found a pipe"):
        make_run(run, 20)


def test_weights_without_their_manifest_are_not_deleted(run: Path) -> None:
    (run / "checkpoint" / "manifest.json").unlink()
    before = contents(run)
    with pytest.raises(ValueError, match=r"manifest\.json: expected the manifest of .*nothing"):
        make_run(run, 20)
    assert contents(run) == before


def test_equal_runs_have_equal_bytes(run: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "again")
    first, again = contents(run), contents(tmp_path / "again")
    assert first.keys() == again.keys()
    for name in first:
        if name != "checkpoint/manifest.json":  # it has the training time
            assert first[name] == again[name], name


def test_files_of_another_version_without_hashes_still_open(run: Path) -> None:
    path = run / "checkpoint" / "manifest.json"
    content = json.loads(path.read_text())
    for name in ("sha256", "config_sha256", "metrics_sha256"):
        del content[name]
    path.write_text(json.dumps(content))
    fastifo.open_run(run)
    make_run(run, 12)
    assert Checkpoints(run / "checkpoint").config_sha256


TGE: dict[str, Any] = {k: v for k, v in FIELDS.items() if k != "num_bins"} | SMALL_UNET
