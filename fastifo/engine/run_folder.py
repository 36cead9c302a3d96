"""Reading and writing run folders: `config.json`, and folders that appear complete or not at all.

A run folder holds `config.json`, `metrics.jsonl`, `checkpoint/`, and `returns.npz` once the run
has been evaluated; a method may keep files of its pre-training stage there too.
"""

import contextlib
import errno
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastifo.engine.checkpoint import REMEDY, Checkpoints
from fastifo.utils.files import is_leftover, read_json, temporary_folder
from fastifo.utils.locks import LOCK
from fastifo.utils.schema import Count, Map, Optional, check_schema

FORMAT = "fastifo-run"
VERSION = 1
SCHEMA = {
    "algorithm": str,
    "num_updates": Count(1),
    "precision": str,
    "env_id": (str, None),
    "obs_dim": Count(1),
    "action_dim": Count(0),
    "action_bounds": {"low": ([float], None), "high": ([float], None)},
    "datasets": [
        {
            "fingerprint": str,
            "info": dict,
            "background_returns": Optional([float]),
            "background_success": Optional(float),
        }
    ],
    "failed": Map(Count(0)),
    "members": [{"seed": Count(0), "config": dict, "dataset": Optional(Count(0))}],
    "notes": Optional(dict),
    "env_kwargs": Optional(dict),
    "given_env_kwargs": Optional((dict, None)),
    "reference_returns": Optional(([float], None)),
    "obs_keys": Optional([str]),
}
ATTEMPTS, PAUSE_S = 5, 0.05  # at reading a folder that a training process writes to


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a run folder's `config.json`.

    Raises FileNotFoundError; ValueError if the file is not a run's config, is incomplete, damaged,
    or was written by a newer version.
    """
    return open_folder(folder)[0]


def open_folder(folder: Path) -> tuple[dict[str, Any], Checkpoints]:
    """A run folder's config and its checkpoints, which belong together.

    Raises as `read_config`, and ValueError for a damaged manifest.
    """
    for attempt in range(ATTEMPTS):
        content = _parse_config(folder / "config.json")
        checkpoints = Checkpoints(folder / "checkpoint")
        try:
            checkpoints.check_config()
        except ValueError:  # perhaps a process that trains has just written one of the two
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(PAUSE_S)
            continue
        break
    return content, checkpoints


def _parse_config(path: Path) -> dict[str, Any]:
    content = read_json(path, REMEDY)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: expected the config of a fastifo run, found another file")
    check_schema(content, {"version": Optional(Count(0))}, path, REMEDY)
    if content.get("version", 0) > VERSION:
        raise ValueError(
            f"{path}: expected version {VERSION} or older, found {content['version']}; update "
            "fastifo"
        )
    required = [key for key, schema in SCHEMA.items() if not isinstance(schema, Optional)]
    if missing := [key for key in required if key not in content]:
        raise ValueError(f"{path}: expected {', '.join(required)}; {', '.join(missing)} is missing")
    check_schema(content, SCHEMA, path, REMEDY)
    if not content["members"] or not all(key.isdecimal() for key in content["failed"]):
        raise ValueError(f"{path}: members, failed: expected a run's members; {REMEDY}")
    datasets = len(content["datasets"])
    if any(member.get("dataset", 0) >= datasets for member in content["members"]):
        raise ValueError(f"{path}: members: expected dataset below {datasets}; {REMEDY}")
    return content


def is_own(name: str) -> bool:
    """Whether a file's name is that of a lock or a temporary file, which count as nothing."""
    return name == LOCK or is_leftover(name)


def refuse_occupied(folder: Path) -> None:
    """Raises ValueError if `folder` is a file or holds more than fastifo's own leftovers."""
    if not folder.exists():
        return
    if not folder.is_dir() or not all(is_own(path.name) for path in folder.iterdir()):
        kind = "another run" if (folder / "config.json").exists() else "other files"
        raise ValueError(f"{folder}: expected a new or empty folder, found {kind}; choose another")


def refuse_run(folder: Path) -> None:
    """Raises ValueError if `folder` is a run's, where a folder of many runs is to be made."""
    if (folder / "config.json").exists():
        raise ValueError(f"{folder}: expected a folder for many runs, found a run; choose another")


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """An empty temporary folder that becomes `folder` when the block ends without an error.

    Raises ValueError if `folder` is occupied; OSError if it cannot be written, and leaves nothing.
    """
    refuse_occupied(folder)
    try:
        with temporary_folder(folder) as temporary:
            yield temporary
            temporary.chmod(0o755)
            if folder.is_dir():
                for path in folder.iterdir():  # leftovers
                    path.unlink()
            temporary.replace(folder)
    except OSError as error:
        raise OSError(
            error.errno or errno.EIO,
            f"{folder}/: could not be written ({error.strerror or error}); nothing was left "
            "there. Free some space or choose another folder",
        ) from error
