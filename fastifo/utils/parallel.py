"""Processes and threads on one machine."""

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
    """Work for another process: sent to it by pickling; results go to files."""

    def run(self) -> None:
        """Does the work."""


def run_jobs(jobs: Sequence[Job]) -> None:
    """Runs all jobs: in parallel processes on a CPU, one after the other on a GPU.

    Each process gets at least one core: nets this small keep one core busy, but not two.
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


GRACE_S = 5  # time to write a checkpoint after SIGTERM


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


BLOCK = 4096  # rows per call in `in_blocks`


def in_blocks(work: Callable[[slice], object], count: int) -> None:
    """Calls work(rows) for blocks that cover [0, count), in parallel threads.

    Torch uses one thread inside each call, so results do not depend on the number of threads.
    """

    def run_block(first: int) -> None:
        with torch.no_grad():
            work(slice(first, min(first + BLOCK, count)))

    threads = torch.get_num_threads()
    with one_thread(), ThreadPoolExecutor(threads) as workers:
        list(workers.map(run_block, range(0, count, BLOCK)))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limits torch to one thread inside the block.

    The bits of matrix products and of functions such as sigmoid depend on the number of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
