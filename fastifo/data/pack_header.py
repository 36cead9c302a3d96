"""The JSON header of a pack, checked field by field."""

from pathlib import Path
from typing import Any

from fastifo.utils.files import parse_json
from fastifo.utils.schema import Count, Map, Optional, check_schema

FORMAT = "fastifo-dataset"
VERSION = 3
VERSION_WITHOUT_FRAMES = 2  # of a pack without images, which older versions of fastifo read too
NDIMS = {"start": (1,), "terminal": (1,), "timeout": (1,), "obs": (2,), "action": (2, 3)} | {
    "reward": (1, 2), "success": (1,), "action_low": (1,), "action_high": (1,),
}  # fmt: skip
SCHEMA = {
    "env_id": (str, None),
    "info": dict,
    "env_kwargs": Optional((dict, None)),  # missing in older packs, as are reference_returns
    "reference_returns": Optional(([float], None)),
    "obs_keys": Optional([str]),
    "columns": Map({"dtype": str, "shape": [Count(0)], "offset": Count(0)}),
    "bytes": Count(0),
    "block": Count(1),
    "crc32": [Count(0)],
    "frames": Optional(Map({"shape": [Count(1)], "offset": Count(0), "crc32": str})),
    "frame_bytes": Optional(Count(0)),
}
COLUMNS = dict.fromkeys(
    ("background", "expert"), ("obs", "start", "terminal", "timeout", "action", "reward", "success")
)


def parse_header(text: bytes, path: Path) -> dict[str, Any]:
    """The header of a file.  Raises ValueError naming a field that is wrong."""
    remedy = "build it again"
    header: dict[str, Any] = parse_json(text, path, remedy)
    check_schema(header, {"format": str, "version": Count(0)}, path, remedy, "header")
    if header["format"] != FORMAT or header["version"] > VERSION:
        raise ValueError(
            f"{path}: expected {FORMAT} version {VERSION} or older, found {header['format'][:60]} "
            f"version {header['version']}; update fastifo"
        )
    check_schema(header, SCHEMA, path, remedy, "header")
    for name, column in header["columns"].items():
        part, _, field = name.rpartition(".")
        known = ("action_low", "action_high") if part == "" else COLUMNS.get(part, ())
        if field not in known or len(column["shape"]) not in NDIMS[field]:
            raise ValueError(
                f"{path}: header.columns: expected columns of a dataset, found {name[:60]!r} with "
                f"{len(column['shape'])} dimensions; {remedy}"
            )
    return header
