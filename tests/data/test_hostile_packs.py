"""Packs whose header has a right hash but odd content are refused by file and field."""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastifo
from fastifo.data.pack import MAGIC, PAGE
from helpers import random_dataset
from image_data import image_dataset


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    """Changes a pack's header and gives it the hash of the new one."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[8:16])
    header = json.loads(content[16 : 16 + length])
    first = -(-(16 + length + 32) // PAGE) * PAGE
    changed = change(header)
    text = changed if isinstance(changed, bytes) else json.dumps(changed or header).encode()
    head = MAGIC + struct.pack("<Q", len(text)) + text
    head += hashlib.sha256(head).digest()
    path.write_bytes(head.ljust(-(-len(head) // PAGE) * PAGE, b"\0") + content[first:])


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    dataset = random_dataset(action_low=-2.0, action_high=1.0)
    dataset.save(tmp_path / "set.fastifo")
    return tmp_path / "set.fastifo"


def put(*keys: Any) -> Callable[[Any], None]:
    """A change: the last argument is the value, those before are the keys to its place."""
    *path, name, value = keys

    def change(header: Any) -> None:
        for key in path:
            header = header[key]
        header[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: b"[" * 100_000, "nested too deep"),
        (lambda h: b'{"a":' * 50_000, "nested too deep"),
        (lambda h: b"[1]", "header: expected an object, found a list"),
        (lambda h: b"3", "header: expected an object, found 3"),
        (lambda h: b"9" * 5000, "expected JSON"),
        (lambda h: b"\xff\xfe", "expected JSON"),
        (put("format", 3), r"header\.format: expected text, found 3"),
        (put("version", "2"), r"header\.version: expected an integer of at least 0, found '2'"),
        (put("version", 99), "version 3 or older, found fastifo-dataset version 99"),
        (put("env_id", 3), r"header\.env_id: expected text or null, found 3"),
        (put("info", []), r"header\.info: expected an object, found a list"),
        (put("columns", []), r"header\.columns: expected an object"),
        (put("columns", "background.obs", 3), r"columns\.background\.obs: expected an object"),
        (put("columns", "background.obs", "shape", "x"), r"obs\.shape: expected a list, found 'x'"),
        (put("columns", "background.obs", "shape", [3]), "'background.obs' with 1 dimensions"),
        (put("columns", "background.obs", "shape", [3, -1]), r"shape\[1\]: expected an integer"),
        (put("columns", "background.obs", "shape", [3, True]), r"shape\[1\]: expected an integer"),
        (put("columns", "background.obs", "shape", [10**30, 3]), "'background.obs' is damaged"),
        (put("columns", "background.obs", "offset", 1.0), r"offset: expected an integer"),
        (put("columns", "background.obs", "dtype", []), r"dtype: expected text, found a list"),
        (put("columns", "background.obs", "dtype", "int64"), "'background.obs' is damaged"),
        (put("columns", "mine.obs", {"dtype": "", "shape": [], "offset": 0}), "'mine.obs'"),
        (put("columns", "obs", {"dtype": "", "shape": [], "offset": 0}), "'obs' with 0"),
        (put("columns", "background.x", {"dtype": "", "shape": [], "offset": 0}), "background.x"),
        (lambda h: h["columns"].pop("action_low") and None, "action_low, action_high: expected"),
        (lambda h: h["columns"].pop("background.obs") and None, "background lacks obs"),
        (put("bytes", "x"), r"header\.bytes: expected an integer"),
        (put("bytes", 10**30), "bytes, found"),
        (put("block", 0), r"header\.block: expected an integer of at least 1, found 0"),
        (put("block", 7), r"header\.block: expected 1048576, found 7"),
        (put("crc32", 3), r"header\.crc32: expected a list, found 3"),
        (put("crc32", [None]), r"header\.crc32\[0\]: expected an integer"),
        (put("crc32", []), "damaged between bytes"),
    ],
)
def test_an_odd_header_is_named(pack: Path, change: Any, message: str) -> None:
    rewrite(pack, change)
    with pytest.raises(ValueError, match=message) as caught:
        fastifo.load(pack)
    assert str(pack) in str(caught.value)


@pytest.mark.parametrize(
    "info",
    [
        {"notes": "text"},
        {"notes": [1]},
        {"expert_returns": []},
        {"expert_returns": "x"},
        {"expert_returns": [1.0]},
        {"spec": 3},
    ],
)
def test_odd_info_is_kept_and_not_shown(pack: Path, info: Any) -> None:
    rewrite(pack, put("info", info))
    dataset = fastifo.load(pack)
    assert dataset.info == info
    assert "background" in dataset.summary()


def test_listing_a_pack_that_is_no_set_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastifo.cli.main import main

    random_dataset().save(tmp_path / "d=1.fastifo")
    with pytest.raises(SystemExit):
        main(["sibench", "show", str(tmp_path)])
    assert "info.spec: expected an object, found nothing" in capsys.readouterr().err


@pytest.fixture
def image_pack(tmp_path: Path) -> Path:
    image_dataset().save(tmp_path / "images.fastifo")
    return tmp_path / "images.fastifo"


def rename(header: Any) -> None:
    """Gives frames to a part that the pack does not have."""
    header["frames"]["nobody.front"] = header["frames"].pop("background.front")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("frames", [1]), "frames: expected an object"),
        (put("frames", "background.front", "shape", [18, 16, 17]), "front' are damaged"),
        (put("frames", "background.front", "shape", [17, 16, 17, 3]), "expected 18 frames, found"),
        (put("frames", "background.front", "shape", [18, 2**40, 2**40, 3]), "front' are damaged"),
        (put("frames", "background.front", "shape", [18, 0, 17, 3]), "frames.*shape"),
        (put("frames", "background.front", "offset", 1), "front' are damaged"),
        (put("frames", "background.front", "offset", 0), "front' are damaged"),
        (put("frames", "background.front", "offset", 2**62), "front' are damaged"),
        (put("frames", "background.front", "crc32", "00"), "front' are damaged"),
        (put("frames", "background.front", "crc32", "zzzzzzzz"), "front' are damaged"),
        (put("frames", "background.front", "crc32", 3), "crc32: expected text|crc32"),
        (put("frame_bytes", 2**62), "truncated"),
        (put("frame_bytes", -1), "frame_bytes"),
        (rename, r"nobody\.front: expected 0 frames"),
    ],
)
def test_odd_entries_of_frames_are_named(
    image_pack: Path, change: Callable[[Any], Any], message: str
) -> None:
    rewrite(image_pack, change)
    with pytest.raises(ValueError, match=message) as caught:
        fastifo.load(image_pack)
    assert "images.fastifo" in str(caught.value)
