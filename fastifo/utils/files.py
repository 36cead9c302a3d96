"""Atomic writes, JSON, hashes and the cache folder."""

import errno
import hashlib
import json
import os
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What numpy raises on an .npz file that is truncated, damaged or not an .npz at all.
UNREADABLE = (
    AttributeError,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write` on a temporary file in the same folder, syncs it to disk and renames it.

    If the disk is full or the process is killed, `path` keeps its old content.
    Raises OSError naming the file.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise OSError(
            error.errno or errno.EIO,
            f"{path}: could not be written ({error.strerror or error}); the old content is kept. "
            "Free some space or choose another folder",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically; see `write_atomic`."""
    write_atomic(path, lambda temporary: _write_all(temporary, content))


def _write_all(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically; see `write_atomic`."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path) -> Any:
    """Parses a JSON file.  Raises ValueError naming the file if it is not JSON."""
    try:
        return json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, found something else ({error})") from None


def readable_bytes(path: Path, kind: str) -> int:
    """Upper bound on the memory, in bytes, that reading an intact file of this size can need.

    kind: names the format in the error, as in "HDF5".  Raises FileNotFoundError.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing there"
        raise FileNotFoundError(f"{path}: expected an {kind} file, found {found}")
    return 4 * path.stat().st_size + (100 << 20)


def keep_plan(path: Path, plan: dict[str, Any]) -> None:
    """Records the settings a folder was started with.

    Raises ValueError if the folder was started with other settings.
    """
    if not path.exists():
        write_json(path, plan)
        return
    recorded, plan = read_json(path), json.loads(json.dumps(plan))
    differing = sorted(k for k in {*plan, *recorded} if recorded.get(k) != plan.get(k))
    if differing:
        name = differing[0]
        raise ValueError(
            f"{path}: started with {name}={recorded.get(name)!r}, now asked for "
            f"{plan.get(name)!r}; choose another folder"
        )


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Folder for generated datasets and downloads; it affects speed only, never a result."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fastifo"
