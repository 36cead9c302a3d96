"""Limits how long idle OpenMP threads spin. Imported before torch, whose OpenMP reads it once.

By default they spin for milliseconds, which slows down the threads they wait for when other
processes use the cores. Results do not depend on it.
"""

import os
import sys

_TOO_LATE = "torch" in sys.modules
_CHOSEN = "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ
if not _CHOSEN:
    os.environ["GOMP_SPINCOUNT"] = "1000"  # microseconds: more than the gaps between parallel loops
BUSY = 1.5  # load per core from which spinning threads slow each other down


def slow_threads() -> str | None:
    """Why several threads may crawl in this process, and what helps; None if they should not."""
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    if _CHOSEN or not _TOO_LATE or load < BUSY * cores:
        return None
    return (
        f"the cores are busy with other processes (load {load:.1f} on {cores}), which slows down "
        "torch's threads; import fastifo before torch, or set OMP_WAIT_POLICY=passive"
    )
