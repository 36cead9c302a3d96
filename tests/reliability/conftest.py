"""Fixtures of runs that tests damage."""

import shutil
from pathlib import Path

import pytest

from reliability.damage import make_run


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stays as it is."""
    folder = tmp_path_factory.mktemp("run") / "run"
    make_run(folder)
    return folder


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of a run that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "run"))
