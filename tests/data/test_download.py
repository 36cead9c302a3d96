"""Downloads from a local server that truncates, stalls, or sends a wrong size or wrong bytes."""

import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastifo
from data.formats.files import assert_same, episodes, write_d4rl
from fastifo.data import download
from fastifo.data.formats import d4rl
from fastifo.utils.files import cache_folder

NAME = "hopper-medium-v2.hdf5"


class Server(http.server.ThreadingHTTPServer):
    """Answers each request in the next of `ways`, and all further ones in the last."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.ways = ["complete"]
        self.asked: list[str | None] = []  # each request's Range

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{NAME}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        way = server.ways.pop(0) if len(server.ways) > 1 else server.ways[0]
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        content, first = server.content, 0
        if way in ("404", "503"):
            self.send_error(int(way))
            return
        if wanted is not None and way != "no ranges":
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if first >= len(content):
                self.send_error(416)
                return
        body = content[first:]
        if way == "page":
            body = b"<html>not found</html>"
        if way == "other bytes":
            body = content[:9] + bytes(len(content) - 9)
        self.send_response(206 if first else 200)
        length = {"more": len(body) + 500, "fewer": len(body) - 500}.get(way, len(body))
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if way == "truncated":
            body = body[: len(body) // 2]
        if way == "stall":
            self.wfile.write(body[: len(body) // 3])
            self.wfile.flush()
            time.sleep(3)
            return
        self.wfile.write(body)


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


def test_a_file_truncated_by_a_wrong_content_length_is_refused(server: Server) -> None:
    server.ways = ["fewer"]
    path = fetch(server)
    with pytest.raises(ValueError, match="not a valid HDF5 file"):
        fastifo.load(f"d4rl:{path}")


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
    assert fetch(server).read_bytes() == server.content
    assert server.asked == ["bytes=1000-"]


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
