"""Settings of OpenMP's threads. Imported before torch, whose OpenMP reads the environment once.

Idle threads spin for milliseconds by default, which slows down the threads they wait for when other
processes use the cores. A forked process has one thread. Results do not depend on either.
"""

import os
import sys

_TOO_LATE = "torch" in sys.modules
_CHOSEN = "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ
if not _CHOSEN:
    os.environ["GOMP_SPINCOUNT"] = "1000"  # microseconds: more than the gaps between parallel loops
BUSY = 1.5  # load per core from which spinning threads slow each other down


def _use_one_thread() -> None:
    # OpenMP's threads stay behind in the process that forked; the next parallel loop would wait for
    # them for ever.
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


os.register_at_fork(after_in_child=_use_one_thread)


def slow_threads() -> str | None:
    """Why several threads may crawl in this process, and what helps; None if they should not."""
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    if _CHOSEN or not _TOO_LATE or load < BUSY * cores:
        return None
    return (
        f"the cores are busy with other processes (load {load:.1f} on {cores}), which slows down "
        "torch's threads; import fastifo before torch, or set OMP_WAIT_POLICY=passive"
    )
