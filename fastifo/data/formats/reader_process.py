"""A process that reads files which may be damaged or malicious, and answers requests about them.

The process is `reader_host.py` with a reader, such as `hdf5_reader.py`.
"""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

HOST = Path(__file__).with_name("reader_host.py")
HEAD_BYTES = 9  # of a frame: its kind and its size
MAX_JSON_BYTES = 1 << 30
DIED = 64  # exit code of a reader whose fork died of signal n: 64 + n
REASONS = {
    int(signal.SIGPROF): "reading it makes no progress",
}


def _read(pipe: IO[bytes], size: int) -> bytes:
    """Exactly `size` bytes.  Raises EOFError if the pipe ends before."""
    content = pipe.read(size)
    if len(content) < size:
        raise EOFError
    return content


def _read_head(pipe: IO[bytes]) -> tuple[bytes, int]:
    """The kind and the size of the next frame."""
    head = _read(pipe, HEAD_BYTES)
    return head[:1], int.from_bytes(head[1:], "little")


class Growing:
    """Room for an answer whose size is not known before."""

    def __init__(self, limit: int) -> None:
        """limit: in bytes."""
        self.content, self.limit = bytearray(), limit

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more are within the limit."""
        return len(self.content) + size <= self.limit


class ReaderProcess:
    """The process that opens the files: started on first use, and again if it has died.

    It answers in frames, see `reader_host.py`. A process that was interrupted in an answer is
    ended, as the next request would read the rest of that answer.
    """

    def __init__(self, reader: Path, library: str) -> None:
        """reader: its script.  library: what reads the files there, for errors."""
        self.reader, self.library = reader, library
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self.forget)
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, request: dict[str, Any], values: "NDArray[Any] | Growing") -> dict[str, Any]:
        """Sends a request, fills `values` with the numbers of the answer and returns the rest."""
        with self.lock:
            try:
                reply = self._answer(self._started(), request, values)
            except BaseException:
                self.close()
                raise
            if reply is None:
                reply = {"error": self._reason()}
            return reply

    def _answer(
        self,
        process: "subprocess.Popen[bytes]",
        request: dict[str, Any],
        values: "NDArray[Any] | Growing",
    ) -> dict[str, Any] | None:
        """The answer of a process; None if it died or sent something else."""
        assert process.stdin is not None
        assert process.stdout is not None
        fixed = values if isinstance(values, np.ndarray) else None
        room = memoryview(bytearray())
        if fixed is not None and len(fixed):
            room = memoryview(fixed.data).cast("B")
        filled = 0
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            while True:
                kind, size = _read_head(process.stdout)
                if kind == b"n" and isinstance(values, Growing) and values.has_room(size):
                    values.content += _read(process.stdout, size)
                elif kind == b"n" and size <= len(room) - filled:
                    room[filled : filled + size] = _read(process.stdout, size)
                    filled += size
                elif kind == b"n":
                    self.close()
                    return {"error": "it has more values than it declares"}
                elif kind == b"j" and size <= MAX_JSON_BYTES:
                    text = _read(process.stdout, size)
                    break
                else:
                    return None
        except (BrokenPipeError, EOFError):  # not OSError: a timeout's alarm may raise one
            return None
        if fixed is not None and filled < len(room) and not text.startswith(b'{"error"'):
            found = filled // fixed.itemsize
            return {"error": f"expected {len(fixed)} values, found {found}: truncated"}
        reply: dict[str, Any] = json.loads(text)
        return reply

    def _started(self) -> "subprocess.Popen[bytes]":
        if self.process is None or self.process.poll() is not None:
            self.close()
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(HOST), str(self.reader)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for this process, which ends the reader
            )
        return self.process

    def _reason(self) -> str:
        """Why the process died in an answer; ends it."""
        code = 0
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(1.0)
        self.close()
        number = code - DIED
        return REASONS.get(number, "") or (
            f"the {self.library} library crashed on it (signal {number})"
            if 0 < number < 65
            else "the reader exited without an answer"
        )

    def close(self) -> None:
        """Ends the process and the fork of it that reads."""
        process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    assert pipe is not None
                    pipe.close()
            process.wait()

    def forget(self) -> None:
        """Leaves the process to the parent of this fork; the next request starts another one."""
        process, self.process, self.lock = self.process, None, threading.Lock()
        if process is None:
            return
        process.returncode = 0  # not this process's child: nothing to wait for
        # The parent's pipes must end with the parent. A thread of it may have been reading, whose
        # lock nobody releases here: replace the pipes without touching the objects.
        with open(os.devnull, "r+b") as nothing:
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                os.dup2(nothing.fileno(), pipe.fileno(), inheritable=False)
        _FORGOTTEN.append(process)


_FORGOTTEN: list[Any] = []  # processes of the parent
