"""Minari's HDF5 datasets, read without the `minari` package.

Layout: `<id>/data/main_data.hdf5` with groups `episode_<k>`, each of T + 1 `observations`, T
`actions`, `rewards`, `terminations` and `truncations`; `metadata.json` beside it. Observations of a
Dict space are groups with one dataset a key.
"""

import json
import os
from pathlib import Path

from fastifo.data.formats.assemble import Foreign, from_whole, side_by_side
from fastifo.data.formats.hdf5 import HDF5
from fastifo.utils.files import read_json


def read(path: Path, keys: tuple[str, ...] = ()) -> Foreign:
    """path: the dataset's folder, its `data` folder, or main_data.hdf5.  keys: of a Dict space."""
    file = HDF5(_main_file(path))
    episodes = sorted(
        (name for name in file.children("") if name.startswith("episode_")), key=_number
    )
    if not episodes:
        raise file.fail("expected groups episode_0, episode_1, ..., found none")
    names = []
    for name in episodes:
        inside = file.children(f"{name}/observations")
        if inside and not keys:
            raise file.fail(
                f"observations are a dictionary of {', '.join(sorted(inside))}; choose some with "
                f",keys={'+'.join(sorted(inside)[:2])}"
            )
        names += [f"{name}/observations/{key}" for key in keys] or [f"{name}/observations"]
        names += [f"{name}/{column}" for column in ("actions", "rewards", "terminations")]
    found = iter(file.numbers(names))
    obs, action, reward, terminal = [], [], [], []
    for name in episodes:
        parts = [next(found) for _ in range(max(1, len(keys)))]
        obs.append(side_by_side(file.path, name, parts))
        action.append(next(found))
        reward.append(next(found))
        ended = next(found)
        terminal.append(bool(ended.size) and bool(ended.ravel()[-1]))
    return from_whole(file.path, obs, terminal, action, reward, _env_id(file.path))


def _number(name: str) -> tuple[int, str]:
    digits = name.rpartition("_")[2]
    return (int(digits) if digits.isdigit() and len(digits) < 12 else -1, name)


def _main_file(path: Path) -> Path:
    tried = [path, path / "main_data.hdf5", path / "data" / "main_data.hdf5"]
    if not path.exists() and not path.is_absolute():
        tried.append(root() / path / "data" / "main_data.hdf5")
    found = next((p for p in tried if p.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"minari:{path}: expected a dataset's folder, or its id below {root()}, found neither; "
            f"download it there with Minari (`minari download {path}`) or set "
            "MINARI_DATASETS_PATH"
        )
    return found


def root() -> Path:
    """Where Minari keeps its datasets."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


def _env_id(path: Path) -> str | None:
    """From the metadata, where it is there and readable."""
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
    found = spec.get("id") if isinstance(spec, dict) else None
    return found if isinstance(found, str) else None
