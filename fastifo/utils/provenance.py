"""Which fastifo made a file: its version, and the commit where it is known."""

import functools
import hashlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

from fastifo import _C

PACKAGE = Path(__file__).parents[1]
CORE_FILES = (".cpp", ".cu", ".cuh", ".h")


def version() -> str:
    """fastifo's version."""
    return str(sys.modules["fastifo"].__version__)


@functools.cache
def commit() -> str | None:
    """The commit of fastifo's code in 12 digits; None where it is not known.

    It is that of the checkout that the package is imported from, with "-dirty" if files or the
    compiled core differ from it, or else the one that pip installed the package from.
    """
    return _checkout() or _installed()


def _checkout() -> str | None:
    try:
        top, text = (
            subprocess.run(
                ["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, check=True
            ).stdout.strip()
            for arguments in (
                ("rev-parse", "--show-toplevel"),
                ("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"),
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    if Path(top) / "fastifo" != PACKAGE.resolve():
        return None  # a virtual environment may lie in another project's checkout
    return text if text.endswith("-dirty") or is_core_current(Path(top)) else f"{text}-dirty"


def is_core_current(checkout: Path) -> bool:
    """Whether the compiled core was built from these sources of a checkout."""
    folder = checkout / "csrc"
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    lines = (
        f"{name} {hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n"
        for name in sorted(names)
        if name.endswith(CORE_FILES)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest() == getattr(_C, "source_digest", "")


def _installed() -> str | None:
    """The commit in pip's record of where it installed the package from (PEP 610)."""
    try:
        record = importlib.metadata.distribution("fastifo").read_text("direct_url.json")
        found = json.loads(record or "{}").get("vcs_info", {}).get("commit_id")
    except (importlib.metadata.PackageNotFoundError, ValueError, AttributeError):
        return None
    return str(found)[:12] if found else None
