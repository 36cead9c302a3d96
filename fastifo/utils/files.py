"""Files that are either the old ones or the new ones, never half of one."""

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

# What numpy raises on an .npz that is cut, damaged or of another program.
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
    """Calls `write` on a temporary file beside `path`, flushes it to disk and renames it.

    A full disk or a kill leaves `path` as it was.  Raises OSError naming the file.
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
            f"{path}: could not be written ({error.strerror or error}); what was there before is "
            "kept. Free some space or choose another folder",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    write_atomic(path, lambda temporary: _write_all(temporary, content))


def _write_all(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path) -> Any:
    """The parsed file.  Raises ValueError naming the file where it is not JSON."""
    try:
        return json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, found something else ({error})") from None


def readable_bytes(path: Path, kind: str) -> int:
    """Memory that reading a foreign file may take: what a sound one of its size could hold.

    Raises FileNotFoundError where there is no file.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing there"
        raise FileNotFoundError(f"{path}: expected an {kind} file, found {found}")
    return 4 * path.stat().st_size + (100 << 20)


def keep_plan(path: Path, plan: dict[str, Any]) -> None:
    """Writes what a folder is for.  Raises ValueError where it was begun for something else."""
    if not path.exists():
        write_json(path, plan)
        return
    kept, plan = read_json(path), json.loads(json.dumps(plan))
    other = sorted(k for k in {*plan, *kept} if kept.get(k) != plan.get(k))
    if other:
        raise ValueError(
            f"{path}: begun with {other[0]}={kept.get(other[0])!r}, asked for "
            f"{plan.get(other[0])!r}; choose another folder"
        )


def sha256_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where generated datasets are kept; it affects speed only, never a result."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fastifo"
