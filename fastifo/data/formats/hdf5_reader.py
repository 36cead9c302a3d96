"""The process that opens HDF5 files, run as a script; `hdf5.py` is its only caller.

The HDF5 library is not hardened against malicious files. A fork therefore answers each request,
with limits on memory and processor time; it may crash without harm.

A request is one line of JSON on stdin, {"path", "names" or null, "dtype" of the values, "memory" in
bytes, "rows" [first, end] or null for all}. The answer is a sequence of frames on stdout, each a
letter, its size in bytes (uint64) and its content: "n" has values, one dataset after another; "j"
comes last, with {"result"} or {"error"} as JSON. Nothing is written to the disk. Where the fork
dies of a signal, this process exits with 64 plus the signal; with 64 where the fork ends without an
answer. This script imports neither torch nor fastifo.
"""

import json
import os
import posixpath
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
WITH_ATTRIBUTES = ("", "data")  # groups whose attributes are read
MAX_ATTRIBUTE_BYTES = 1 << 20


class RefusedError(Exception):
    """The file is not read; the message says why."""


def restart_timer() -> None:
    """Restarts the timer that ends the process when it makes no progress."""
    signal.setitimer(signal.ITIMER_PROF, STALL_S)


def list_objects(file: h5py.File) -> dict[str, Any]:
    """Name -> `describe` of a dataset, {} of a group, with "attributes" for WITH_ATTRIBUTES.

    A soft link to an object in the file is listed as this object, with its real name as "at".
    """
    objects: dict[str, Any] = {}
    links: dict[str, str] = {}  # soft link -> what it names, from the root
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
        objects[name] = {"attributes": attributes(group)} if name in WITH_ATTRIBUTES else {}
        for key in group:
            path = f"{name}/{key}" if name else key
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise RefusedError(f"{path!r} is a link to another file ({link.filename})")
            if len(objects) + len(open_groups) + len(links) > MAX_OBJECTS:
                raise RefusedError(f"it has more than {MAX_OBJECTS} objects")
            if isinstance(link, h5py.SoftLink):
                links[path] = posixpath.normpath(posixpath.join("/", name, link.path)).lstrip("/")
                continue
            item = group[key]
            if isinstance(item, h5py.Group):
                open_groups.append((path, item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                objects[path] = describe(path, item)
                restart_timer()
    return objects | linked_objects(objects, links)


def linked_objects(objects: dict[str, Any], links: dict[str, str]) -> dict[str, Any]:
    """Entries for soft links; a link to nothing, or to itself, has none.

    HDF5 does not follow the links: they could lead through a link to another file.
    """
    added: dict[str, Any] = {}
    for path in links:
        restart_timer()
        real = resolved(path, links)
        if real is None or real not in objects or f"{path}/".startswith(f"{real}/"):
            continue
        if "shape" in objects[real]:
            added[path] = objects[real] | {"at": real}
            continue
        inside = [name for name in objects if name == real or name.startswith(f"{real}/")]
        if len(objects) + len(added) + len(inside) > MAX_OBJECTS:
            raise RefusedError(f"it has more than {MAX_OBJECTS} objects")
        added |= {path + name[len(real) :]: objects[name] | {"at": name} for name in inside}
    return added


def resolved(path: str, links: dict[str, str]) -> str | None:
    """The name of an object after following every soft link on its path; None for a circle."""
    for _ in range(MAX_DEPTH):
        parts = path.split("/")
        prefixes = ("/".join(parts[: i + 1]) for i in range(len(parts)))
        link = next((prefix for prefix in prefixes if prefix in links), None)
        if link is None:
            return path
        path = links[link] + path[len(link) :]
    return None


def attributes(group: h5py.Group) -> dict[str, Any]:
    """The attributes that are text or numbers, as JSON values; others are left out."""
    values: dict[str, Any] = {}
    for name in group.attrs:
        restart_timer()
        stored = group.attrs.get_id(name)
        kind = stored.dtype.kind
        size_bytes = int(np.prod(stored.shape or (), dtype=float)) * stored.dtype.itemsize
        if kind not in "fiubSO" or size_bytes > MAX_ATTRIBUTE_BYTES:
            continue
        value = group.attrs[name]
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fiub":
            value = value.tolist()
        if isinstance(value, str | float | int | list):
            values[name] = value
    return values


def describe(path: str, dataset: h5py.Dataset) -> dict[str, Any]:
    """{"shape", "kind" and "size" of the dtype, "chunk" in values and "chunk_rows"}.

    Raises RefusedError for indirect storage.
    """
    if dataset.external:
        raise RefusedError(f"{path!r} stores its values in another file")
    if dataset.is_virtual:
        raise RefusedError(f"{path!r} is a virtual dataset, made from other datasets")
    try:
        kind, size = dataset.dtype.kind, dataset.dtype.itemsize
    except TypeError:  # NumPy has no such type
        kind, size = "unknown", 0
    chunk = int(np.prod(dataset.chunks, dtype=float)) if dataset.chunks else 0
    rows = int(dataset.chunks[0]) if dataset.chunks else 0
    shape = list(dataset.shape or ())
    return {"shape": shape, "kind": kind, "size": size, "chunk": chunk, "chunk_rows": rows}


def send(kind: bytes, content: Any) -> None:
    """Writes a frame to stdout.  content: bytes, or an array."""
    view = memoryview(content).cast("B")
    sys.stdout.buffer.write(kind + len(view).to_bytes(8, "little"))
    sys.stdout.buffer.write(view)


def send_numbers(dataset: h5py.Dataset, dtype: str, limits: list[int] | None) -> None:
    """Sends a dataset in blocks of rows.  limits: the first row and the end; None: all rows."""
    if dataset.ndim == 0:
        send(b"n", np.asarray(dataset[()], dtype).reshape(1))
        return
    row_bytes = int(np.prod(dataset.shape[1:])) * max(4, dataset.dtype.itemsize)
    rows = max(1, BLOCK_BYTES // max(1, row_bytes))
    if dataset.chunks:  # a multiple of the chunk, so that each chunk is decompressed once
        rows = max(rows // dataset.chunks[0], 1) * dataset.chunks[0]
    begin, end = limits or (0, dataset.shape[0])
    for first in range(begin, end, rows):
        restart_timer()
        with np.errstate(over="ignore", invalid="ignore"):
            block = np.ascontiguousarray(dataset[first : min(first + rows, end)].astype(dtype))
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
    resource.setrlimit(resource.RLIMIT_AS, (used + request["memory"],) * 2)
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
                    send_numbers(dataset, request["dtype"], request["rows"])
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
