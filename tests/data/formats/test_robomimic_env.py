"""The environment that a robomimic file of robosuite names."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import fastifo
from data.formats.test_robosuite import env_args
from fastifo.data.formats.robosuite import LOW_DIM, OBJECT_WIDTHS, other_layout

WIDTHS = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}


def write(path: Path, content: Any, *, width: int = 14, keys: tuple[str, ...] = LOW_DIM) -> None:
    """A file with two demonstrations of 5 steps that end in success."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        if content is not None:
            data.attrs["env_args"] = content if isinstance(content, str) else json.dumps(content)
        for i in range(2):
            demo = data.create_group(f"demo_{i}")
            demo["actions"] = rng.uniform(-1, 1, (5, 7))
            demo["rewards"] = demo["dones"] = np.arange(5) == 4
            for key in keys:
                rows = rng.standard_normal((6, WIDTHS.get(key, width)))
                demo[f"obs/{key}"], demo[f"next_obs/{key}"] = rows[:-1], rows[1:]


@pytest.mark.parametrize("task", ["Lift", "PickPlaceCan", "NutAssemblySquare"])
@pytest.mark.parametrize("version", [None, "1.4.1", "1.5.1"])
def test_the_environment_has_the_layout_of_the_file(
    task: str, version: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.hdf5"
    write(path, env_args(version, task), width=OBJECT_WIDTHS[task])
    dataset = fastifo.load(f"robomimic:{path}")
    assert dataset.env_id == f"robosuite/{task}"
    is_new = version == "1.5.1"
    assert dataset.env_kwargs == ({} if is_new else {"object_layout": "1.4"})
    assert dataset.obs_keys == ()
    for layout in ("1.4", "1.5"):
        other = fastifo.load(f"robomimic:{path},object_layout={layout}")
        assert other.env_kwargs == ({} if layout == "1.5" else {"object_layout": "1.4"})
        expected = dataset.background.obs.numpy().copy()
        if (layout == "1.5") != is_new:
            width = OBJECT_WIDTHS[task]
            expected[:, :width] = other_layout(task, expected[:, :width])
        assert torch.equal(other.background.obs, torch.from_numpy(expected))


@pytest.mark.parametrize(("dones", "terminal"), [("terminal", True), ("timeout", False)])
def test_success_ends_the_task_in_file_and_environment_alike(
    dones: str, terminal: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.hdf5"
    write(path, env_args("1.5.1"), width=10)
    dataset = fastifo.load(f"robomimic:{path},dones={dones}")
    assert dataset.env_kwargs == ({} if terminal else {"success_terminal": False})
    assert int(dataset.background.terminal.sum()) == (2 if terminal else 0)
    assert fastifo.load(f"robomimic:{path}").env_kwargs == {}
    write(path, None)
    assert fastifo.load(f"robomimic:{path},dones={dones}").env_kwargs == {}


def test_keys_and_settings_of_the_file_are_those_of_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write(path, env_args("1.5.1", "PickPlaceCan", control_freq=10))
    dataset = fastifo.load(f"robomimic:{path},keys=robot0_eef_pos+object")
    assert dataset.env_kwargs == {"control_freq": 10}
    assert dataset.obs_keys == ("robot0_eef_pos", "object")
    write(path, env_args("1.5.1"), keys=LOW_DIM[1:])
    assert fastifo.load(f"robomimic:{path}").obs_keys == LOW_DIM[1:]


@pytest.mark.parametrize(
    "content",
    [
        None,
        "not JSON",
        {"env_name": "Ant", "type": 2, "env_kwargs": {}},
        {"env_name": "Lift"},
    ],
)
def test_without_robosuites_description_there_is_no_environment(
    content: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.hdf5"
    write(path, content)
    dataset = fastifo.load(f"robomimic:{path}")
    assert (dataset.env_id, dataset.env_kwargs, dataset.obs_keys) == (None, {}, ())
    assert dataset.notes() == []
    with pytest.raises(ValueError, match=r"a\.hdf5: object_layout: expected env_args of a robosui"):
        fastifo.load(f"robomimic:{path},object_layout=1.5")


@pytest.mark.parametrize(
    "change", [{"env_version": "new"}, {"env_kwargs": 3}, {"env_kwargs": {"controller_configs": 1}}]
)
def test_a_description_that_is_not_understood_is_noted(
    change: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "a.hdf5"
    write(path, env_args("1.4.1") | change)
    dataset = fastifo.load(f"robomimic:{path}")
    assert dataset.env_id is None
    assert dataset.notes() == [
        "environment that is not named, since env_args are not understood: 1"
    ]


def test_a_layout_that_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write(path, env_args("1.4.1", "Stack"), width=23)
    with pytest.raises(ValueError, match=r"a\.hdf5: robosuite/Stack: object: expected a task"):
        fastifo.load(f"robomimic:{path},object_layout=1.5")
    with pytest.raises(ValueError, match=r"object_layout: expected 1\.4 or 1\.5, found '1\.3'"):
        fastifo.load(f"robomimic:{path},object_layout=1.3")


def test_expert_and_background_of_different_layouts_are_refused(tmp_path: Path) -> None:
    old, new = tmp_path / "old.hdf5", tmp_path / "new.hdf5"
    write(old, env_args("1.4.1", "PickPlaceCan"))
    write(new, env_args("1.5.1", "PickPlaceCan"))
    with pytest.raises(ValueError, match=r"layout of robosuite 1\.4.*1\.5.*object_layout=1\.5"):
        fastifo.load(expert=f"robomimic:{old}", background=f"robomimic:{new}")
    dataset = fastifo.load(
        expert=f"robomimic:{old},object_layout=1.5", background=f"robomimic:{new}"
    )
    assert dataset.env_kwargs == {}
    both = fastifo.load(expert=f"robomimic:{old}", background=f"robomimic:{old}")
    assert both.env_kwargs == {"object_layout": "1.4"}
