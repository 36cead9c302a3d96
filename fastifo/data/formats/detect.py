"""The format of a file that is named without its kind."""

from pathlib import Path

from fastifo.data.formats.hdf5 import HDF5
from fastifo.utils.files import check_regular

HDF5_SIGNATURE, ZIP_SIGNATURE = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"


def kind_of(path: Path) -> str:
    """The kind of spec that reads the file: d4rl, minari, robomimic or npz; empty for a pack.

    Files whose name ends in .fastifo are packs, whatever they contain.

    Raises ValueError naming the file if it is an HDF5 file in none of the layouts.
    """
    if path.suffix == ".fastifo":
        return ""
    try:
        check_regular(path)  # opening a pipe would wait
        with open(path, "rb") as file:
            start = file.read(len(HDF5_SIGNATURE))
    except (OSError, ValueError):
        return ""  # reported by the reader of packs
    if start.startswith(ZIP_SIGNATURE):
        return "npz"
    if start != HDF5_SIGNATURE:
        return ""
    content = HDF5(path)
    layouts = {
        "d4rl": content.has("observations"),
        "minari": any(name.startswith("episode_") for name in content.children("")),
        "robomimic": bool(content.children("data")),
    }
    kind = next((kind for kind, matches in layouts.items() if matches), None)
    if kind is not None:
        return kind
    raise content.error(
        "an HDF5 file whose layout is unknown; name it with d4rl:, minari: or robomimic: before "
        f"the path; found {', '.join(sorted(content.children(''))[:12]) or 'no objects'}"
    )
