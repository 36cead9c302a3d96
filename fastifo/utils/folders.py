"""The user's paths, and where fastifo keeps what it can make again."""

import os
from pathlib import Path


def as_path(path: str | Path) -> Path:
    """The absolute path that the user names, with the home folder for `~`.

    A process may change its working directory while a run is in use.
    """
    return Path(os.path.expanduser(path)).absolute()


def cache_folder() -> Path:
    """Folder for generated datasets and downloads; it affects speed only, never a result.

    Raises OSError if the user has no home folder and XDG_CACHE_HOME is not set.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else home_folder("XDG_CACHE_HOME") / ".cache") / "fastifo"


def home_folder(instead: str) -> Path:
    """The user's home folder.  instead: the environment variable to set where there is none.

    Raises OSError if there is none.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise OSError(
            f"HOME: this user has no home folder; set {instead} to a folder that can be written"
        ) from None
