"""Environments in worker processes, for simulators that are slow or hold the GIL.

Each process owns several lanes and handles one message at a time. A process that dies is replaced
and loses only the episodes it was playing.
"""

import contextlib
import functools
import multiprocessing
import signal
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.envs.lanes import RESET, Row, play_row
from fastifo.envs.spec import EnvInfo
from fastifo.envs.vector import SingleEnv

MAX_DEATHS = 3  # of processes in a row, before an episode has ended
GRACE_S = 4.0  # for a process to end


class WorkerLanes:
    """Lanes in several processes; lane i is in process i % workers."""

    refills = True  # a process must not wait for the longest episode of another one

    def __init__(
        self,
        make: Callable[[], SingleEnv],
        count: int,
        workers: int,
        *,
        needs_script: bool = True,
    ) -> None:
        """make: makes one environment; it is sent to the processes by pickling.

        needs_script: whether the environment may be defined or registered in the user's script,
        which the processes then import.
        Raises TypeError if `make` cannot be pickled, and the error that it raises there.
        """
        self.count = max(count, workers)
        self.start = functools.partial(_Worker, make, needs_script)
        self.deaths = 0
        self.workers = [self.start(index) for index in range(workers)]
        try:
            self.info: EnvInfo = [w.await_info() for w in self.workers][-1]
        except BaseException:
            self.close()
            raise

    def _of(self, lane: int) -> "_Worker":
        return self.workers[lane % len(self.workers)]

    def reset(self, lane: int, seed: int) -> None:
        """Begins an episode, in a new process if the lane's has died."""
        worker = self._of(lane)
        if worker.is_dead:
            worker = self.start(lane % len(self.workers))
            self.workers[worker.index] = worker
            worker.await_info()
        worker.pending.append((lane, RESET, seed))

    def step(self, lane: int, action: NDArray[np.float64]) -> None:
        """Begins a step."""
        self._of(lane).pending.append((lane, action, 0))

    def recv(self) -> tuple[list[Row], list[int], str]:
        """Rows of all processes that have answered; waits for one at least."""
        rows: list[Row] = []
        for worker in self.workers:
            worker.flush()
        busy: dict[Any, _Worker] = {
            worker.connection: worker for worker in self.workers if worker.busy
        }
        for connection in wait(list(busy)):
            worker = busy[connection]
            answer = worker.receive()
            if answer is None:
                self._count_death(worker)
                return rows, worker.take_busy(), worker.epitaph()
            worker.take_busy()
            rows += answer
        if any(row[3] or row[4] for row in rows):
            self.deaths = 0
        return rows, [], ""

    def _count_death(self, worker: "_Worker") -> None:
        self.deaths += 1
        if self.deaths > MAX_DEATHS:
            raise ChildProcessError(
                f"{self.info.name}: {worker.epitaph()}; {self.deaths} died in a row before any "
                "episode ended; run it in one process to see why"
            )

    def close(self) -> None:
        """Ends the processes."""
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(GRACE_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()


class _Worker:
    """A process with its lanes, seen from the parent."""

    def __init__(self, make: Callable[[], SingleEnv], needs_script: bool, index: int) -> None:
        self.index = index
        self.needs_script = needs_script
        self.pending: list[tuple[int, Any, int]] = []  # commands to send
        self.busy: list[int] = []  # lanes whose answers are awaited
        self.is_dead = False
        self.connection, theirs = multiprocessing.Pipe()
        # Processes are forked from one that has imported this module and runs nothing else: the
        # imports are made once, and a dead process is replaced at once.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self.process = context.Process(target=work, args=(theirs, make), daemon=True)
        signals = {signal.SIGINT}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # until it can ignore Ctrl-C
        try:
            with contextlib.nullcontext() if needs_script else _without_script():
                self.process.start()
        except (AttributeError, TypeError, ValueError, ImportError) as error:
            raise TypeError(
                f"env: cannot be pickled for a worker process ({error}); define the function in a "
                "module, or use num_workers=0"
            ) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def await_info(self) -> EnvInfo:
        """Waits until the first environment is made.  Raises its error."""
        answer = self.receive()
        if answer is None:
            hint = ""
            # A process whose import of the script raised an error has ended with 1.
            imported = self.needs_script and self.process.exitcode == 1
            if imported and hasattr(sys.modules["__main__"], "__file__"):
                hint = (
                    "; it imports your script, which must do its work below "
                    "if __name__ == '__main__':; or use num_workers=0"
                )
            raise ChildProcessError(f"{self.epitaph()} while creating the environment{hint}")
        info: EnvInfo = answer
        return info

    def flush(self) -> None:
        """Sends the commands, if there are any and the process is free."""
        if self.pending and not self.busy:
            commands, self.pending = self.pending, []
            self.busy = [lane for lane, _, _ in commands]
            with contextlib.suppress(OSError):  # `receive` notices that the process is dead
                self.connection.send(commands)

    def receive(self) -> Any:
        """The answer; None if the process died.  Raises the error of the environment."""
        try:
            answer, error, trace = self.connection.recv()
        except (EOFError, ConnectionError, OSError):
            self.is_dead = True
            self.process.join(GRACE_S)
            return None
        if error is not None:
            raise error from RuntimeError(f"in a worker process:\n{trace}")
        return answer

    def take_busy(self) -> list[int]:
        """The lanes whose answer has come, or is lost."""
        lanes, self.busy = self.busy, []
        return lanes

    def epitaph(self) -> str:
        """Which process died, and how."""
        code = self.process.exitcode
        hint = " (-9 often means out of memory)" if code == -9 else ""
        return f"worker process {self.process.pid} died with exit code {code}{hint}"


@contextlib.contextmanager
def _without_script() -> Iterator[None]:
    """Processes that start here do not import the user's script, which would run it again."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def work(connection: Connection, make: Callable[[], SingleEnv]) -> None:
    """The main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _use_one_thread()
    envs: dict[int, SingleEnv] = {}
    spare: list[SingleEnv] = []
    try:
        try:
            spare.append(make())
            connection.send((spare[0].info, None, ""))
        except Exception as error:
            connection.send((None, _portable(error), traceback.format_exc()))
            return
        while True:
            connection.send(_answer(connection.recv(), envs, spare, make))
    except (EOFError, ConnectionError):
        return  # the parent has ended


def _answer(
    commands: list[tuple[int, Any, int]],
    envs: dict[int, SingleEnv],
    spare: list[SingleEnv],
    make: Callable[[], SingleEnv],
) -> tuple[list[Row] | None, Exception | None, str]:
    """Plays what the parent asks for.  Returns rows, or an error and where it happened."""
    try:
        rows = []
        for lane, action, seed in commands:
            if lane not in envs:
                envs[lane] = spare.pop() if spare else make()
            rows.append(play_row(envs[lane], lane, action, seed))
    except Exception as error:
        return None, _portable(error), traceback.format_exc()
    return rows, None, ""


def _portable(error: Exception) -> Exception:
    """An error that can be sent to the parent."""
    known = (ValueError, TypeError, ImportError, RuntimeError)
    kind = next((k for k in known if isinstance(error, k)), RuntimeError)
    text = str(error) if type(error) is kind else f"{type(error).__name__}: {error}"
    portable = kind(text)
    for note in getattr(error, "__notes__", ()):
        portable.add_note(note)
    return portable


def _use_one_thread() -> None:
    """Every process has one core."""
    import torch

    torch.set_num_threads(1)
