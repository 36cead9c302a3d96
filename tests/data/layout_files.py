"""Writers of the file layouts in `layouts.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

LENGTHS = (50, 70, 30, 90, 60)
TERMINAL = (True, False, False, True, False)
ACTION_DIM = 2
Arrays = dict[str, Any]


@dataclass(frozen=True)
class Truth:
    """Episodes: observations (episode, step), actions within the bounds, rewards, terminals."""

    obs: list[np.ndarray]  # [T + 1, 2] each
    action: list[np.ndarray]  # [T, A] each
    reward: list[np.ndarray]  # [T] each
    terminal: list[bool]

    @property
    def last(self) -> np.ndarray:
        """[N], last transition of each episode."""
        return np.concatenate([np.arange(len(r)) == len(r) - 1 for r in self.reward])

    @property
    def task(self) -> np.ndarray:
        """[N], transitions that end the task."""
        ends = np.repeat(self.terminal, [len(r) for r in self.reward])
        return np.asarray(self.last & ends)

    def flat(self, *, next_obs: bool = False) -> Arrays:
        """D4RL's columns without ends."""
        columns = {
            "observations": np.concatenate([o[:-1] for o in self.obs]),
            "actions": np.concatenate(self.action),
            "rewards": np.concatenate(self.reward),
        }
        if next_obs:
            columns["next_observations"] = np.concatenate([o[1:] for o in self.obs])
        return columns


def make(
    lengths: tuple[int, ...] = LENGTHS,
    terminal: tuple[bool, ...] = TERMINAL,
    low: float = -1.0,
    high: float = 1.0,
) -> Truth:
    rng = np.random.default_rng(0)
    obs = [np.stack([np.full(t + 1, e), np.arange(t + 1)], 1) for e, t in enumerate(lengths)]
    return Truth(
        [o.astype(np.float32) for o in obs],
        [rng.uniform(low, high, (t, ACTION_DIM)).astype(np.float32) for t in lengths],
        [rng.normal(size=t).astype(np.float32) for t in lengths],
        list(terminal),
    )


def write_hdf5(path: Path, columns: Arrays, **attributes: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, value in columns.items():
            file.create_dataset(name, data=value, compression="gzip" if np.ndim(value) else None)
        file.attrs.update(attributes)


def write_npz(path: Path, columns: Arrays) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, **columns)


def flat_file(
    store: Callable[[Path, Arrays], None],
    ends: Callable[[Truth], Arrays],
    *,
    next_obs: bool = False,
    without: tuple[str, ...] = (),
) -> Callable[[Path, Truth], None]:
    """A writer of flat columns with the given ends."""

    def write(path: Path, truth: Truth) -> None:
        columns = truth.flat(next_obs=next_obs) | ends(truth)
        store(path, {name: v for name, v in columns.items() if name not in without})

    return write


def d4rl_ends(truth: Truth) -> Arrays:
    return {"terminals": truth.task, "timeouts": truth.last & ~truth.task}


def starts(truth: Truth) -> np.ndarray:
    return np.concatenate([[True], truth.last[:-1]])


def numbers(truth: Truth) -> np.ndarray:
    return np.repeat(np.arange(len(truth.obs)) + 7, [len(r) for r in truth.reward])


def whole_rows(truth: Truth) -> Arrays:
    """OGBench: T + 1 rows for T transitions; the last row's action means nothing."""
    last = [np.arange(len(o)) == len(o) - 1 for o in truth.obs]
    junk = np.full((1, ACTION_DIM), 0.5, np.float32)
    return {
        "observations": np.concatenate(truth.obs),
        "actions": np.concatenate([np.concatenate([a, junk]) for a in truth.action]),
        "terminals": np.concatenate(last).astype(np.float32),
    }


def ogbench(path: Path, truth: Truth) -> None:
    write_npz(path, whole_rows(truth))


def ogbench_masks(path: Path, truth: Truth) -> None:
    columns = whole_rows(truth)
    masks = np.ones(len(columns["terminals"]), np.float32)
    masks[10:20] = 0  # a goal that the trajectory passes
    write_npz(path, columns | {"masks": masks})


def same_step_reset(path: Path, truth: Truth) -> None:
    columns = truth.flat() | d4rl_ends(truth)
    obs = columns["observations"]
    write_hdf5(path, columns | {"next_observations": np.concatenate([obs[1:], obs[-1:]])})


