"""Peak memory of training."""

import subprocess
import sys

import pytest

SCRIPT = """
from pathlib import Path
import numpy as np
import fastifo

rng = np.random.default_rng(0)
def episode():
    return {
        "obs": rng.standard_normal((1001, 17), dtype=np.float32),
        "action": rng.uniform(-1, 1, (1000, 6)).astype(np.float32),
        "reward": np.zeros(1000, np.float32),
    }
expert = [{"obs": episode()["obs"]} for _ in range(10)]
dataset = fastifo.Dataset.from_episodes([episode() for _ in range(1000)], expert)
assert dataset.background.num_transitions == 1_000_000
fastifo.train("vfo_disc", dataset, num_updates=5, disc_updates=5, progress=False)
# Not getrusage, whose peak starts at that of the process which started this one.
peak = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
print(int(peak.split()[1]) * 1024)
"""


@pytest.mark.slow
def test_a_million_transitions_train_in_under_1500_megabytes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[-1]) < 1.5e9, done.stdout
