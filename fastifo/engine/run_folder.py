"""Reading and writing run folders: `config.json`, and folders that appear complete or not at all.

A run folder holds `config.json`, `metrics.jsonl`, `checkpoint/`, and `returns.npz` once the run
has been evaluated; a method may keep files of its pre-training stage there too.
"""

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastifo.utils.files import read_json

FORMAT = "fastifo-run"
VERSION = 1
REQUIRED_KEYS = (
    "algorithm",
    "num_updates",
    "precision",
    "env_id",
    "obs_dim",
    "action_dim",
    "action_bounds",
    "datasets",
    "failed",
    "members",
)


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a run folder's `config.json`.

    Raises ValueError if the file is not a run's config, is incomplete, or was written by a newer
    version.
    """
    path = folder / "config.json"
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: expected the config of a fastifo run, found another file")
    if content.get("version", 0) > VERSION:
        raise ValueError(
            f"{path}: expected version {VERSION} or older, found {content['version']}; update "
            "fastifo"
        )
    missing = [key for key in REQUIRED_KEYS if key not in content]
    if missing:
        raise ValueError(
            f"{path}: expected {', '.join(REQUIRED_KEYS)}; {', '.join(missing)} is missing"
        )
    return content


def refuse_occupied(folder: Path) -> None:
    """Raises ValueError if `folder` is a file or is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        kind = "another run" if (folder / "config.json").exists() else "other files"
        raise ValueError(f"{folder}: expected a new or empty folder, found {kind}; choose another")


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """An empty temporary folder that becomes `folder` when the block ends without an error.

    Raises ValueError if `folder` is occupied; OSError if it cannot be written, and leaves nothing.
    """
    refuse_occupied(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            yield temporary
            temporary.chmod(0o755)
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise OSError(
            error.errno or errno.EIO,
            f"{folder}/: could not be written ({error.strerror or error}); nothing was left "
            "there. Free some space or choose another folder",
        ) from error
