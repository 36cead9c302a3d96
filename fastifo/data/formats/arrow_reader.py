"""Reads Parquet and Arrow files in the process of `reader_host.py`, for `arrow.py`.

A request has "paths" of files with the same columns, "columns" to read or null for all, and "flag"
[column, key] or null. The answer has the float64 values of the columns of numbers, one after
another. The result has "rows"; "columns": name -> {"type"}, and for numbers "kind" (NumPy's
letter), the "shape" of what was sent, and for lists of different lengths the "lengths"; and
"flags": of each row the boolean under `key` in the last text, as JSON, of the list in `column`, or
null. Fields of structures are columns of their own, as in "obs/state".
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from reader_host import RefusedError, restart_timer, send

PARQUET = b"PAR1"
STALL_S = 20.0  # processor time for one file
MAX_DEPTH = 8  # of structures
BLOCK_VALUES = 1 << 19

pa.set_memory_pool(pa.system_memory_pool())  # others reserve more memory than the limit
pa.set_cpu_count(1)
pa.set_io_thread_count(1)
pa.array([1.0, None]).to_numpy(zero_copy_only=False)  # what it imports, before there are forks


def read_table(path: str, columns: list[str] | None) -> pa.Table:
    """One file's columns; only those that can hold numbers or texts."""
    restart_timer(STALL_S)
    with open(path, "rb") as file:
        is_parquet = file.read(len(PARQUET)) == PARQUET
    if is_parquet:
        with pq.ParquetFile(path, memory_map=False) as file:
            names = file.schema_arrow.names
            if missing := sorted(set(columns or ()) - set(names)):
                found = ", ".join(names[:12])
                raise RefusedError(f"expected columns {', '.join(missing)}, found {found}")
            table = file.read(columns=columns, use_threads=False)
    else:
        with pa.OSFile(path) as source:
            try:
                table = pa.ipc.open_file(source).read_all()
            except pa.ArrowInvalid:
                source.seek(0)
                table = pa.ipc.open_stream(source).read_all()
        if columns is not None:
            table = table.select(columns)
    table.validate(full=True)
    return table


def leaves(name: str, column: pa.Array, depth: int = 0) -> Iterator[tuple[str, pa.Array]]:
    """A column, or the fields of a column of structures."""
    if not pa.types.is_struct(column.type):
        yield name, column
        return
    if depth == MAX_DEPTH:
        raise RefusedError(f"{name}: structures are nested more than {MAX_DEPTH} deep")
    for index, part in enumerate(column.flatten()):
        yield from leaves(f"{name}/{column.type.field(index).name}", part, depth + 1)


def is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def kind_of(kind: pa.DataType) -> str:
    """NumPy's letter for a type of numbers."""
    types = pa.types
    if types.is_boolean(kind):
        return "b"
    return "f" if types.is_floating(kind) else "u" if types.is_unsigned_integer(kind) else "i"


def is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind))


def send_column(name: str, column: pa.Array) -> dict[str, Any]:
    """Sends the numbers of a column; returns its entry in the result."""
    entry: dict[str, Any] = {"type": str(column.type)[:100]}
    lengths: list[Any] = []  # of the lists, from the outer to the inner
    values = column
    while is_list(values.type) and len(lengths) < 2:
        if values.null_count:
            return entry | {"type": f"{entry['type']}, {values.null_count} of them null"}
        sizes = pc.list_value_length(values).cast(pa.int64())
        lengths.append(sizes.to_numpy(zero_copy_only=False))
        values = values.flatten()
    if not is_number(values.type):
        return entry
    shape = [len(values)]
    if lengths and len(np.unique(lengths[-1])) <= 1:  # the innermost lists are rows
        width = int(lengths[-1][0]) if len(lengths[-1]) else 0
        shape = [len(lengths.pop()), width]
    if lengths:
        entry["lengths"] = lengths[0].tolist()
        if len(lengths) > 1:
            return {"type": f"{entry['type']} of different lengths"}
    kind = kind_of(values.type)
    entry |= {"shape": shape, "kind": "f" if values.null_count else kind}
    for first in range(0, len(values), BLOCK_VALUES):
        restart_timer(STALL_S)
        block = values.slice(first, BLOCK_VALUES)
        numbers = block.cast(pa.float64() if kind != "b" else pa.int8(), safe=False)
        array = numbers.cast(pa.float64()).to_numpy(zero_copy_only=False)
        send(b"n", np.ascontiguousarray(array, np.float64))
    return entry


def flag_of(texts: Any, key: str) -> bool | None:
    """The boolean under `key` in the last of some JSON texts."""
    try:
        found = json.loads(texts[-1])[key]
    except (TypeError, ValueError, KeyError, IndexError, RecursionError):
        return None
    return found if isinstance(found, bool) else None


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The result of one request."""
    table = pa.concat_tables([read_table(path, request["columns"]) for path in request["paths"]])
    if len(set(table.column_names)) < len(table.column_names):
        raise RefusedError("two columns have the same name")
    columns = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        for leaf, values in leaves(name, column):
            columns[leaf] = send_column(leaf, values)
    flags = None
    if request["flag"] is not None and request["flag"][0] in table.column_names:
        name, key = request["flag"]
        flags = [flag_of(texts.as_py(), key) for texts in table.column(name)]
    return {"rows": table.num_rows, "columns": columns, "flags": flags}
