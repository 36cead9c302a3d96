"""Minari's HDF5 datasets, read without the `minari` package.

Layout: `<id>/data/main_data.hdf5` with groups `episode_<k>`, each with T + 1 `observations` and T
`actions`, `rewards`, `terminations` and `truncations`; `metadata.json` is in the same folder.
Observations of a Dict space are groups with a dataset for each key.
"""

import json
import os
from pathlib import Path

from fastifo.data.formats.assemble import (
    Floats,
    ReadResult,
    concatenate_columns,
    from_whole_episodes,
)
from fastifo.data.formats.hdf5 import HDF5
from fastifo.utils.files import home_folder, read_json


def read(path: Path, keys: tuple[str, ...] = ()) -> ReadResult:
    """All episodes of a Minari dataset.

    path: its folder, its `data` folder, main_data.hdf5, or its id below `root()`.
    keys: observations of a Dict space to concatenate, in this order.
    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.
    """
    file = HDF5(_main_file(path))
    episodes = sorted(
        (name for name in file.children("") if name.startswith("episode_")), key=_number
    )
    if not episodes:
        raise file.error("expected groups episode_0, episode_1, ..., found none")
    names = []
    for name in episodes:
        known_keys = file.children(f"{name}/observations")
        if known_keys and not keys:
            raise file.error(
                f"observations are a dictionary of {', '.join(sorted(known_keys))}; choose some "
                f"with ,keys={'+'.join(sorted(known_keys)[:2])}"
            )
        names += [f"{name}/observations/{key}" for key in keys] or [f"{name}/observations"]
        names += [f"{name}/{column}" for column in ("actions", "rewards", "terminations")]
    columns = iter(file.numbers(names))
    obs: list[Floats] = []
    action: list[Floats] = []
    reward: list[Floats] = []
    terminal: list[bool] = []
    for name in episodes:
        parts = [next(columns) for _ in range(max(1, len(keys)))]
        obs.append(concatenate_columns(file.path, name, parts))
        action.append(next(columns))
        reward.append(next(columns))
        terminations = next(columns)
        terminal.append(bool(terminations.size) and bool(terminations.ravel()[-1]))
    return from_whole_episodes(file.path, obs, terminal, action, reward, _env_id(file.path))


def _number(name: str) -> tuple[int, str]:
    """Sorts episode_10 after episode_2; names without a number come first."""
    digits = name.rpartition("_")[2]
    return (int(digits) if digits.isdigit() and len(digits) < 12 else -1, name)


def _main_file(path: Path) -> Path:
    candidates = [path, path / "main_data.hdf5", path / "data" / "main_data.hdf5"]
    if not path.exists() and not path.is_absolute():
        candidates.append(root() / path / "data" / "main_data.hdf5")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"minari:{path}: expected a dataset's folder, or its id below {root()}, found neither; "
        f"download it there with Minari (`minari download {path}`) or set MINARI_DATASETS_PATH"
    )


def root() -> Path:
    """The folder in which Minari stores its datasets."""
    folder = os.environ.get("MINARI_DATASETS_PATH")
    return Path(folder) if folder else home_folder("MINARI_DATASETS_PATH") / ".minari" / "datasets"


def _env_id(path: Path) -> str | None:
    """The environment's name in metadata.json; None if the file is missing or has no name."""
    metadata = path.with_name("metadata.json")
    if not metadata.is_file():
        return None
    spec = read_json(metadata)
    spec = spec.get("env_spec") if isinstance(spec, dict) else None
    if isinstance(spec, str):
        try:
            spec = json.loads(spec)
        except json.JSONDecodeError:
            return None
    name = spec.get("id") if isinstance(spec, dict) else None
    return name if isinstance(name, str) else None
