"""Downloads to the cache: resumed after an interruption, checked, and complete or absent."""

import http.client
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from fastifo.utils.files import cache_folder, sha256_file, write_bytes
from fastifo.utils.progress import ProgressBar

SIGNATURE = b"\x89HDF\r\n\x1a\n"
TIMEOUT_S = 30.0  # without receiving a byte
ATTEMPTS = 5  # successive attempts without a new byte before giving up
BLOCK = 1 << 20


def fetch(url: str, name: str, *, sha256: str | None = None, progress: bool = True) -> Path:
    """Path of a file in the cache; downloads it if it is not there yet.

    url: the source.  name: the file's name in the cache.
    sha256: the expected hash; by default that of the first download, kept next to the file.
    progress: whether to show a progress bar.
    Raises ImportError if pooch is missing, OSError if the network or the server fails, ValueError
    if the hash differs; each message says where to put the file by hand.
    """
    path = cache_folder() / "downloads" / name
    hash_file = path.with_name(f"{name}.sha256")
    expected = sha256 or (hash_file.read_text().strip() if hash_file.exists() else None)
    if path.exists():
        actual = sha256_file(path)
        if expected is None:
            write_bytes(hash_file, actual.encode())
        elif actual != expected:
            raise ValueError(
                f"{path}: expected SHA-256 {expected}, found {actual}; delete the file to download "
                "it again" + ("" if sha256 else f", or delete {hash_file} if the file is right")
            )
        return path
    remedy = f"put the file at {path}, or pass its path instead of its name"
    try:
        import pooch
    except ImportError:
        raise ImportError(
            f"{url}: downloads need pooch: pip install 'fastifo[download]'; or {remedy}"
        ) from None
    pooch.get_logger().setLevel("ERROR")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{name}.part")
    try:
        pooch.retrieve(
            url,
            known_hash=None if expected is None else f"sha256:{expected}",
            fname=name,
            path=path.parent,
            downloader=_Download(part, progress),
        )
    except ValueError as error:  # the hash differs
        part.unlink(missing_ok=True)
        message = " ".join(str(error).split())
        raise ValueError(f"{url}: {message}; try again, or {remedy}") from None
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{url}: could not be downloaded ({error}); {remedy}") from None
    part.unlink(missing_ok=True)
    write_bytes(hash_file, sha256_file(path).encode())
    return path


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
                        self.part.unlink(missing_ok=True)
                    elif error.code < 500:
                        raise
                    reason: Exception = error
                except (OSError, http.client.HTTPException) as error:
                    reason = error
                idle = 0 if self._size() > largest else idle + 1
                largest = max(largest, self._size())
                if idle >= ATTEMPTS:
                    raise OSError(f"gave up after {ATTEMPTS} attempts: {reason}")
        with open(self.part, "rb") as file:
            start = file.read(len(SIGNATURE))
        if start != SIGNATURE:
            self.part.unlink()
            raise OSError(f"expected an HDF5 file, found one that starts with {start!r}")
        shutil.copyfile(self.part, output_file)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _attempt(self, url: str, bar: ProgressBar) -> None:
        """Requests the missing bytes.  Raises OSError unless the file is complete afterwards."""
        size = self._size()
        if self.total and size >= self.total:
            return
        request = urllib.request.Request(url, headers={"Range": f"bytes={size}-"} if size else {})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            resumes = reply.status == 206
            length = reply.headers.get("Content-Length")
            if length is not None:
                self.total = int(length) + (size if resumes else 0)
                bar.resize(self.total)
            with open(self.part, "ab" if resumes else "wb") as file:
                while block := reply.read1(BLOCK):
                    file.write(block)
                    bar.update(min(file.tell(), bar.total))
        if self._size() < self.total:
            raise OSError(f"the server sent {self._size()} of {self.total} bytes")
        if self._size() > self.total > 0:
            self.part.unlink()
            raise OSError("the server sent more bytes than it announced")
