"""The format of a file or folder that is named without its kind."""

import zipfile
from pathlib import Path

from fastifo.data.formats.hdf5 import HDF5
from fastifo.data.formats.imitation import MEMBERS
from fastifo.data.formats.minari import has_arrow
from fastifo.data.pack import MAGIC
from fastifo.utils.files import UNREADABLE, check_regular

HDF5_SIGNATURE, ZIP_SIGNATURE = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
TABLES = (b"PAR1", b"ARROW1")  # signatures of Parquet and Arrow files


def kind_of(path: Path) -> str:
    """The kind of spec that reads the file or folder; empty for a pack.

    Files whose name ends in .fastifo are packs, whatever they contain. CSV files are known by their
    name, others by their content.

    Raises ValueError naming the file if its format is unknown, or the layout of an HDF5 file.
    """
    if path.suffix == ".fastifo":
        return ""
    if path.is_dir():
        return _kind_of_folder(path)
    try:
        check_regular(path)  # opening a pipe would wait
        with open(path, "rb") as file:
            start = file.read(len(HDF5_SIGNATURE))
    except (OSError, ValueError):
        return ""  # reported by the reader of packs
    return _kind_of_file(path, start)


def _kind_of_file(path: Path, start: bytes) -> str:
    if start == HDF5_SIGNATURE:
        return _kind_of_hdf5(HDF5(path))
    if start.startswith(ZIP_SIGNATURE):
        return _kind_of_npz(path)
    if start.startswith(TABLES):
        return "parquet"
    if path.suffix.lower() in (".csv", ".tsv"):
        return "csv"
    if start == MAGIC:
        return ""
    raise ValueError(
        f"{path}: expected a file of fastifo, HDF5, NumPy (.npz), CSV, Parquet or Arrow, found "
        "another format; convert it, or pass its arrays to Dataset.from_episodes"
    )


def _kind_of_folder(path: Path) -> str:
    if (path / "meta" / "info.json").is_file():
        return "lerobot"
    if (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
        return "imitation"
    data = path / "data" if (path / "data").is_dir() else path
    is_minari = (data / "main_data.hdf5").is_file() or has_arrow(data)
    return "minari" if is_minari else ""


def _kind_of_npz(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as file:
            names = {name.removesuffix(".npy") for name in file.namelist()}
    except UNREADABLE:
        names = set()
    return "imitation" if names >= set(MEMBERS) else "npz"


def _kind_of_hdf5(content: HDF5) -> str:
    names = content.children("")
    layouts = {
        "d4rl": content.has("observations"),
        "minari": any(name.startswith("episode_") for name in names),
        "d3rlpy": content.has("observations_0"),
        "maniskill": any(name.startswith("traj_") for name in names),
        "robomimic": bool(content.children("data")),
    }
    kind = next((kind for kind, matches in layouts.items() if matches), None)
    if kind is not None:
        return kind
    raise content.error(
        "an HDF5 file whose layout is unknown; name it with d4rl:, minari:, robomimic:, d3rlpy: or "
        f"maniskill: before the path; found {', '.join(sorted(names)[:12]) or 'no objects'}"
    )
