"""Writers of tables and of other projects' layouts, with pyarrow, h5py and NumPy alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.layout_files import Truth, numbers, whole_rows, write_npz

Writer = Callable[[Path, Truth], None]


def lists(rows: np.ndarray, *, fixed: bool = True) -> pa.Array:
    """Rows as a column of lists."""
    flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
    if fixed:
        return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1])
    return pa.ListArray.from_arrays(offsets, flat)


def lerobot(version: int = 3, *, ends: str = "", cameras: int = 0) -> Writer:
    """A writer of LeRobot's folders.

    version: 3 has all episodes in two files, 2 has a file for each.
    ends: "next": `next.terminated` and `next.truncated`; "done": `next.done`; empty: neither.
    """

    def write(path: Path, truth: Truth) -> None:
        obs, index = np.concatenate([o[:-1] for o in truth.obs]), numbers(truth) - 7
        count = len(index)
        frame = np.concatenate([np.arange(len(r)) for r in truth.reward])
        columns: dict[str, Any] = {
            "observation.state": lists(obs[:, :1]),
            "observation.environment_state": lists(obs[:, 1:], fixed=version == 3),
            "action": lists(np.concatenate(truth.action)),
            "next.reward": np.concatenate(truth.reward),
            "timestamp": frame / 10.0,
            "frame_index": frame,
            "episode_index": index,
            "index": np.arange(count),
            "task_index": np.zeros(count, np.int64),
        }
        if ends == "next":
            columns |= {"next.terminated": truth.task, "next.truncated": truth.last & ~truth.task}
        elif ends == "done":
            columns["next.done"] = truth.last
        table = pa.table(columns)
        features = {n: {"dtype": "float32", "shape": [1]} for n in columns}
        features |= {f"observation.images.{i}": {"dtype": "video"} for i in range(cameras)}
        info = {
            "codebase_version": f"v{version}.0", "robot_type": "arm", "fps": 10,
            "total_episodes": len(truth.obs), "total_frames": count, "features": features,
        }  # fmt: skip
        (path / "meta").mkdir(parents=True)
        (path / "meta/info.json").write_text(json.dumps(info))
        (path / "README.md").write_text("---\nlicense: apache-2.0\ntags: [x]\n---\n# A card\n")
        data = path / "data/chunk-000"
        data.mkdir(parents=True)
        if version == 3:  # an episode lies in both files, and the second has the lower name
            pq.write_table(table.slice(130), data / "file-000.parquet")
            pq.write_table(table.slice(0, 130), data / "file-001.parquet")
        else:
            for e in range(len(truth.obs)):
                part = table.filter(pa.array(index == e))
                pq.write_table(part, data / f"episode_{e:06d}.parquet")

    return write


def minari_arrow(
    data_format: str, *, keyed: bool = False, nested: bool = False, damage: int = -1
) -> Writer:
    """A writer of Minari's Arrow or Parquet folders.

    keyed: observations are a dictionary.  nested: with another one in it.
    damage: an episode that is cut short.
    """

    def write(path: Path, truth: Truth) -> None:
        for e, obs in enumerate(truth.obs):
            last = np.arange(len(obs) - 1) == len(obs) - 2
            column = lists(obs)
            if keyed:
                inner = lists(obs[:, :1])
                if nested:
                    inner = pa.StructArray.from_arrays([inner], ["x"])
                column = pa.StructArray.from_arrays([pa.array(obs[:, 1]), inner], ["b", "a"])
            table = pa.table(
                {
                    "observations": column,
                    "actions": lists(np.pad(truth.action[e], ((0, 1), (0, 0)))),
                    "rewards": np.pad(truth.reward[e], (0, 1)).astype("f8"),
                    "terminations": np.pad(last & truth.terminal[e], (0, 1)),
                    "truncations": np.pad(last & (not truth.terminal[e]), (0, 1)),
                }
            )
            folder = path / f"data/{e}"
            folder.mkdir(parents=True)
            file = folder / f"part-0.{data_format}"
            if data_format == "parquet":
                pq.write_table(table, file)
            else:
                with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
                    out.write_table(table)
            (folder / "metadata.json").write_text(json.dumps({"id": e}))
            if e == damage:
                file.write_bytes(file.read_bytes()[:200])
        box = {"type": "Box", "low": [-1, -1], "high": [1, 1], "shape": [2], "dtype": "float32"}
        spec = json.dumps({"id": "Pendulum-v1", "max_episode_steps": 90})
        metadata = {"data_format": data_format, "action_space": json.dumps(box), "env_spec": spec}
        (path / "data/metadata.json").write_text(json.dumps(metadata))

    return write


def d3rlpy(*, flags: bool = True) -> Writer:
    def write(path: Path, truth: Truth) -> None:
        with h5py.File(path, "w") as file:
            file["columns"] = ["observations", "actions", "rewards", "terminated"]
            file["num_episodes"], file["version"] = len(truth.obs), "2.1"
            for e, obs in enumerate(truth.obs):
                file[f"observations_{e}"], file[f"actions_{e}"] = obs[:-1], truth.action[e]
                file[f"rewards_{e}"] = truth.reward[e][:, None]
                if flags:
                    file[f"terminated_{e}"] = truth.terminal[e]

    return write


def maniskill(*, keyed: bool = False, goes_on: bool = False) -> Writer:
    """A writer of ManiSkill's trajectories.  goes_on: a success inside a trajectory."""

    def write(path: Path, truth: Truth) -> None:
        with h5py.File(path, "w") as file:
            for e, obs in enumerate(truth.obs):
                group = file.create_group(f"traj_{e}")
                if keyed:
                    group["obs/agent/qpos"], group["obs/extra/goal"] = obs[:, :1], obs[:, 1]
                    group["obs/sensor_data/base/rgb"] = np.zeros((len(obs), 2, 2, 3), np.uint8)
                else:
                    group["obs"] = obs
                group["actions"], group["rewards"] = truth.action[e], truth.reward[e]
                last = np.arange(len(obs) - 1) == len(obs) - 2
                success = last & truth.terminal[e]
                success[3] |= goes_on
                group["terminated"] = group["success"] = success
                group["truncated"] = last & (not truth.terminal[e])
                group["env_states/actors/cube"] = np.zeros((len(obs), 13))
        env = {"env_id": "PickCube-v1", "max_episode_steps": 100, "env_kwargs": {}}
        path.with_suffix(".json").write_text(json.dumps({"env_info": env, "episodes": []}))

    return write


