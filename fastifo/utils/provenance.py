"""Which fastifo made a file: its version, and the commit where it is known."""

import functools
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def version() -> str:
    """fastifo's version."""
    return str(sys.modules["fastifo"].__version__)


@functools.cache
def commit() -> str | None:
    """The commit of fastifo's code in 12 digits; None where it is not known.

    It is that of the checkout that the package is imported from, with "-dirty" if files differ from
    it, or else the one that pip installed the package from.
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
    # A virtual environment may lie in another project's checkout.
    return text if Path(top) / "fastifo" == PACKAGE.resolve() else None


def _installed() -> str | None:
    """The commit in pip's record of where it installed the package from (PEP 610)."""
    try:
        record = importlib.metadata.distribution("fastifo").read_text("direct_url.json")
        found = json.loads(record or "{}").get("vcs_info", {}).get("commit_id")
    except (importlib.metadata.PackageNotFoundError, ValueError, AttributeError):
        return None
    return str(found)[:12] if found else None
