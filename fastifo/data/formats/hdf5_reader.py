"""The process that opens foreign HDF5 files, run as a script: `hdf5.py` is its only caller.

The HDF5 library was not made for files that want to harm it. So each request is answered by a fork
with a limit on memory and on processor time, which may crash without harm. A line of JSON in,
{"path", "out", "names" or null, "limit"}; a line out when it is answered. Numbers go to the file
`out` as float32, one dataset behind the other; {"found"} or {"error"} to `out`.json. Imports
neither torch nor fastifo.
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

ATTRIBUTES = ("total_steps", "num_samples", "total", "env_args")
BLOCK_BYTES = 4 << 20
STALL_S = 4.0  # of processor time for one object or one block
MAX_OBJECTS, MAX_DEPTH, MAX_STRINGS = 1_000_000, 32, 1_000_000


class RefusedError(Exception):
    """Says what is wrong with the file."""


def alive() -> None:
    """Starts the clock again that ends a process which makes no progress."""
    signal.setitimer(signal.ITIMER_PROF, STALL_S)


def tree(file: h5py.File) -> dict[str, Any]:
    """Path -> {"shape", "kind"} of a dataset, {"attributes"} of a group."""
    found: dict[str, Any] = {}
    seen = set()
    open_groups = [("", file, 0)]
    while open_groups:
        name, group, depth = open_groups.pop()
        alive()
        place = h5py.h5o.get_info(group.id)
        if (place.fileno, place.addr) in seen:
            raise RefusedError(f"group {name or '/'!r} is met twice, a link leads back to it")
        seen.add((place.fileno, place.addr))
        if depth > MAX_DEPTH:
            raise RefusedError(f"groups lie more than {MAX_DEPTH} deep at {name!r}")
        found[name] = {"attributes": attributes(group)}
        for key in group:
            path = f"{name}/{key}" if name else key
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise RefusedError(f"{path!r} is a link to another file ({link.filename})")
            if isinstance(link, h5py.SoftLink):
                continue
            if len(found) + len(open_groups) > MAX_OBJECTS:
                raise RefusedError(f"it holds more than {MAX_OBJECTS} objects")
            item = group[key]
            if isinstance(item, h5py.Group):
                open_groups.append((path, item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                found[path] = describe(path, item)
                alive()
    return found


def describe(path: str, dataset: h5py.Dataset) -> dict[str, Any]:
    if dataset.external:
        raise RefusedError(f"{path!r} keeps its numbers in another file")
    if dataset.is_virtual:
        raise RefusedError(f"{path!r} is put together from other datasets")
    try:
        kind = dataset.dtype.kind
    except TypeError:  # numpy has no such type
        kind = "unknown"
    # The second number is what reading one piece of it takes.
    piece = int(np.prod(dataset.chunks, dtype=float)) if dataset.chunks else 0
    return {"shape": list(dataset.shape or ()), "kind": kind, "piece": piece}


def attributes(group: h5py.Group) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ATTRIBUTES:
        if name in group.attrs:
            value = group.attrs[name]
            if isinstance(value, str | bytes):
                found[name] = value.decode(errors="replace") if isinstance(value, bytes) else value
            elif np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf":
                found[name] = float(value)
    return found


def write_numbers(dataset: h5py.Dataset, out: Any) -> None:
    """As float32, in blocks of rows."""
    if dataset.ndim == 0:
        np.asarray(dataset[()], np.float32).tofile(out)
        return
    row = int(np.prod(dataset.shape[1:])) * max(4, dataset.dtype.itemsize)
    rows = max(1, BLOCK_BYTES // max(1, row))
    if dataset.chunks:  # whole chunks, each unpacked once
        rows = max(rows // dataset.chunks[0], 1) * dataset.chunks[0]
    for first in range(0, dataset.shape[0], rows):
        alive()
        with np.errstate(over="ignore", invalid="ignore"):
            block = dataset[first : first + rows].astype(np.float32)
        block.tofile(out)


def texts(name: str, dataset: h5py.Dataset) -> list[str]:
    if dataset.ndim != 1 or dataset.shape[0] > MAX_STRINGS or dataset.dtype.kind not in "SO":
        raise RefusedError(f"{name!r} is not a list of names")
    return [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in dataset[:]]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + request["limit"],) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"],) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    alive()
    try:
        with h5py.File(request["path"], "r", locking=False) as file:
            if request["names"] is None:
                return {"found": tree(file)}
            found = {}
            with open(request["out"], "wb") as out:
                for name in request["names"]:
                    dataset = file[name]
                    describe(name, dataset)
                    if dataset.dtype.kind in "SO":
                        found[name] = texts(name, dataset)
                    else:
                        write_numbers(dataset, out)
            return {"found": found}
    except RefusedError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "it asks for more memory than a sound file of its size"}
    except Exception as error:  # the HDF5 library raises many kinds
        return {"error": " ".join(f"{error}".split())[:300] or type(error).__name__}


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        results = request["out"] + ".json"
        child = os.fork()
        if child == 0:
            try:
                with open(results, "w") as file:
                    json.dump(answer(request), file)
            finally:
                os._exit(0)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            known: dict[int, str] = {
                signal.SIGPROF: "reading it does not come to an end",
                signal.SIGXFSZ: "it holds more numbers than a sound file of its size",
            }
            reason = known.get(number, f"the HDF5 library crashed on it (signal {number})")
            with open(results, "w") as file:
                json.dump({"error": reason}, file)
        print("done", flush=True)


if __name__ == "__main__":
    main()
