"""Processes and threads on one machine."""

import contextlib
import errno
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import torch

from fastifo.utils.devices import choose_device
from fastifo.utils.progress import ProgressBar, say

GRACE_S = 4.0  # time to write a checkpoint after SIGTERM
STOPPED = "stopped; finished parts and checkpoints are kept"
PASSING = {  # errors of a disk or a network file system that may be gone a moment later
    errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.ESTALE, errno.ETIMEDOUT,
}  # fmt: skip


class Job(Protocol):
    """Work for another process: sent to it by pickling; results go to files."""

    def run(self) -> None:
        """Does the work."""


class Executor(Protocol):
    """Where jobs run; see `fastifo.utils.executors`."""

    def run(self, jobs: Sequence[Job]) -> None:
        """Runs all jobs and returns when the last one has ended; see `run_jobs`."""


def run_jobs(jobs: Sequence[Job], executor: Executor | None = None) -> None:
    """Runs all jobs: in parallel processes on a CPU, one after the other on a GPU.

    Each process gets at least one core: nets this small keep one core busy, but not two.
    executor: runs them instead, perhaps on other machines.
    Ctrl-C, SIGTERM and a job that fails stop the others, which write their checkpoints, within
    `GRACE_S`; jobs that wait are not started. Raises KeyboardInterrupt, or the error of the job;
    ChildProcessError if a process died.
    """
    if executor is not None:
        executor.run(jobs)
        return
    cores = len(os.sched_getaffinity(0))
    workers = min(len(jobs), cores) if choose_device("auto").type == "cpu" else 1
    if workers <= 1:
        for job in jobs:
            job.run()
        return
    with WorkerPool(workers) as pool:
        pool.run(jobs)


class WorkerPool:
    """Processes that run jobs; a context in which they live."""

    def __init__(self, workers: int, threads: int = 0, retries: int = 0) -> None:
        """workers: processes.  threads: of torch in each; 0: an equal share of the cores.

        retries: how often a job is started again after its process died or its disk was full.
        """
        cores = len(os.sched_getaffinity(0))
        self.size, self.threads = workers, threads or max(1, cores // workers)
        self.retries = retries
        self.workers: list[_Worker] = []

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *error: object) -> None:
        _end(self.workers)
        self.workers.clear()

    def run(self, jobs: Sequence[Job]) -> None:
        """Runs all jobs; see `run_jobs`."""
        try:
            with raises_on_sigterm():
                while len(self.workers) < min(self.size, len(jobs)):
                    self.workers.append(_Worker(self.threads))
                self._distribute(jobs)
        except KeyboardInterrupt:
            self.__exit__()
            raise KeyboardInterrupt(STOPPED) from None
        except BaseException:
            self.__exit__()  # others may be at work on jobs of this call
            raise

    def _distribute(self, jobs: Sequence[Job]) -> None:
        """Gives each job to the next process that is free, until all are done."""
        waiting, failures = list(range(len(jobs))), [0] * len(jobs)
        busy: dict[Any, tuple[_Worker, int]] = {}
        idle = list(self.workers)
        while waiting or busy:
            while waiting and idle:
                worker, number = idle.pop(), waiting.pop(0)
                if not worker.process.is_alive():  # killed since its last job
                    worker = self._replace(worker)
                worker.connection.send(jobs[number])
                busy[worker.connection] = worker, number
            for connection in wait(list(busy)):
                worker, number = busy.pop(connection)
                try:
                    worker.receive()
                except OSError as error:
                    failures[number] += 1
                    if failures[number] > self.retries or not is_passing(error):
                        raise
                    say(f"{error}; starting it again ({failures[number]} of {self.retries})")
                    waiting.append(number)
                    if isinstance(error, ChildProcessError):
                        worker = self._replace(worker)
                idle.append(worker)

    def _replace(self, worker: "_Worker") -> "_Worker":
        """A new process instead of one that died."""
        self.workers.remove(worker)
        _end([worker])
        self.workers.append(_Worker(self.threads))
        return self.workers[-1]


