"""A job that is killed at any change of a file ends with the same bytes when it is run again.

Each test kills at a sample of the changes; `python -m reliability.killpoints SCENARIO FOLDER`, in
`tests/`, kills at every one (several minutes a scenario).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers import child_environment


def kill_everywhere(scenario: str, folder: Path, stride: int) -> dict[str, Any]:
    """What `killpoints.py` found."""
    command = [sys.executable, "-W", "ignore", "-m", "reliability.killpoints"]
    done = subprocess.run(
        [*command, scenario, str(folder / "x"), str(stride)],
        env=child_environment(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES=""),
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "stride", "least"),
    [
        ("train", 11, 100), ("relabel", 13, 60), ("improve", 13, 80), ("study", 13, 60),
        ("sibench", 13, 60),
    ],
)  # fmt: skip
def test_a_job_killed_at_a_change_ends_with_the_same_bytes(
    tmp_path: Path, scenario: str, stride: int, least: int
) -> None:
    found = kill_everywhere(scenario, tmp_path, stride)
    assert found["problems"] == []
    assert found["points"] >= least
    if scenario == "train":
        assert len(found["files"]) == 7  # weights of four stages, manifest, config, metrics