def infos(truth: Truth, *, stated: bool = True) -> list[list[str]]:
    """Encoded infos, as jsonpickle writes them."""
    result = []
    for reward, ended in zip(truth.reward, truth.terminal, strict=True):
        rows: list[dict[str, Any]] = [{"x": {"py/object": "os.system"}} for _ in reward]
        if stated:
            rows[-1]["TimeLimit.truncated"] = not ended
        result.append([json.dumps(row) for row in rows])
    return result


def imitation(*, stated: bool = True, shards: int = 1) -> Writer:
    """A writer of imitation's folders, all trajectories complete."""

    def write(path: Path, truth: Truth) -> None:
        table = pa.table(
            {
                "obs": pa.array([rows.tolist() for rows in truth.obs]),
                "acts": pa.array([rows.tolist() for rows in truth.action]),
                "infos": pa.array(infos(truth, stated=stated)),
                "terminal": pa.array([True] * len(truth.obs)),
                "rews": pa.array([rows.tolist() for rows in truth.reward]),
            }
        )
        path.mkdir()
        names = [f"data-{i:05d}-of-{shards:05d}.arrow" for i in range(shards)]
        cuts = np.linspace(0, len(table), shards + 1).astype(int)
        for name, begin, end in zip(names, cuts[:-1], cuts[1:], strict=True):
            file = str(path / name)
            with pa.OSFile(file, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
                out.write_table(table.slice(begin, end - begin))
        state = {"_data_files": [{"filename": name} for name in names]}
        (path / "state.json").write_text(json.dumps(state))
        (path / "dataset_info.json").write_text(json.dumps({"license": "mit"}))

    return write


def imitation_npz(path: Path, truth: Truth) -> None:
    columns = {
        "obs": np.concatenate(truth.obs),
        "acts": np.concatenate(truth.action),
        "rews": np.concatenate(truth.reward),
        "infos": np.array([{} for _ in np.concatenate(truth.reward)], object),
        "terminal": np.array([True] * len(truth.obs)),
        "indices": np.cumsum([len(r) for r in truth.reward])[:-1],
    }
    write_npz(path, columns)


def table_columns(truth: Truth, *, grouped: bool = True) -> dict[str, Any]:
    """A row per step, under names of a user's own; a column of text beside them."""
    obs, action = np.concatenate([o[:-1] for o in truth.obs]), np.concatenate(truth.action)
    columns: dict[str, Any] = {"episode": numbers(truth), "who": np.array(["me"] * len(obs))}
    if grouped:
        columns |= {f"obs_{i}": obs[:, i] for i in range(2)}
        columns |= {f"action_{i + 1}": action[:, i] for i in range(2)}
    else:
        columns |= {"position": obs[:, 0], "angle": obs[:, 1], "torque[0]": action[:, 0]}
        columns["torque[1]"] = action[:, 1]
    return columns | {"reward": np.concatenate(truth.reward), "terminated": truth.task}


def csv_file(separator: str = ",", *, grouped: bool = True) -> Writer:
    def write(path: Path, truth: Truth) -> None:
        columns = table_columns(truth, grouped=grouped)
        with open(path, "w", newline="") as file:
            out = csv.writer(file, delimiter=separator)
            out.writerow(columns)
            out.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))

    return write


def parquet_file(*, grouped: bool = True, nested: bool = False) -> Writer:
    def write(path: Path, truth: Truth) -> None:
        columns = table_columns(truth, grouped=grouped)
        if nested:
            columns = {k: v for k, v in columns.items() if not k[-1].isdigit()}
            columns["obs"] = lists(np.concatenate([o[:-1] for o in truth.obs]), fixed=False)
            columns["action"] = lists(np.concatenate(truth.action))
        pq.write_table(pa.table(columns), path, row_group_size=64)

    return write


def ogbench_file(path: Path, truth: Truth) -> None:
    write_npz(
        path, whole_rows(truth) | {"qpos": np.zeros((len(whole_rows(truth)["terminals"]), 3))}
    )
