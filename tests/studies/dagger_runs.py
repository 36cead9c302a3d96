"""Runs of DAgger on a toy."""

from pathlib import Path
from typing import Any

import fastifo
import own_envs
from fastifo.studies.improvement import Improvement
from helpers import SMALL

TINY: dict[str, Any] = {"num_updates": 3, "episodes": 3, "progress": False, **SMALL}


def run_dagger(out: Path, iterations: int = 2, **fields: Any) -> Improvement:
    fixed: dict[str, Any] = {"expert": own_envs.steer, "env_id": own_envs.Track, **TINY}
    return fastifo.improve("dagger", out=out, iterations=iterations, **fixed | fields)
