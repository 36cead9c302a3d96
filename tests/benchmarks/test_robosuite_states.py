"""robosuite's own demonstrations, replayed from the states of the simulator."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import fastifo
from fastifo.envs.backends.robosuite_env import RobosuiteEnv, is_installed
from fastifo.envs.experts import load_expert
from fastifo.envs.spec import as_spec

needs_robosuite = pytest.mark.skipif(
    not is_installed(), reason="needs robosuite, which is optional"
)
pytestmark = pytest.mark.filterwarnings("default")

Demo = dict[str, NDArray[Any]]


def play(task: str, seed: int) -> Demo:
    """States before each action, actions and observations of the scripted expert, and some more."""
    env, expert = RobosuiteEnv(as_spec(f"robosuite/{task}")), load_expert(f"robosuite/{task}")
    demo: dict[str, list[Any]] = {"states": [], "actions": [], "obs": []}
    obs, more = env.reset(seed), 3
    while more:
        action = expert.act_rows(torch.from_numpy(obs)[None], None)[0].numpy()
        demo["states"].append(env.env.sim.get_state().flatten())
        demo["actions"].append(action)
        demo["obs"].append(obs)
        obs, _, terminated, _, _ = env.step(action.astype(np.float64))
        more -= terminated
    env.close()
    return {name: np.stack(values) for name, values in demo.items()}


def write(path: Path, demos: list[Demo], task: str = "Lift", version: str = "1.5.1") -> None:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env"], data.attrs["repository_version"] = task, version
        data.attrs["env_info"] = json.dumps({"env_name": task, "robots": "Panda"})
        for number, demo in zip((2, 10, 1), demos, strict=False):
            group = data.create_group(f"demo_{number}")
            group.attrs["model_file"] = "<mujoco/>"
            group["states"], group["actions"] = demo["states"], demo["actions"]


@pytest.mark.slow
@needs_robosuite
def test_replayed_observations_are_those_that_were_seen(tmp_path: Path) -> None:
    demos = [play("Lift", seed) for seed in (1, 2, 3)]
    path = tmp_path / "demo.hdf5"
    write(path, demos)
    dataset = fastifo.load(f"robosuite:{path}", progress=False)
    assert (dataset.env_id, dataset.env_kwargs) == ("robosuite/Lift", {})
    background = dataset.background
    assert background.num_episodes == 3
    for index, demo in enumerate((demos[2], demos[0], demos[1])):  # sorted by number
        part = background.take([index])
        count = len(part.obs)
        assert count < len(demo["obs"])  # cut at success
        # Observations of a step are from its last substep but one, 2 ms earlier.
        np.testing.assert_allclose(part.obs, demo["obs"][:count], atol=5e-3)
        assert part.action is not None
        np.testing.assert_allclose(part.action.numpy(), demo["actions"][: count - 1], atol=1e-6)
        assert part.terminal.tolist() == [False] * (count - 2) + [True]
        assert part.reward is not None
        assert part.reward.tolist() == [0.0] * (count - 2) + [1.0]
    old = fastifo.load(f"robosuite:{path},object_layout=1.4,episodes=1", progress=False)
    assert old.env_kwargs == {"object_layout": "1.4"}
    assert old.background.num_episodes == 1
    other = fastifo.load(f"robosuite:{path},dones=timeout,episodes=1", progress=False)
    assert other.env_kwargs == {"success_terminal": False}
    assert (int(other.background.terminal.sum()), int(other.background.timeout.sum())) == (0, 1)
    first = background.obs[: len(old.background.obs)]
    assert torch.equal(old.background.obs[:, 7:10], -first[:, 7:10])
    # A version whose controller was another: observations only, which is enough for an expert.
    write(path, demos[:1], version="1.0.0")
    human = fastifo.load(f"robosuite:{path}", progress=False)
    assert human.background.action is None
    assert human.notes() == [
        "actions dropped because an older robosuite's controller reads them differently: 1"
    ]
    new = tmp_path / "new.hdf5"
    write(new, demos[1:])
    both = fastifo.load(
        expert=f"robosuite:{path}",
        background=f"robosuite:{new}",
        progress=False,
    )
    assert both.expert is not None
    assert both.expert.terminal[-1]


@pytest.mark.slow
@needs_robosuite
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "Lifts"}, "robosuite has no environment 'Lifts'; did you mean 'robosuite/Lift'"),
        (
            {"task": "PickPlaceCan"},
            "a.hdf5: data/demo_2: robosuite/PickPlaceCan: expected a state of shape",
        ),
        ({"states": np.zeros((1, 32))}, "data/demo_2/states: expected two or more finite rows"),
        ({"states": np.full((3, 32), np.nan)}, "expected two or more finite rows"),
        ({"actions": np.zeros((2, 7))}, r"data/demo_2/actions: expected \(3, 7\), found \(2, 7\)"),
    ],
)
def test_an_unsuitable_file_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    demo = {"states": np.zeros((3, 32)), "actions": np.zeros((3, 7))}
    demo["states"][:, [4, 19]] = 1.0
    task = change.pop("task", "Lift")
    write(tmp_path / "a.hdf5", [demo | change], task)
    with pytest.raises(ValueError, match=message):
        fastifo.load(f"robosuite:{tmp_path / 'a.hdf5'}", progress=False)


def test_an_unknown_option_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5", [{"states": np.zeros((3, 32)), "actions": np.zeros((3, 7))}])
    with pytest.raises(ValueError, match="unknown option 'filter=x'; known: episodes, keys, obj"):
        fastifo.load(f"robosuite:{tmp_path / 'a.hdf5'},filter=x")


def test_a_file_without_observations_says_how_to_read_it(tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5", [{"states": np.zeros((3, 32)), "actions": np.zeros((3, 7))}])
    for spec in (f"robomimic:{tmp_path / 'a.hdf5'}", tmp_path / "a.hdf5"):
        with pytest.raises(ValueError, match="no observations; with robosuite installed, robosuit"):
            fastifo.load(spec)
