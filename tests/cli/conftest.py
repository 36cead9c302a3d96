"""Fixtures of the command line's tests."""

from pathlib import Path

import pytest

from helpers import random_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """Path of a small dataset file."""
    path = tmp_path / "set.fastifo"
    random_dataset().save(path)
    return str(path)