def next_step_reset(path: Path, truth: Truth) -> None:
    """A row from each final observation to the next episode's first, with reward 0."""
    columns = truth.flat(next_obs=True) | d4rl_ends(truth)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in columns}
    first = 0
    for e, obs in enumerate(truth.obs):
        for name, column in columns.items():
            parts[name].append(column[first : first + len(obs) - 1])
        first += len(obs) - 1
        if e + 1 < len(truth.obs):
            extra = {"observations": obs[-1:], "next_observations": truth.obs[e + 1][:1]}
            for name, column in columns.items():
                parts[name].append(extra.get(name, np.zeros((1, *column.shape[1:]), column.dtype)))
    write_hdf5(path, {name: np.concatenate(part) for name, part in parts.items()})


def sparse(path: Path, truth: Truth) -> None:
    columns = truth.flat() | d4rl_ends(truth)
    obs = np.zeros((len(truth.last), 150_000), np.float32)
    obs[:, :2] = columns["observations"]
    write_hdf5(path, columns | {"observations": obs})


def linked(path: Path, truth: Truth) -> None:
    write_hdf5(path, {f"raw/{k}": v for k, v in (truth.flat() | d4rl_ends(truth)).items()})
    with h5py.File(path, "a") as file:
        for name in list(file["raw"]):
            file[name] = h5py.SoftLink(f"/raw/{name}")


def no_rewards(store: Callable[[Path, Arrays], None]) -> Callable[[Path, Truth], None]:
    def write(path: Path, truth: Truth) -> None:
        store(path, truth.flat() | d4rl_ends(truth) | {"rewards": np.full(len(truth.last), np.nan)})

    return write


def own_file(path: Path, truth: Truth) -> None:
    import fastifo

    fastifo.Dataset.from_episodes(
        [
            {"obs": o, "action": a, "reward": r, "terminal": t}
            for o, a, r, t in zip(
                truth.obs, truth.action, truth.reward, truth.terminal, strict=True
            )
        ],
        action_low=[-2, -3],
        action_high=[2, 3],
    ).save_d4rl(path)


BOX = {"type": "Box", "dtype": "float32", "shape": [2], "low": [-2.0, -3.0], "high": [2.0, 3.0]}


def minari(
    *, damage: int = -1, keyed: bool = False, **metadata: Any
) -> Callable[[Path, Truth], None]:
    """A writer of Minari's layout.  damage: an episode that lacks its final observation."""

    def write(path: Path, truth: Truth) -> None:
        path.mkdir()
        (path / "metadata.json").write_text(
            json.dumps({k: json.dumps(v) for k, v in metadata.items()})
        )
        with h5py.File(path / "main_data.hdf5", "w") as file:
            for e, obs in enumerate(truth.obs):
                group = file.create_group(f"episode_{e}")
                rows = obs[:-1] if e == damage else obs
                if keyed:
                    group["observations/b"], group["observations/a"] = rows[:, :1], rows[:, 1]
                else:
                    group["observations"] = rows
                group["actions"], group["rewards"] = truth.action[e], truth.reward[e]
                last = np.arange(len(truth.reward[e])) == len(truth.reward[e]) - 1
                group["terminations"] = last & truth.terminal[e]
                group["truncations"] = last & (not truth.terminal[e])

    return write


def robomimic(*, full: bool = True, mask: tuple[str, ...] = ()) -> Callable[[Path, Truth], None]:
    """A writer of robomimic's layout.

    full: with rewards, dones and next_obs.  mask: names of a filter; one of them is unusual.
    """

    def write(path: Path, truth: Truth) -> None:
        with h5py.File(path, "w") as file:
            for e, obs in enumerate(truth.obs):
                demo = file.create_group(f"data/{'take' if mask and e == 3 else 'demo'}_{e}")
                demo["actions"], demo["states"] = truth.action[e], np.zeros((len(obs) - 1, 9))
                demo["obs/object"] = obs[:-1]
                if full:
                    last = np.arange(len(truth.reward[e])) == len(truth.reward[e]) - 1
                    demo["rewards"], demo["dones"] = truth.reward[e], last & truth.terminal[e]
                    demo["next_obs/object"] = obs[1:]
            if mask:
                file["mask/some"] = np.array([name.encode() for name in mask])

    return write
