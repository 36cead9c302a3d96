"""A dataset's file: equal when read back, refused when damaged, safe when the disk is full."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import fastifo
from fastifo.data import pack
from fastifo.data.dataset import Dataset
from helpers import random_dataset
from support import contents, full_disk


def saved(folder: Path, **fields: Any) -> tuple[Dataset, Path]:
    dataset = random_dataset(**fields)
    path = folder / "set.fastifo"
    dataset.save(path)
    return dataset, path


def assert_equal(found: Dataset, expected: Dataset) -> None:
    assert found.fingerprint() == expected.fingerprint()
    assert (found.env_id, found.info) == (expected.env_id, expected.info)
    for name in ("action_low", "action_high"):
        a, b = getattr(found, name), getattr(expected, name)
        assert (a is None and b is None) or torch.equal(a, b)


def test_a_saved_dataset_loads_equal(tmp_path: Path) -> None:
    dataset, path = saved(tmp_path, env_id="Hopper-v4", action_low=-2, action_high=2.0)
    found = fastifo.load(path)
    assert_equal(found, dataset)
    assert found.background.start.dtype == torch.int64
    assert contents(tmp_path).keys() == {"set.fastifo"}


def test_missing_parts_stay_missing(tmp_path: Path) -> None:
    dataset, path = saved(tmp_path, expert=False, reward=False)
    found = fastifo.load(str(path))
    assert_equal(found, dataset)
    assert found.expert is None
    assert found.background.reward is None
    assert found.action_low is None


def test_provenance_survives(tmp_path: Path) -> None:
    base = random_dataset()
    info = {"spec": {"d": 1}, "source": "ünïcode"}
    dataset = Dataset(base.background, base.expert, "Ant-v4", info=info)
    dataset.save(tmp_path / "a")
    assert fastifo.load(tmp_path / "a").info == info


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_cut_file_is_refused(tmp_path: Path, share: float) -> None:
    _, path = saved(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"set\.fastifo: .*cut or foreign"):
        fastifo.load(path)


@pytest.mark.parametrize("content", [b"{}", b"\x89HDF\r\n\x1a\n" + bytes(500), b"PK\x03\x04abc"])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "set.fastifo"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected a fastifo-dataset file, found one that is cut"):
        fastifo.load(path)


def test_weights_of_another_program_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="found a safetensors file of another program"):
        fastifo.load(path)


def test_a_checkpoint_is_no_dataset(tmp_path: Path) -> None:
    path = tmp_path / "file"
    pack.save_tensors({"w": torch.zeros(2)}, {"format": "fastifo-checkpoint", "version": 1}, path)
    with pytest.raises(ValueError, match="expected a fastifo-dataset file, found fastifo-checkp"):
        fastifo.load(path)


def test_a_newer_version_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "VERSION", 2)
    _, path = saved(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="expected version 1 or older, found 2; update fastifo"):
        fastifo.load(path)


def test_any_flipped_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    dataset, path = saved(tmp_path, env_id="Hopper-v4")
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    messages = []
    for place in [*range(0, header, 3), *range(header, len(whole), 101)]:
        damaged = bytearray(whole)
        damaged[place] ^= 0x0F  # turns an F of a dtype into an I, a digit into another
        path.write_bytes(damaged)
        try:
            assert_equal(fastifo.load(path), dataset)
        except ValueError as error:
            messages.append(str(error))
    assert all(str(path) in message for message in messages)
    assert len(messages) > 0.9 * header / 3


def test_a_damaged_column_is_named(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    whole = bytearray(path.read_bytes())
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    first, last = header["background.reward"]["data_offsets"]
    whole[-(header["expert.timeout"]["data_offsets"][1] - first) + 1] ^= 1
    assert last > first
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"column 'background\.reward' is damaged"):
        fastifo.load(path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    tensors, header = pack.load_tensors(path, pack.FORMAT)
    del tensors["background.terminal"]
    pack.save_tensors(tensors, header, path)
    with pytest.raises(ValueError, match=r"column 'background\.terminal' is damaged"):
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


def test_a_library_that_fails_halfway_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = saved(tmp_path)
    before = contents(tmp_path)

    def save_half(tensors: Any, temporary: Path, metadata: Any) -> None:
        Path(temporary).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pack, "save_file", save_half)
    with pytest.raises(OSError, match="No space left on device"):
        random_dataset(1).save(path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("nowhere.fastifo", FileNotFoundError, "nowhere.fastifo: expected a fastifo-dataset file"),
        ("d4rl:hopper", ValueError, "unknown kind of dataset 'd4rl'; known: sibench, or a file"),
        ("https://host/a", ValueError, "unknown kind of dataset 'https'"),
    ],
)
def test_what_cannot_be_loaded_is_named(spec: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastifo.load(spec)


def test_a_folder_is_not_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="found a folder"):
        fastifo.load(tmp_path)
