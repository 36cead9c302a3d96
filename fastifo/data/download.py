"""Downloads to the cache: resumed after an interruption, checked, and complete or absent.

One process downloads a file at a time; others wait for it. A part of a file is resumed only if the
server says that the file is still the same one (its ETag or Last-Modified, sent as If-Range).
"""

import contextlib
import http.client
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from fastifo.utils.files import read_json, sha256_file, write_bytes, write_json
from fastifo.utils.folders import cache_folder
from fastifo.utils.locks import file_lock
from fastifo.utils.progress import ProgressBar

SIGNATURE = b"\x89HDF\r\n\x1a\n"
TIMEOUT_S = 30.0  # without receiving a byte
ATTEMPTS = 5  # successive attempts without a new byte before giving up
BLOCK = 1 << 20
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def fetch(url: str, name: str, *, sha256: str | None = None, progress: bool = True) -> Path:
    """Path of a file in the cache; downloads it if it is not there yet.

    url: the source.  name: the file's name in the cache.
    sha256: the expected hash; by default that of the first download, kept next to the file.
    progress: whether to show a progress bar.
    Raises ImportError if pooch is missing, OSError if the network or the server fails, ValueError
    if the hash differs; each message says where to put the file by hand.
    """
    path = cache_folder() / "downloads" / name
    remedy = f"put the file at {path}, or pass its path instead of its name"
    if path.exists():
        _check_cached(path, sha256)
        return path
    try:
        with file_lock(path.with_name(f"{name}.lock"), f"download of {name}", waits=True):
            if path.exists():  # another process has downloaded it in the meantime
                _check_cached(path, sha256)
            else:
                _download(url, path, sha256, progress, remedy)
    except (OSError, http.client.HTTPException, _NoSpaceError) as error:
        raise OSError(f"{url}: could not be downloaded ({error}); {remedy}") from None
    return path


def _check_cached(path: Path, sha256: str | None) -> None:
    """Raises ValueError if a file in the cache is not the one that was downloaded."""
    hash_file = _hash_file(path)
    expected = sha256 or (hash_file.read_text().strip() if hash_file.exists() else None)
    actual = sha256_file(path)
    if expected is None:
        with contextlib.suppress(OSError):  # a cache that cannot be written is read all the same
            write_bytes(hash_file, actual.encode())
    elif actual != expected:
        raise ValueError(
            f"{path}: expected SHA-256 {expected}, found {actual}; delete the file to download "
            "it again" + ("" if sha256 else f", or delete {hash_file} if the file is right")
        )


def _hash_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _download(url: str, path: Path, sha256: str | None, progress: bool, remedy: str) -> None:
    """Downloads a file that is not in the cache.  The arguments are those of `fetch`."""
    try:
        import pooch
    except ImportError:
        raise ImportError(
            f"{url}: downloads need pooch: pip install 'fastifo[download]'; or {remedy}"
        ) from None
    hash_file = _hash_file(path)
    expected = sha256 or (hash_file.read_text().strip() if hash_file.exists() else None)
    pooch.get_logger().setLevel("ERROR")
    part = path.with_name(f"{path.name}.part")
    try:
        pooch.retrieve(
            url,
            known_hash=None if expected is None else f"sha256:{expected}",
            fname=path.name,
            path=path.parent,
            downloader=_Download(part, progress),
        )
    except ValueError as error:  # the hash differs
        message = " ".join(str(error).split())
        raise ValueError(f"{url}: {message}; try again, or {remedy}") from None
    finally:
        if not part.exists():
            _delete_part(part)
    write_bytes(hash_file, sha256_file(path).encode())


def _delete_part(part: Path) -> None:
    for path in (part, _state_file(part)):
        path.unlink(missing_ok=True)


def _state_file(part: Path) -> Path:
    """What the server said of the file that `part` belongs to."""
    return part.with_name(f"{part.name}.json")


