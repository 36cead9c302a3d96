"""Atomic writes: a file has its old content or its new content, never part of it."""

import os
from pathlib import Path

import pytest

from fastifo.utils.files import (
    check_writable,
    read_json,
    sha256_file,
    write_atomic,
    write_bytes,
    write_json,
)
from support import contents, full_disk


def test_a_write_replaces_the_file_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert contents(tmp_path) == {"deep/file": b"new"}
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"ne")
        assert path.read_bytes() == b"old"
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"new")

    with open(path, "rb") as reader:
        write_atomic(path, write)
        assert reader.read() == b"old"  # the file is renamed over, never written into
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_midway_keeps_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        write_atomic(path, write)
    assert contents(tmp_path) == {"file": b"old"}


def test_a_full_disk_keeps_the_old_file_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with full_disk(), pytest.raises(OSError, match="could not be written") as caught:
        write_bytes(path, bytes(1000))
    assert str(path) in str(caught.value)
    assert "the old content is kept" in str(caught.value)
    assert contents(tmp_path) == {"file": b"old"}


def test_an_error_without_an_errno_keeps_its_message(tmp_path: Path) -> None:
    def write(temporary: Path) -> None:
        raise OSError("the library's message")

    with pytest.raises(OSError, match=r"could not be written \(the library's message\)") as caught:
        write_atomic(tmp_path / "file", write)
    assert "None" not in str(caught.value)


def test_a_file_where_a_folder_is_needed_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(OSError, match="could not be written") as caught:
        write_bytes(tmp_path / "file" / "below", b"")
    assert str(tmp_path / "file" / "below") in str(caught.value)
    assert contents(tmp_path) == {"file": b"in the way"}


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").write_bytes(b"kept")
    with pytest.raises(OSError, match="could not be written"):
        write_bytes(tmp_path / "folder", b"")
    assert contents(tmp_path) == {"folder/kept": b"kept"}


def test_a_place_where_nothing_can_be_written_is_known_before(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"kept")
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new" / "file")
    for place, words in ((tmp_path / "file" / "below", "file"), (tmp_path / "new", "directory")):
        with pytest.raises(OSError, match=words) as caught:
            check_writable(place)
        assert f"{place}: cannot be written" in str(caught.value)
    assert contents(tmp_path) == {"file": b"kept"}


@pytest.mark.parametrize("letter", ["e", "é", "文", "\U0001f4c1"])
def test_a_name_of_any_length_that_a_disk_accepts_can_be_written(
    tmp_path: Path, letter: str
) -> None:
    path = tmp_path / (letter * (255 // len(letter.encode())))
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert contents(tmp_path) == {path.name: b"new"}


def test_writing_leaves_no_open_file(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        write_bytes(tmp_path / "file", b"new")
        check_writable(tmp_path / "file")
    assert len(os.listdir("/proc/self/fd")) == before


def test_json_round_trips_and_other_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": [1, 2.5, None]})
    assert read_json(path) == {"a": [1, 2.5, None]}
    for content in (path.read_bytes()[:-4], b"\xff\xfe", b""):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"value\.json: expected JSON, found something else.*copy"
        ):
            read_json(path)


def test_the_hash_depends_on_the_content(tmp_path: Path) -> None:
    for name, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (sha256_file(tmp_path / name) for name in "abc")
    assert a == b != c
