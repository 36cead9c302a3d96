"""Downloads from a local server that truncates, stalls, or sends a wrong size or wrong bytes."""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

import fastifo
from data.download_server import NAME, Server
from data.formats.files import assert_same, episodes, write_d4rl
from fastifo.data import download
from fastifo.data.formats import d4rl
from fastifo.utils.folders import cache_folder


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "TIMEOUT_S", 0.5)
    write_d4rl(tmp_path / "valid.hdf5", episodes())
    server = Server((tmp_path / "valid.hdf5").read_bytes())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def fetch(server: Server, **fields: str) -> Path:
    return download.fetch(server.url, NAME, progress=False, **fields)


def files_in_folder(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir())


@pytest.mark.parametrize(
    "ways",
    [
        ["complete"],
        ["truncated", "complete"],
        ["truncated", "truncated", "truncated", "complete"],
        ["stall", "complete"],
        ["503", "complete"],
        ["truncated", "no ranges"],
    ],
)
@pytest.mark.slow
def test_the_file_is_complete_after_interruptions(server: Server, ways: list[str]) -> None:
    server.ways = list(ways)
    path = fetch(server)
    assert path.read_bytes() == server.content
    assert files_in_folder(path) == [NAME, f"{NAME}.sha256"]
    if ways[0] in ("truncated", "stall") and ways[1] != "no ranges":
        assert server.asked[1] is not None  # only the missing bytes
    count = len(server.asked)
    assert fetch(server) == path
    assert len(server.asked) == count


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("more", "gave up after 5 attempts: "),
        ("stall", "gave up after 5 attempts: timed out"),
        ("503", "gave up after 5 attempts: HTTP Error 503"),
        ("404", "HTTP Error 404"),
        ("page", "found one that starts with b'<html>no'"),
    ],
)
@pytest.mark.slow
def test_a_download_that_never_completes_is_refused(server: Server, way: str, message: str) -> None:
    server.ways = [way]
    with pytest.raises(OSError, match=message) as caught:
        fetch(server)
    assert f"put the file at {cache_folder() / 'downloads' / NAME}" in str(caught.value)
    assert not (cache_folder() / "downloads" / NAME).exists()


@pytest.mark.parametrize("libver", ["earliest", "v108", "v110", "latest"])
def test_a_file_truncated_by_a_wrong_content_length_is_refused(
    server: Server, tmp_path: Path, libver: str
) -> None:
    with h5py.File(tmp_path / "other.hdf5", "w", libver=libver) as file:
        file["observations"] = np.zeros((500, 3))
    server.content = (tmp_path / "other.hdf5").read_bytes()
    server.ways = ["fewer"]
    with pytest.raises(OSError, match=rf"expected the {len(server.content)} bytes that its header"):
        fetch(server)
    assert files_in_folder(cache_folder() / "downloads" / NAME) == []
    server.ways = ["complete"]
    assert fetch(server).read_bytes() == server.content


def test_wrong_bytes_are_refused_if_the_hash_is_known(server: Server) -> None:
    server.ways = ["other bytes", "complete"]
    sha256 = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(ValueError, match="does not match the known hash"):
        fetch(server, sha256=sha256)
    assert fetch(server, sha256=sha256).read_bytes() == server.content


def test_a_file_that_changed_in_the_cache_is_refused(server: Server) -> None:
    path = fetch(server)
    path.write_bytes(server.content[:-1] + b"x")
    with pytest.raises(
        ValueError, match=r"expected SHA-256 .* delete the file to download it again"
    ):
        fetch(server)


def test_a_download_resumes_after_the_process_was_killed(server: Server) -> None:
    part = cache_folder() / "downloads" / f"{NAME}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(server.content[:1000])
    part.with_name(f"{NAME}.part.json").write_text(json.dumps({"validator": server.tag}))
    assert fetch(server).read_bytes() == server.content
    assert server.asked == ["bytes=1000-"]


