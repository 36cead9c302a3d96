"""The `.npz` files that keep the returns of evaluated policies."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.utils.files import UNREADABLE, check_regular, parse_json, write_atomic
from fastifo.utils.schema import Map, Optional, check_schema

REMEDY = "delete it and evaluate again; if a sweep wrote it, run the sweep again"
HEADER = {
    "env_id": str,
    "deterministic": bool,
    "versions": Map(str),
    "num_updates": Optional(int),
    "reference": Optional(([float], None)),
    "seeds": Optional([int]),
    "settings": Optional([str]),
}


def write_returns(
    path: Path, header: Mapping[str, Any], columns: Mapping[str, NDArray[Any]]
) -> None:
    """Writes a file for `read_returns`, atomically and without pickle.

    header: values of the names in HEADER.  columns: returns, lengths and perhaps successes.
    Raises OSError if it cannot be written; the old file is kept then.
    """
    content: dict[str, Any] = {"header": np.array(json.dumps(header)), **columns}

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, **content)

    write_atomic(path, write)


def read_returns(path: Path) -> dict[str, Any]:
    """The fields of `Returns` in a file.

    Raises FileNotFoundError if there is none; ValueError if it is damaged or something else.
    """
    try:
        check_regular(path)
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            text = str(file["header"])
            returns, lengths = file["returns"], file["lengths"]
            successes = file["successes"] if "successes" in file.files else None
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except UNREADABLE as error:
        raise ValueError(
            f"{path}: expected the returns of a run, found a damaged or unrelated file "
            f"({error!r}); {REMEDY}"
        ) from None
    header = parse_json(text, path, REMEDY)
    check_schema(header, HEADER, path, REMEDY, "header")
    kinds = returns.dtype.kind + lengths.dtype.kind
    if returns.ndim != 2 or returns.shape != lengths.shape or kinds != "fi":
        raise ValueError(
            f"{path}: returns, lengths: expected numbers [members, episodes], found "
            f"{returns.dtype} {list(returns.shape)} and {lengths.dtype} "
            f"{list(lengths.shape)}; {REMEDY}"
        )
    if successes is not None and (successes.shape, successes.dtype.kind) != (returns.shape, "f"):
        raise ValueError(
            f"{path}: successes: expected numbers {list(returns.shape)}, found "
            f"{successes.dtype} {list(successes.shape)}; {REMEDY}"
        )
    fields = {name: header[name] for name in HEADER if name in header}
    if fields.get("reference") is not None:
        low, high = fields["reference"]
        fields["reference"] = (float(low), float(high))
    for name in ("seeds", "settings"):
        fields[name] = tuple(fields.get(name, ()))
        if len(fields[name]) not in (0, len(returns)):
            raise ValueError(
                f"{path}: {name}: expected {len(returns)}, one for each member, found "
                f"{len(fields[name])}; {REMEDY}"
            )
    return {"returns": returns, "lengths": lengths, "successes": successes, **fields}
