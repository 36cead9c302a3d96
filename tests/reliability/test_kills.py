"""A job that is killed at any change of a file ends with the same bytes when it is run again."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]


def kill_everywhere(scenario: str, folder: Path, stride: int = 1) -> dict[str, Any]:
    """What `killpoints.py` found."""
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-W", "ignore", "-m", "reliability.killpoints"]
    done = subprocess.run(
        [*command, scenario, str(folder / "x"), str(stride)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_killed_training_ends_as_if_it_had_not_been_killed(tmp_path: Path) -> None:
    found = kill_everywhere("train", tmp_path, 11)
    assert found["problems"] == []
    assert found["points"] > 100
    assert len(found["files"]) == 7  # weights of four stages, manifest, config, metrics


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "least"),
    [("train", 100), ("relabel", 60), ("improve", 80), ("study", 60), ("sibench", 60)],
)
def test_a_job_killed_at_any_change_ends_with_the_same_bytes(
    tmp_path: Path, scenario: str, least: int
) -> None:
    found = kill_everywhere(scenario, tmp_path)
    assert found["problems"] == []
    assert found["points"] >= least
