"""The process that opens files which may be damaged or malicious, run as a script.

    python -P reader_host.py hdf5_reader.py      (started by reader_process.py alone)

The libraries that read such files are not hardened against them. A fork therefore answers each
request, with limits on memory and processor time; it may crash without harm, and writes nothing to
the disk. The argument is a reader: a script with `answer(request)`, which returns the result, and
STALL_S, the processor time in seconds after which it is ended unless it calls `restart_timer`. It
imports the names below from `reader_host`.

A request is one line of JSON on stdin: what the reader asks for, and "memory", the bytes that it
may take. The answer is a sequence of frames on stdout, each a letter, its size in bytes (uint64)
and its content: "n" has values; "j" comes last, with {"result"} or {"error"} as JSON. Where the
fork dies of a signal, this process exits with 64 plus the signal; with 64 where it ends without an
answer. Neither this script nor a reader imports torch or fastifo.
"""

import importlib.util
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ANSWERED = 33  # exit code of a fork that has sent its answer


class RefusedError(Exception):
    """The file is not read; the message says why."""


def restart_timer(seconds: float) -> None:
    """Restarts the timer that ends the process when it makes no progress."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def send(kind: bytes, content: Any) -> None:
    """Writes a frame to stdout.  content: bytes, or an array."""
    view = memoryview(content).cast("B")
    sys.stdout.buffer.write(kind + len(view).to_bytes(8, "little"))
    sys.stdout.buffer.write(view)


def one_line(error: Exception) -> str:
    """What a library says, shortened."""
    return " ".join(f"{error}".split())[:300] or type(error).__name__


def reply_to(
    request: dict[str, Any], answer: Callable[[dict[str, Any]], Any], stall_s: float
) -> dict[str, Any]:
    """{"result"} or {"error"}, within the limits."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + request["memory"],) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    restart_timer(stall_s)
    try:
        return {"result": answer(request)}
    except RefusedError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "reading it takes more memory than a valid file of its size needs"}
    except Exception as error:  # the libraries raise many kinds
        return {"error": one_line(error)}


def load_reader(path: str) -> Any:
    """The reader as a module, which finds this one as `reader_host`."""
    sys.modules["reader_host"] = sys.modules["__main__"]
    spec = importlib.util.spec_from_file_location("reader", path)
    assert spec is not None
    assert spec.loader is not None
    reader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reader)
    return reader


def main() -> None:
    """Answers requests until stdin is closed."""
    reader = load_reader(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                reply = reply_to(request, reader.answer, reader.STALL_S)
                send(b"j", json.dumps(reply).encode())
                sys.stdout.buffer.flush()
                os._exit(ANSWERED)
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != ANSWERED:  # an answer may be half sent: the parent starts another process
            os._exit(64 - code if code < 0 else 64)


if __name__ == "__main__":
    main()