def is_passing(error: BaseException) -> bool:
    """Whether the same job may succeed elsewhere or later: its process died, or a disk failed."""
    if isinstance(error, ChildProcessError):
        return True
    return isinstance(error, OSError) and error.errno in PASSING


@contextlib.contextmanager
def raises_on_sigterm() -> Iterator[None]:
    """Lets SIGTERM raise KeyboardInterrupt, as Ctrl-C does, so that the processes are ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


class _Worker:
    """A process that does one job after the other."""

    def __init__(self, threads: int) -> None:
        """threads: of torch in the process."""
        self.connection, theirs = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")
        self.process = spawn.Process(target=_work, args=(theirs, threads))
        # The process must not see Ctrl-C before it can handle it: this one tells it to stop.
        signals = {signal.SIGINT, signal.SIGTERM}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def receive(self) -> None:
        """Waits for the end of the job.  Raises its error, or ChildProcessError."""
        try:
            error, trace = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join(GRACE_S)
            raise ChildProcessError(
                f"a worker process died (exit code {self.process.exitcode}; -9 is often a lack of "
                "memory); run the same command to continue"
            ) from None
        if error is not None:
            raise error from RuntimeError(f"in a worker process:\n{trace}")

    def kill_after(self, deadline: float) -> None:
        """Waits for the end of the process until a time, and then kills it."""
        self.process.join(max(0.0, deadline - time.monotonic()))
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


def _end(pool: Sequence[_Worker]) -> None:
    """Ends all processes; those at work get `GRACE_S` for a checkpoint.  Signals wait meanwhile."""
    signals = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        for worker in pool:
            worker.process.terminate()
        deadline = time.monotonic() + GRACE_S
        for worker in pool:
            worker.kill_after(deadline)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(connection: Connection, threads: int) -> None:
    """The main function of a worker process: does jobs until it is told to end."""
    torch.set_num_threads(threads)
    ProgressBar.plain = True  # bars of several processes would write over each other
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent sends SIGTERM
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        while True:
            connection.send(_attempt(connection.recv_bytes()))
    except (KeyboardInterrupt, EOFError, ConnectionError):
        os._exit(1)  # without waiting for threads of a job that was cut short


def _attempt(pickled: bytes) -> tuple[Exception | None, str]:
    """Does a pickled job; returns its error, if any, and where it happened.

    A job of a module that this process cannot import is such an error too.
    """
    try:
        job: Job = pickle.loads(pickled)
        job.run()
    except Exception as error:
        trace = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            error = OSError(f"{type(error).__name__}: {error}")
        return error, trace
    return None, ""


def _end_with_parent() -> None:
    """Ends this process when the one that started it has ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


BLOCK = 4096  # rows per call in `in_blocks`


def in_blocks(work: Callable[[slice], object], count: int, block: int = BLOCK) -> None:
    """Calls work(rows) for blocks that cover [0, count), in parallel threads.

    block: rows of a block.
    Torch uses one thread inside each call, so results do not depend on the number of threads.
    """

    def run_block(first: int) -> None:
        with torch.no_grad():
            work(slice(first, min(first + block, count)))

    threads = torch.get_num_threads()
    with one_thread(), ThreadPoolExecutor(threads) as workers:
        list(workers.map(run_block, range(0, count, block)))


def one_thread() -> contextlib.AbstractContextManager[None]:
    """Limits torch to one thread inside the block.

    The bits of matrix products and of functions such as sigmoid depend on the number of threads.
    """
    return at_most_threads(1)


@contextlib.contextmanager
def at_most_threads(count: int) -> Iterator[None]:
    """Limits torch to `count` threads inside the block; it never gets more than it had."""
    before = torch.get_num_threads()
    if count < before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count < before:
            torch.set_num_threads(before)