@pytest.mark.parametrize(
    "second", ["complete", "206 without a range", "206 of another place", "206 of another version"]
)
def test_a_file_that_changed_during_an_interruption_is_started_over(
    server: Server, second: str
) -> None:
    part = cache_folder() / "downloads" / f"{NAME}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(1000))  # of an older version
    tag = server.tag if second == "206 of another place" else '"older"'
    part.with_name(f"{NAME}.part.json").write_text(json.dumps({"validator": tag}))
    server.ways = [second, "complete"]
    path = fetch(server)
    assert path.read_bytes() == server.content
    assert files_in_folder(path) == [NAME, f"{NAME}.sha256"]
    assert server.asked[0] == "bytes=1000-"


@pytest.mark.parametrize("state", ["", "{", "[]", '{"validator": ""}'])
def test_a_part_of_an_unknown_version_is_started_over(server: Server, state: str) -> None:
    part = cache_folder() / "downloads" / f"{NAME}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(server.content[:1000])
    if state:
        part.with_name(f"{NAME}.part.json").write_text(state)
    assert fetch(server).read_bytes() == server.content
    assert server.asked == [None]


def test_a_server_that_names_no_version_is_never_resumed(server: Server) -> None:
    server.tag = ""
    server.ways = ["truncated", "truncated", "complete"]
    assert fetch(server).read_bytes() == server.content
    assert server.asked == [None, None, None]


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("no length", "expected the file's length, found Content-Length 'missing'"),
        ("odd length", "Content-Length 'abc'"),
        ("negative length", "Content-Length '-5'"),
        ("endless", "Content-Length 'missing'"),
        ("huge length", "no room for it"),
        ("compressed", "Content-Encoding 'gzip'"),
    ],
)
def test_a_reply_without_a_usable_length_is_refused(server: Server, way: str, message: str) -> None:
    server.ways = [way]
    with pytest.raises(OSError, match=message):
        fetch(server)
    folder = cache_folder() / "downloads"
    assert not (folder / NAME).exists()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1000


def test_two_processes_download_a_file_once(server: Server) -> None:
    command = (
        "import sys; from fastifo.data import download; "
        f"print(len(download.fetch(sys.argv[1], {NAME!r}, progress=False).read_bytes()))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", command, server.url], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    sizes = [int(process.communicate()[0]) for process in processes]
    assert sizes == [len(server.content)] * 3
    assert server.asked == [None]


def test_a_redirection_to_a_file_is_refused(server: Server) -> None:
    server.ways = ["302"]
    with pytest.raises(OSError, match="could not be downloaded"):
        fetch(server)
    assert len(server.asked) == 1


def test_a_cache_that_cannot_be_written_says_where_to_put_the_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OSError, match="put the file at"):
        fetch(server)


def test_a_dataset_is_downloaded_by_name(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(d4rl, "address", lambda name: server.url)
    dataset = fastifo.load("d4rl:hopper-medium-v2", progress=False)
    assert_same(dataset.background, episodes())
    assert dataset.env_id == "Hopper-v4"


def test_without_a_network_the_error_says_where_to_put_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(d4rl, "HOST", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(
        OSError, match=r"gym_mujoco_v2/hopper_medium_replay-v2\.hdf5: could not be downl"
    ):
        fastifo.load("d4rl:hopper-medium-replay-v2", progress=False)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("hopper-medium-v2", "gym_mujoco_v2/hopper_medium-v2.hdf5"),
        ("halfcheetah-medium-expert-v2", "gym_mujoco_v2/halfcheetah_medium_expert-v2.hdf5"),
        ("door-human-v1", "hand_dapg_v1/door-human-v1.hdf5"),
    ],
)
def test_urls_of_names(name: str, address: str) -> None:
    assert d4rl.address(name) == f"{d4rl.HOST}/{address}"


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a file, or a name such as hopper-medium-v2"):
        d4rl.address("humanoid-medium-v2")
    with pytest.raises(FileNotFoundError, match="expected an HDF5 file, found nothing there"):
        fastifo.load("d4rl:nothing.hdf5")
