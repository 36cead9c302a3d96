"""Public files into the cache: resumed after a break, checked, there whole or not at all."""

import http.client
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from fastifo.utils.files import cache_folder, sha256_file, write_bytes
from fastifo.utils.progress import ProgressBar

SIGNATURE = b"\x89HDF\r\n\x1a\n"
TIMEOUT_S = 30.0  # without a byte
ATTEMPTS = 5  # that bring nothing new, before giving up
BLOCK = 1 << 20


def fetch(url: str, name: str, *, sha256: str | None = None, progress: bool = True) -> Path:
    """The cached file `name`, from `url` where it is not there yet.

    sha256: what the file must have; the first download's is kept and expected from then on.
    Raises ImportError where pooch is missing, OSError where the network or the server fails, and
    ValueError where the bytes are not the expected ones; each says where to put the file by hand.
    """
    path = cache_folder() / "downloads" / name
    kept = path.with_name(f"{name}.sha256")
    expected = sha256 or (kept.read_text().strip() if kept.exists() else None)
    if path.exists():
        found = sha256_file(path)
        if expected is None:
            write_bytes(kept, found.encode())
        elif found != expected:
            raise ValueError(
                f"{path}: expected SHA-256 {expected}, found {found}; delete the file and ask "
                "again" + ("" if sha256 else f", or delete {kept} if the file is right")
            )
        return path
    remedy = f"put the file at {path}, or give its place instead of its name"
    try:
        import pooch
    except ImportError:
        raise ImportError(
            f"{url}: downloads need pooch: pip install 'fastifo[download]'; or {remedy}"
        ) from None
    pooch.get_logger().setLevel("ERROR")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        pooch.retrieve(
            url,
            known_hash=None if expected is None else f"sha256:{expected}",
            fname=name,
            path=path.parent,
            downloader=_Download(path.with_name(f"{name}.part"), progress),
        )
    except ValueError as error:  # the hash differs
        path.with_name(f"{name}.part").unlink(missing_ok=True)
        raise ValueError(f"{url}: {' '.join(str(error).split())}; ask again, or {remedy}") from None
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{url}: could not be fetched ({error}); {remedy}") from None
    path.with_name(f"{name}.part").unlink(missing_ok=True)
    write_bytes(kept, sha256_file(path).encode())
    return path


class _Download:
    """What pooch calls: fills `part`, going on where an earlier attempt ended."""

    def __init__(self, part: Path, progress: bool) -> None:
        self.part = part
        self.progress = progress
        self.total = 0  # bytes of the whole file, once the server said so

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        idle, most = 0, self._size()
        with ProgressBar(f"download {self.part.stem}", 1, "bytes", enabled=self.progress) as bar:
            while True:
                try:
                    self._attempt(url, bar)
                    break
                except urllib.error.HTTPError as error:
                    error.close()
                    if error.code == 416:  # our part is no beginning of the file
                        self.part.unlink(missing_ok=True)
                    elif error.code < 500:
                        raise
                    reason: Exception = error
                except (OSError, http.client.HTTPException) as error:
                    reason = error
                idle = 0 if self._size() > most else idle + 1
                most = max(most, self._size())
                if idle >= ATTEMPTS:
                    raise OSError(f"gave up after {ATTEMPTS} attempts: {reason}")
        with open(self.part, "rb") as file:
            start = file.read(len(SIGNATURE))
        if start != SIGNATURE:
            self.part.unlink()
            raise OSError(f"expected an HDF5 file, found one that begins with {start!r}")
        shutil.copyfile(self.part, output_file)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _attempt(self, url: str, bar: ProgressBar) -> None:
        """Raises OSError where the file is not whole afterwards."""
        begun = self._size()
        if self.total and begun >= self.total:
            return
        request = urllib.request.Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            resumes = reply.status == 206
            length = reply.headers.get("Content-Length")
            if length is not None:
                self.total = int(length) + (begun if resumes else 0)
                bar.resize(self.total)
            with open(self.part, "ab" if resumes else "wb") as file:
                while block := reply.read1(BLOCK):
                    file.write(block)
                    bar.update(min(file.tell(), bar.total))
        if self._size() < self.total:
            raise OSError(f"the server sent {self._size()} of {self.total} bytes")
        if self._size() > self.total > 0:
            self.part.unlink()
            raise OSError("the server sent more bytes than it said")
