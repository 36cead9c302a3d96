"""Actions of Discrete spaces are refused, whatever their type; whole numbers can be continuous."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import fastifo
from data.formats.files import episodes, write_d4rl, write_minari, write_robomimic
from data.formats.test_actions import env_actions, space, write


@pytest.mark.parametrize("kind", ["d4rl", "npz", "minari", "robomimic"])
@pytest.mark.parametrize(
    "actions",
    [
        lambda rng, t: rng.integers(0, 5, (t, 2)),
        lambda rng, t: rng.integers(0, 2, (t, 2)),
        lambda rng, t: rng.integers(0, 5, t),
        lambda rng, t: rng.integers(0, 2, (t, 3)).astype(bool),
        lambda rng, t: rng.integers(0, 3, (t, 1)).astype(np.uint8),
    ],
    ids=["MultiDiscrete", "MultiDiscrete 0 1", "Discrete", "MultiBinary", "Discrete uint8"],
)
def test_actions_of_discrete_spaces_are_refused(tmp_path: Path, kind: str, actions: Any) -> None:
    rng, parts = np.random.default_rng(0), episodes()
    for part in parts:
        part["action"] = actions(rng, len(part["action"]))
    if kind == "robomimic":  # its writer stores float64
        write_robomimic(tmp_path / "a-robomimic", episodes())
        with h5py.File(tmp_path / "a-robomimic", "a") as file:
            for i, part in enumerate(parts):
                del file[f"data/demo_{i}/actions"]
                file[f"data/demo_{i}/actions"] = part["action"]
        spec = f"robomimic:{tmp_path / 'a-robomimic'}"
    else:
        spec = write(kind, tmp_path, parts)
    with pytest.raises(ValueError, match="actions are whole numbers of a Discrete space; only"):
        fastifo.load(spec)


@pytest.mark.parametrize(
    "action",
    [[0, 1, 2], [[0], [1], [1]], [[0, 1], [1, 0], [0, 0]], [[True], [False], [True]]],
    ids=["Discrete", "column", "MultiBinary", "booleans"],
)
@pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["NumPy", "torch"])
def test_integers_in_memory_are_refused(action: Any, make: Any) -> None:
    episode = {"obs": np.zeros((4, 3)), "action": make(action)}
    with pytest.raises(ValueError, match=r"'action'\]: actions are whole numbers .* pass floats"):
        fastifo.Dataset.from_episodes([episode])


def test_integers_that_are_minus_one_to_one_in_memory_are_continuous() -> None:
    episode = {"obs": np.zeros((4, 3)), "action": np.array([[-1], [1], [0]])}
    assert len(fastifo.Dataset.from_episodes([episode])) == 1


@pytest.mark.parametrize("kind", ["Discrete", "MultiDiscrete", "MultiBinary"])
def test_a_discrete_space_in_the_metadata_is_refused(tmp_path: Path, kind: str) -> None:
    write_minari(tmp_path / "a", episodes())
    (tmp_path / "a/data/metadata.json").write_text(space(type=kind))
    with pytest.raises(ValueError, match=rf"only continuous actions are supported; found {kind}"):
        fastifo.load(f"minari:{tmp_path / 'a'}")


def test_discrete_actions_of_d3rlpy_are_refused(tmp_path: Path) -> None:
    write_d4rl(tmp_path / "a.h5", episodes())
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["discrete_action"] = True
    with pytest.raises(ValueError, match="discrete_action: actions are whole numbers"):
        fastifo.load(f"d4rl:{tmp_path / 'a.h5'}")


def test_signed_whole_numbers_are_continuous(tmp_path: Path) -> None:
    parts = episodes()
    for part in parts:
        part["action"] = np.sign(part["action"]).astype(np.int8)
    dataset = fastifo.load(write("npz", tmp_path, parts))
    np.testing.assert_array_equal(
        env_actions(dataset), np.concatenate([p["action"] for p in parts])
    )


@pytest.mark.parametrize("action", [[0, 3, 1], [[0], [4], [1]], np.array([[7, 0]] * 3)])
def test_integers_in_memory_that_number_actions_are_refused(action: Any) -> None:
    with pytest.raises(ValueError, match=r"background\[0\]\['action'\]: actions are whole numbers"):
        fastifo.Dataset.from_episodes([{"obs": np.zeros((4, 2)), "action": action}])


@pytest.mark.parametrize("kind", ["d4rl", "npz", "minari", "robomimic"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("way", ["numbers", "one-hot", "bits"])
def test_whole_numbers_of_a_float_type_are_refused_until_bounds_are_given(
    tmp_path: Path, kind: str, dtype: str, way: str
) -> None:
    parts = episodes()
    for part in parts:
        number = np.arange(len(part["action"])) % 4
        part["action"] = {
            "numbers": number[:, None], "one-hot": np.eye(4)[number], "bits": number[:, None] % 2
        }[way].astype(dtype)  # fmt: skip
    spec = write(kind, tmp_path, parts)
    with pytest.raises(
        ValueError, match=r"whole numbers of a Discrete space.*found 0, 1"
    ) as caught:
        fastifo.load(spec)
    assert spec.partition(":")[2] in str(caught.value)
    dataset = fastifo.load(f"{spec},action_low=0,action_high=3")
    np.testing.assert_allclose(
        env_actions(dataset), np.concatenate([p["action"] for p in parts]), atol=1e-6
    )


def test_equal_whole_numbers_are_continuous(tmp_path: Path) -> None:
    for value in (0.0, 1.0):
        parts = episodes()
        for part in parts:
            part["action"] = np.full((len(part["reward"]), 2), value, np.float32)
        assert fastifo.load(write("d4rl", tmp_path, parts)).action_low is None
