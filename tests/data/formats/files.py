"""Random episodes, and files in each format with these episodes, written with h5py only."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

import fastifo
from fastifo.data.episodes import Episodes

OBS_DIM, ACTION_DIM = 4, 2


def episodes(count: int = 5, seed: int = 0) -> list[dict[str, Any]]:
    """Episodes of 3, 4, ... steps; every other one ends in a terminal."""
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(count):
        steps = 3 + i
        parts.append(
            {
                "obs": rng.standard_normal((steps + 1, OBS_DIM)).astype(np.float32),
                "action": rng.uniform(-1, 1, (steps, ACTION_DIM)).astype(np.float32),
                "reward": rng.standard_normal(steps).astype(np.float32),
                "terminal": i % 2 == 0,
            }
        )
    return parts


def ends(parts: list[dict[str, Any]]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """D4RL's columns `terminals` and `timeouts`."""
    terminal, timeout = [], []
    for part in parts:
        last = np.arange(len(part["action"])) == len(part["action"]) - 1
        terminal.append(last & part["terminal"])
        timeout.append(last & (not part["terminal"]))
    return np.concatenate(terminal), np.concatenate(timeout)


def write_d4rl(path: Path, parts: list[dict[str, Any]], **changes: Any) -> None:
    """A D4RL file.  changes: columns to replace, or to leave out if None."""
    terminal, timeout = ends(parts)
    columns = {
        "observations": np.concatenate([p["obs"][:-1] for p in parts]),
        "next_observations": np.concatenate([p["obs"][1:] for p in parts]),
        "actions": np.concatenate([p["action"] for p in parts]),
        "rewards": np.concatenate([p["reward"] for p in parts]),
        "terminals": terminal,
        "timeouts": timeout,
    } | changes
    with h5py.File(path, "w") as file:
        for name, value in columns.items():
            if value is not None:
                file.create_dataset(name, data=value, compression="gzip")
        file["metadata/algorithm"] = b"SAC"
        file["metadata/policy/fc0/weight"] = np.zeros((3, 3), np.float32)
        file["infos/qpos"] = np.zeros((len(columns["actions"]), 2))


def write_robomimic(path: Path, parts: list[dict[str, Any]], *, next_obs: bool = True) -> None:
    """A robomimic file with two low-dimensional keys, an image key and the filter `train`."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = '{"env_name": "Lift"}'
        for i, part in enumerate(parts):
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = len(part["action"])
            last = np.arange(len(part["action"])) == len(part["action"]) - 1
            demo["actions"], demo["rewards"] = part["action"].astype("f8"), part["reward"]
            demo["dones"] = (last & part["terminal"]).astype("i8")
            demo["states"] = np.zeros((len(last), 9))
            for group, rows in (("obs", part["obs"][:-1]), ("next_obs", part["obs"][1:])):
                if group == "next_obs" and not next_obs:
                    continue
                demo[f"{group}/object"], demo[f"{group}/robot0_eef_pos"] = rows[:, :3], rows[:, 3:]
                demo[f"{group}/agentview_image"] = np.zeros((len(last), 4, 4, 3), np.uint8)
        file["mask/train"] = np.array([b"demo_3", b"demo_1"])


def write_minari(folder: Path, parts: list[dict[str, Any]], *, keyed: bool = False) -> None:
    """A Minari dataset.  keyed: observations are a dictionary."""
    (folder / "data").mkdir(parents=True)
    (folder / "data/metadata.json").write_text('{"env_spec": "{\\"id\\": \\"Hopper-v5\\"}"}')
    with h5py.File(folder / "data/main_data.hdf5", "w") as file:
        for i, part in enumerate(parts):
            group = file.create_group(f"episode_{i}")
            group.attrs["total_steps"] = len(part["action"])
            last = np.arange(len(part["action"])) == len(part["action"]) - 1
            if keyed:
                group["observations/observation"] = part["obs"][:, :3].astype("f8")
                group["observations/goal"] = part["obs"][:, 3:].astype("f8")
            else:
                group["observations"] = part["obs"].astype("f8")
            group["actions"], group["rewards"] = part["action"], part["reward"].astype("f8")
            group["terminations"] = last & part["terminal"]
            group["truncations"] = last & (not part["terminal"])
            group["infos/x"] = np.zeros(len(part["obs"]))


def assert_same(actual: Episodes, parts: list[dict[str, Any]]) -> None:
    """All columns are equal to those of the given episodes, bit for bit."""
    expected = fastifo.Dataset.from_episodes(parts, min_steps=1).background
    for name, value in expected.columns().items():
        torch.testing.assert_close(actual.columns()[name], value, rtol=0, atol=0, msg=name)


def rows_of(parts: list[dict[str, Any]], *, next_obs: bool = True) -> dict[str, Any]:
    columns = {
        "observations": np.concatenate([p["obs"][:-1] for p in parts]),
        "actions": np.concatenate([p["action"] for p in parts]),
        "rewards": np.concatenate([p["reward"] for p in parts]),
    }
    if next_obs:
        columns["next_observations"] = np.concatenate([p["obs"][1:] for p in parts])
    return columns


def write_flat(path: Path, columns: dict[str, Any]) -> str:
    """Writes a file of either format.  Returns its spec."""
    if path.suffix == ".npz":
        np.savez(path, **columns)
        return f"npz:{path}"
    with h5py.File(path, "w") as file:
        for name, value in columns.items():
            file[name] = value
    return f"d4rl:{path}"
