"""The process that opens HDF5 files, run as a script; `hdf5.py` is its only caller.

The HDF5 library is not hardened against malicious files. A fork therefore answers each request,
with limits on memory and processor time; it may crash without harm.

A request is one line of JSON on stdin, {"path", "names" or null, "limit" in bytes}. The answer is a
sequence of frames on stdout, each a letter, its size in bytes (uint64) and its content: "n" has
values as float32, one dataset after another; "j" comes last, with {"result"} or {"error"} as JSON.
Nothing is written to the disk. Where the fork dies of a signal, this process exits with 64 plus the
signal; with 64 where the fork ends without an answer. This script imports neither torch nor fastifo.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np

BLOCK_BYTES = 4 << 20
STALL_S = 4.0  # processor time for one object or one block of rows
ANSWERED = 33  # exit code of a fork that has sent its answer
MAX_OBJECTS, MAX_DEPTH, MAX_STRINGS = 1_000_000, 32, 1_000_000


class RefusedError(Exception):
    """The file is not read; the message says why."""


def restart_timer() -> None:
    """Restarts the timer that ends the process when it makes no progress."""
    signal.setitimer(signal.ITIMER_PROF, STALL_S)


def list_objects(file: h5py.File) -> dict[str, Any]:
    """Name -> `describe` of a dataset, {} of a group.  Soft links are ignored."""
    objects: dict[str, Any] = {}
    seen = set()
    open_groups = [("", file, 0)]
    while open_groups:
        name, group, depth = open_groups.pop()
        restart_timer()
        info = h5py.h5o.get_info(group.id)
        if (info.fileno, info.addr) in seen:
            raise RefusedError(f"group {name or '/'!r} appears twice: a link leads back to it")
        seen.add((info.fileno, info.addr))
        if depth > MAX_DEPTH:
            raise RefusedError(f"groups are nested more than {MAX_DEPTH} deep at {name!r}")
        objects[name] = {}
        for key in group:
            path = f"{name}/{key}" if name else key
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise RefusedError(f"{path!r} is a link to another file ({link.filename})")
            if isinstance(link, h5py.SoftLink):
                continue
            if len(objects) + len(open_groups) > MAX_OBJECTS:
                raise RefusedError(f"it has more than {MAX_OBJECTS} objects")
            item = group[key]
            if isinstance(item, h5py.Group):
                open_groups.append((path, item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                objects[path] = describe(path, item)
                restart_timer()
    return objects


def describe(path: str, dataset: h5py.Dataset) -> dict[str, Any]:
    """{"shape", "kind" of dtype, "chunk" in values}.  Raises RefusedError for indirect storage."""
    if dataset.external:
        raise RefusedError(f"{path!r} stores its values in another file")
    if dataset.is_virtual:
        raise RefusedError(f"{path!r} is a virtual dataset, made from other datasets")
    try:
        kind = dataset.dtype.kind
    except TypeError:  # NumPy has no such type
        kind = "unknown"
    chunk = int(np.prod(dataset.chunks, dtype=float)) if dataset.chunks else 0
    return {"shape": list(dataset.shape or ()), "kind": kind, "chunk": chunk}


def send(kind: bytes, content: Any) -> None:
    """Writes a frame to stdout.  content: bytes, or an array."""
    view = memoryview(content).cast("B")
    sys.stdout.buffer.write(kind + len(view).to_bytes(8, "little"))
    sys.stdout.buffer.write(view)


def send_numbers(dataset: h5py.Dataset) -> None:
    """Sends a dataset as float32, in blocks of rows."""
    if dataset.ndim == 0:
        send(b"n", np.asarray(dataset[()], np.float32).reshape(1))
        return
    row_bytes = int(np.prod(dataset.shape[1:])) * max(4, dataset.dtype.itemsize)
    rows = max(1, BLOCK_BYTES // max(1, row_bytes))
    if dataset.chunks:  # a multiple of the chunk, so that each chunk is decompressed once
        rows = max(rows // dataset.chunks[0], 1) * dataset.chunks[0]
    for first in range(0, dataset.shape[0], rows):
        restart_timer()
        with np.errstate(over="ignore", invalid="ignore"):
            block = np.ascontiguousarray(dataset[first : first + rows], np.float32)
        if block.size:
            send(b"n", block.reshape(-1))


def texts(name: str, dataset: h5py.Dataset) -> list[str]:
    """The strings of a dataset.  Raises RefusedError if it is no list of strings."""
    if dataset.ndim != 1 or dataset.shape[0] > MAX_STRINGS or dataset.dtype.kind not in "SO":
        raise RefusedError(f"{name!r} is not a list of names")
    return [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in dataset[:]]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The reply to one request, {"result"} or {"error"}, within the limits."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + request["limit"],) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    restart_timer()
    try:
        with h5py.File(request["path"], "r", locking=False) as file:
            if request["names"] is None:
                return {"result": list_objects(file)}
            strings = {}
            for name in request["names"]:
                dataset = file[name]
                describe(name, dataset)
                if dataset.dtype.kind in "SO":
                    strings[name] = texts(name, dataset)
                else:
                    send_numbers(dataset)
            return {"result": strings}
    except RefusedError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "reading it takes more memory than a valid file of its size needs"}
    except Exception as error:  # the HDF5 library raises many kinds
        return {"error": " ".join(f"{error}".split())[:300] or type(error).__name__}


def main() -> None:
    """Answers requests until stdin is closed."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                send(b"j", json.dumps(answer(request)).encode())
                sys.stdout.buffer.flush()
                os._exit(ANSWERED)
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != ANSWERED:  # an answer may be half sent: the parent starts another reader
            os._exit(64 - code if code < 0 else 64)


if __name__ == "__main__":
    main()
