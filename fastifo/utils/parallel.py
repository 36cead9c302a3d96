"""Work side by side on the cores of one machine."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Protocol

import torch

from fastifo.utils.devices import choose_device
from fastifo.utils.progress import ProgressBar


class Job(Protocol):
    """What another process can do: pickled to it, results go to files."""

    def run(self) -> None: ...


def run_jobs(jobs: Sequence[Job]) -> None:
    """All jobs: one after the other on a GPU, on a CPU side by side with a core or more each.

    Nets this small keep one core busy but not two.
    """
    cores = len(os.sched_getaffinity(0))
    workers = min(len(jobs), cores) if choose_device("auto").type == "cpu" else 1
    if workers <= 1:
        for job in jobs:
            job.run()
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _start_worker, (max(1, cores // workers),)) as pool:
        for future in [pool.submit(job.run) for job in jobs]:
            future.result()


def _start_worker(threads: int) -> None:
    torch.set_num_threads(threads)
    ProgressBar.plain = True  # bars of several processes would write over each other
    threading.Thread(target=_end_with_parent, daemon=True).start()


GRACE = 5  # seconds for a checkpoint


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


BLOCK = 4096  # rows that a thread takes at once


def in_blocks(work: Callable[[slice], object], count: int) -> None:
    """Calls work(rows) for all of [0, count) in blocks, side by side, torch on one thread in each.

    So numbers do not depend on how many threads there are.
    """

    def alone(first: int) -> None:
        with torch.no_grad():
            work(slice(first, min(first + BLOCK, count)))

    threads = torch.get_num_threads()
    with one_thread(), ThreadPoolExecutor(threads) as workers:
        list(workers.map(alone, range(0, count, BLOCK)))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: the bits of products, and of sigmoids and the like, depend on how many
    there are.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