class _OnlyHTTP(urllib.request.HTTPRedirectHandler):
    """Follows redirections to HTTP and HTTPS."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        """The request for the new address.  Raises HTTPError for one of another kind."""
        if not newurl.lower().startswith(("http://", "https://")):
            raise urllib.error.HTTPError(newurl, code, f"refused: {newurl[:80]}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Download:
    """A pooch downloader that fills the file `part` and resumes where an earlier attempt ended."""

    def __init__(self, part: Path, progress: bool) -> None:
        self.part = part
        self.progress = progress
        self.total = 0  # size of the complete file in bytes, once the server has sent it

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        idle, largest = 0, self._size()  # attempts without progress; bytes
        with ProgressBar(f"download {self.part.stem}", 1, "bytes", enabled=self.progress) as bar:
            while True:
                try:
                    self._attempt(url, bar)
                    break
                except urllib.error.HTTPError as error:
                    error.close()
                    if error.code == 416:  # range not satisfiable: our part is not of this file
                        _delete_part(self.part)
                    elif error.code < 500:
                        raise
                    reason: Exception = error
                except (OSError, http.client.HTTPException) as error:
                    reason = error
                idle = 0 if self._size() > largest else idle + 1
                largest = max(largest, self._size())
                restarts = self._size() > 0 and not self._validator()
                most = 2 * ATTEMPTS if restarts else ATTEMPTS
                if idle >= most:
                    raise OSError(f"gave up after {most} attempts: {reason}")
        self._check_content()
        self.part.replace(output_file)

    def _check_content(self) -> None:
        """Deletes the part and raises OSError if it is no HDF5 file or only the start of one."""
        with open(self.part, "rb") as file:
            start = file.read(len(SIGNATURE) + 56)
        reason = ""
        if not start.startswith(SIGNATURE):
            reason = f"expected an HDF5 file, found one that starts with {start[:8]!r}"
        elif (stated := _stated_size(start)) > self._size():
            reason = f"expected the {stated} bytes that its header states, found {self._size()}"
        if reason:
            _delete_part(self.part)
            raise OSError(reason)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _validator(self) -> str:
        """What identifies the version of the file that the part is of; empty: it is not known."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(read_json(_state_file(self.part))["validator"])
        return ""

    def _attempt(self, url: str, bar: ProgressBar) -> None:
        """Requests the missing bytes.  Raises OSError unless the file is complete afterwards."""
        validator = self._validator()
        size = self._size() if validator else 0
        if self.total and size >= self.total:
            return
        headers = {"Accept-Encoding": "identity"}
        if size:
            headers |= {"Range": f"bytes={size}-", "If-Range": validator}
        request = urllib.request.Request(url, headers=headers)
        opener = urllib.request.build_opener(_OnlyHTTP)
        with opener.open(request, timeout=TIMEOUT_S) as reply:
            first, length = self._check_reply(reply, size, validator)
            self.total = first + length
            if length > shutil.disk_usage(self.part.parent).free:
                raise _NoSpaceError(
                    f"the file has {self.total} bytes, {self.part.parent} has no room for it"
                )
            bar.resize(self.total)
            if first == 0:
                _delete_part(self.part)
                write_json(_state_file(self.part), {"validator": _validator_of(reply.headers)})
            with open(self.part, "ab") as file:
                while block := reply.read1(min(BLOCK, self.total - file.tell()) or 1):
                    if file.tell() + len(block) > self.total:
                        raise OSError("the server sent more bytes than it announced")
                    file.write(block)
                    bar.update(file.tell())
        if self._size() < self.total:
            raise OSError(f"the server sent {self._size()} of {self.total} bytes")

    def _check_reply(self, reply: Any, size: int, validator: str) -> tuple[int, int]:
        """Where the bytes of a reply begin in the file, and how many they are.

        size, validator: of the part that we have.  Raises OSError for a reply that is not usable.
        """
        text = reply.headers.get("Content-Length", "")
        if not text.isascii() or not text.isdigit() or len(text) > 15:
            raise OSError(f"expected the file's length, found Content-Length {text or 'missing'!r}")
        length = int(text)
        if reply.headers.get("Content-Encoding", "identity") != "identity":
            raise OSError(f"found Content-Encoding {reply.headers['Content-Encoding']!r}")
        if reply.status != 206:
            return 0, length
        match = CONTENT_RANGE.fullmatch(reply.headers.get("Content-Range", ""))
        found = tuple(map(int, match.groups())) if match else None
        expected = (size, size + length - 1, size + length)
        if found != expected or size == 0 or _validator_of(reply.headers) not in ("", validator):
            _delete_part(self.part)
            raise OSError("the file has changed, or the server resumed at another place")
        return size, length


def _stated_size(start: bytes) -> int:
    """The size of an HDF5 file in bytes by its superblock; 0 if it is not known.

    start: the first 64 bytes.  Source: the HDF5 file format specification, version 3.0, section II.
    """
    version = start[8] if len(start) > 8 else 255
    if version < 2:
        offset_size, at = start[13:14], 40 + 4 * (version == 1)
    else:
        offset_size, at = start[9:10], 28
    if version > 3 or offset_size != b"\x08" or len(start) < at + 8:
        return 0
    return int.from_bytes(start[at : at + 8], "little")


class _NoSpaceError(Exception):
    """The disk has no room for the file: another attempt would not help."""


def _validator_of(headers: Any) -> str:
    """What identifies the version of a file: its strong ETag, else its date, else nothing."""
    tag = headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return str(tag)
    return str(headers.get("Last-Modified", ""))
