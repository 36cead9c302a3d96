"""Packs: equal when read back, refused when damaged, kept when the disk is full."""

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

import fastifo
from fastifo.data import pack
from fastifo.data.dataset import Dataset
from fastifo.engine.tensorfile import save_tensors
from helpers import random_dataset
from support import contents, full_disk


def saved(folder: Path, **fields: Any) -> tuple[Dataset, Path]:
    dataset = random_dataset(**fields)
    path = folder / "set.fastifo"
    dataset.save(path)
    return dataset, path


def assert_equal(actual: Dataset, expected: Dataset) -> None:
    assert actual.fingerprint() == expected.fingerprint()
    assert (actual.env_id, actual.info) == (expected.env_id, expected.info)
    for name in ("action_low", "action_high"):
        a, b = getattr(actual, name), getattr(expected, name)
        assert (a is None and b is None) or torch.equal(a, b)


def test_a_saved_dataset_loads_equal(tmp_path: Path) -> None:
    dataset, path = saved(tmp_path, env_id="Hopper-v4", action_low=-2, action_high=2.0)
    loaded = fastifo.load(path)
    assert_equal(loaded, dataset)
    assert loaded.background.start.dtype == torch.int64
    assert contents(tmp_path).keys() == {"set.fastifo"}


def test_missing_parts_stay_missing(tmp_path: Path) -> None:
    dataset, path = saved(tmp_path, expert=False, reward=False)
    loaded = fastifo.load(str(path))
    assert_equal(loaded, dataset)
    assert loaded.expert is None
    assert loaded.background.reward is None
    assert loaded.action_low is None


def test_provenance_survives(tmp_path: Path) -> None:
    base = random_dataset()
    info = {"spec": {"d": 1}, "source": "ünïcode"}
    dataset = Dataset(base.background, base.expert, "Ant-v4", info=info)
    dataset.save(tmp_path / "a")
    assert fastifo.load(tmp_path / "a").info == info


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    _, path = saved(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"set\.fastifo: .*truncated or of ano|header is damaged"):
        fastifo.load(path)


@pytest.mark.parametrize("data", [b"{}", b"\x89HDF\r\n\x1a\n" + bytes(500), b"PK\x03\x04abc"])
def test_a_file_of_another_format_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "set.fastifo"
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"expected a fastifo-dataset file, found one that is trunc"
    ):
        fastifo.load(path)


def test_a_file_of_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_tensors({"w": torch.zeros(2)}, {"format": "fastifo-checkpoint", "version": 1}, path)
    with pytest.raises(ValueError, match=r"expected a file of fastifo, HDF5, .* found another"):
        fastifo.load(path)
    path = path.rename(tmp_path / "model.fastifo")
    with pytest.raises(
        ValueError, match="expected a fastifo-dataset file, found one that is trunc"
    ):
        fastifo.load(path)


def test_a_newer_version_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "VERSION_WITHOUT_FRAMES", 4)
    _, path = saved(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="expected fastifo-dataset version 3 or older, found"):
        fastifo.load(path)


@pytest.mark.slow
def test_every_flipped_bit_is_detected(tmp_path: Path) -> None:
    _, path = saved(tmp_path, env_id="Hopper-v4")
    content = path.read_bytes()
    assert pack.verify(path) == len(content)
    with path.open("r+b", buffering=0) as file:
        for index, byte in enumerate(content):
            os.pwrite(file.fileno(), bytes([byte ^ 1 << index % 8]), index)
            with pytest.raises(ValueError, match=str(path)):
                pack.verify(path)
            with pytest.raises(ValueError, match=str(path)):
                fastifo.load(path)
            os.pwrite(file.fileno(), bytes([byte]), index)


def test_a_damaged_column_is_named(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    content = bytearray(path.read_bytes())
    column = pack.read_header(path)["columns"]["background.reward"]
    content[len(content) - pack.read_header(path)["bytes"] + column["offset"] + 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged between .*background\.reward"):
        fastifo.load(path)


def test_checksums_of_many_small_blocks_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "BLOCK", 256)
    dataset, path = saved(tmp_path)
    assert len(pack.read_header(path)["crc32"]) == -(-pack.read_header(path)["bytes"] // 256) > 5
    assert_equal(fastifo.load(path), dataset)


def test_a_large_file_is_checked_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = saved(tmp_path)
    monkeypatch.setattr(pack, "CHECKED_WHEN_OPENED", 0)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    dataset = fastifo.load(path)  # opening reads only the header
    with pytest.raises(ValueError, match="damaged between"):
        fastifo.train("bc", dataset, num_updates=1, progress=False)
    content[-100] ^= 1
    path.write_bytes(content)
    fastifo.load(path).verify()


def test_writing_to_a_loaded_column_does_not_change_the_file(tmp_path: Path) -> None:
    dataset, path = saved(tmp_path)
    fastifo.load(path).background.obs.zero_()
    assert_equal(fastifo.load(path), dataset)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"background.terminal": None}, "background lacks terminal"),
        ({"background.obs": {"offset": 1 << 40}}, r"column 'background\.obs' is damaged"),
        ({"background.obs": {"dtype": "float64"}}, r"column 'background\.obs' is damaged"),
        ({"background.obs": {"shape": [3, 3]}}, "do not fit together"),
    ],
)
def test_an_inconsistent_header_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    _, path = saved(tmp_path)
    header = pack.read_header(path)
    data = path.read_bytes()[-header["bytes"] :]
    for name, fields in change.items():
        if fields is None:
            del header["columns"][name]
        else:
            header["columns"][name] |= fields
    text = json.dumps(header).encode()
    start = pack.MAGIC + struct.pack("<Q", len(text)) + text
    start += hashlib.sha256(start).digest()
    path.write_bytes(start.ljust(-(-len(start) // pack.PAGE) * pack.PAGE, b"\0") + data)
    with pytest.raises(ValueError, match=message):
        fastifo.load(path)


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    before = contents(tmp_path)
    other = random_dataset(1)
    with full_disk(1000), pytest.raises(OSError, match="could not be written") as caught:
        other.save(path)
    assert str(path) in str(caught.value)
    assert "Free some space" in str(caught.value)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("nowhere.fastifo", FileNotFoundError, "nowhere.fastifo: expected a fastifo-dataset file"),
        (
            "x5:hopper",
            ValueError,
            "unknown kind of dataset 'x5'; known: sibench, bimodal, robosuite,",
        ),
        ("https://host/a", ValueError, "unknown kind of dataset 'https'"),
    ],
)
def test_missing_files_and_unknown_kinds_are_refused(
    spec: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fastifo.load(spec)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="found a folder"):
        fastifo.load(tmp_path)
