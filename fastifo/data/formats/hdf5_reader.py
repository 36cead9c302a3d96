"""Reads HDF5 files in the process of `reader_host.py`, for `hdf5.py`.

A request has "path", "names" or null, "dtype" of the values, and "rows" [first, end] or null for
all. Without names the result lists the file's objects. Else the answer has the values of one
dataset after another, and the result the strings of those that hold strings.
"""

import posixpath
from typing import Any

import h5py
import numpy as np
from reader_host import RefusedError, restart_timer, send

BLOCK_BYTES = 4 << 20
STALL_S = 4.0  # processor time for one object or one block of rows
MAX_OBJECTS, MAX_DEPTH, MAX_STRINGS = 1_000_000, 32, 1_000_000
WITH_ATTRIBUTES = ("", "data")  # groups whose attributes are read
MAX_ATTRIBUTE_BYTES = 1 << 20


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
        restart_timer(STALL_S)
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
                restart_timer(STALL_S)
    return objects | linked_objects(objects, links)


def linked_objects(objects: dict[str, Any], links: dict[str, str]) -> dict[str, Any]:
    """Entries for soft links; a link to nothing, or to itself, has none.

    HDF5 does not follow the links: they could lead through a link to another file.
    """
    added: dict[str, Any] = {}
    for path in links:
        restart_timer(STALL_S)
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
        restart_timer(STALL_S)
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
        restart_timer(STALL_S)
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
    """The result of one request."""
    with h5py.File(request["path"], "r", locking=False) as file:
        if request["names"] is None:
            return list_objects(file)
        strings = {}
        for name in request["names"]:
            dataset = file[name]
            describe(name, dataset)
            if dataset.dtype.kind in "SO":
                strings[name] = texts(name, dataset)
            else:
                send_numbers(dataset, request["dtype"], request["rows"])
        return strings
