"""How long OpenMP's idle threads spin; imported before torch, whose OpenMP reads it once.

By default they spin for milliseconds and hold up the threads that they wait for wherever other
processes use the cores too. Results do not depend on it.
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
        f"other processes use the cores (load {load:.1f} on {cores}), where torch's threads mostly "
        "wait for each other; import fastifo before torch, or set OMP_WAIT_POLICY=passive"
    )
