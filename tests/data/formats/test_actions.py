"""Action bounds of files: read where they are stated, asked for where they are needed."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import fastifo
from data.formats.files import episodes, write_d4rl, write_minari, write_robomimic

WRITERS: dict[str, Any] = {"d4rl": write_d4rl, "robomimic": write_robomimic, "minari": write_minari}


def wide(scale: Any = 3.0) -> list[dict[str, Any]]:
    """Episodes whose actions are within [-scale, scale]."""
    parts = episodes()
    for part in parts:
        part["action"] = (part["action"] * np.float32(scale)).astype(np.float32)
    return parts


def write(kind: str, folder: Path, parts: list[dict[str, Any]]) -> str:
    """Writes a file of the kind.  Returns its spec."""
    path = folder / f"a-{kind}"
    if kind == "npz":
        path = path.with_suffix(".npz")
        np.savez(
            path,
            obs=np.concatenate([p["obs"][:-1] for p in parts]),
            next_obs=np.concatenate([p["obs"][1:] for p in parts]),
            action=np.concatenate([p["action"] for p in parts]),
            episode_lengths=[len(p["action"]) for p in parts],
        )
    else:
        WRITERS[kind](path, parts)
    return f"{kind}:{path}"


def env_actions(dataset: fastifo.Dataset) -> np.ndarray:
    """The background's actions on the environment's scale."""
    assert dataset.background.action is not None
    action = dataset.background.action.numpy()
    if dataset.action_low is None or dataset.action_high is None:
        return np.asarray(action)
    low, high = dataset.action_low.numpy(), dataset.action_high.numpy()
    return np.asarray(low + 0.5 * (action + 1) * (high - low))


@pytest.mark.parametrize("kind", ["d4rl", "npz", "minari", "robomimic"])
def test_bounds_are_asked_for_where_actions_exceed_one(tmp_path: Path, kind: str) -> None:
    parts = wide()
    expected = np.concatenate([p["action"] for p in parts])
    spec = write(kind, tmp_path, parts)
    with pytest.raises(ValueError, match=r"outside \[-1, 1\], and the file does not") as caught:
        fastifo.load(spec)
    assert spec.partition(":")[2] in str(caught.value)
    for dataset in (
        fastifo.load(spec, action_low=-3, action_high=[3, 4]),
        fastifo.load(f"{spec},action_low=-3,action_high=3+4"),
        fastifo.load(spec, action_low=torch.tensor(-3.0), action_high=np.float64(5)),
    ):
        np.testing.assert_allclose(env_actions(dataset), expected, atol=1e-6)
        assert "actions clipped to [-1, 1]" not in dataset.info.get("notes", {})
    rows = int((np.abs(expected) > 1).any(1).sum())
    for dataset in (fastifo.load(spec, clip_actions=True), fastifo.load(f"{spec},clip=true")):
        assert dataset.info["notes"]["actions clipped to [-1, 1]"] == rows
        np.testing.assert_array_equal(env_actions(dataset), expected.clip(-1, 1))


@pytest.mark.parametrize("kind", ["d4rl", "npz", "minari", "robomimic"])
def test_few_clipped_actions_are_counted_and_more_than_a_thousandth_refused(
    tmp_path: Path, kind: str
) -> None:
    part: dict[str, Any] = {
        "obs": np.random.default_rng(0).normal(size=(2001, 4)).astype(np.float32),
        "action": np.zeros((2000, 2), np.float32),
        "reward": np.zeros(2000, np.float32),
        "terminal": True,
    }
    part["action"][[5, 77], 1] = 1.1
    part["action"][9, 0] = 1 + 5e-6  # rounding
    dataset = fastifo.load(write(kind, tmp_path, [part]))
    assert dataset.info["notes"]["actions clipped to [-1, 1]"] == 2
    assert float(env_actions(dataset).max()) == 1.0
    part["action"][100, 1] = -1.1
    for path in tmp_path.rglob("*"):
        path.unlink(missing_ok=True) if path.is_file() else None
    (tmp_path / "again").mkdir()
    with pytest.raises(ValueError, match="3 of 2000 are outside"):
        fastifo.load(write(kind, tmp_path / "again", [part]))


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (-1, None, "expected both or neither"),
        ([-1, -1, -1], 1, "expected one number or 2"),
        (2, -2, "expected finite low < high"),
        (float("nan"), 1, "expected finite low < high"),
    ],
)
def test_bounds_that_do_not_fit_are_refused(
    tmp_path: Path, low: Any, high: Any, message: str
) -> None:
    write_d4rl(tmp_path / "a.hdf5", wide())
    with pytest.raises(ValueError, match=rf"a\.hdf5: action_low and action_high: {message}"):
        fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}", action_low=low, action_high=high)


def test_bounds_are_refused_for_packs(tmp_path: Path) -> None:
    fastifo.Dataset.from_episodes(episodes()).save(tmp_path / "a.fastifo")
    with pytest.raises(ValueError, match=r"a\.fastifo.*in \[-1, 1\] already"):
        fastifo.load(tmp_path / "a.fastifo", action_low=-2, action_high=2)
    with pytest.raises(TypeError, match="action_low: expected a number or an array"):
        fastifo.load(tmp_path / "a.fastifo", action_low="low", action_high=2)


@pytest.mark.parametrize(
    ("low", "high"),
    [(-2, 2), (-0.4, 0.4), ([0, -7], [1, 7]), ([-1, -3], [1, 5]), (-100, 100), (-1, 1)],
)
@pytest.mark.parametrize("env_kwargs", [{}, {"max_episode_steps": 70, "reset_noise_scale": 0.0}])
def test_a_written_d4rl_file_is_read_back_as_the_same_dataset(
    tmp_path: Path, low: Any, high: Any, env_kwargs: dict[str, Any]
) -> None:
    parts = episodes()
    lower, upper = (np.broadcast_to(np.float32(x), (2,)) for x in (low, high))
    for part in parts:
        part["action"] = lower + 0.5 * (part["action"] + 1) * (upper - lower)
    first = fastifo.Dataset.from_episodes(
        parts, env_id="Hopper-v4", action_low=low, action_high=high
    )
    object.__setattr__(first, "env_kwargs", env_kwargs)
    first.save_d4rl(tmp_path / "a.hdf5")
    again = fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}")
    assert again.env_id == "Hopper-v4"
    assert again.env_kwargs == env_kwargs
    assert "notes" not in again.info
    for name, column in first.background.columns().items():
        value = getattr(again.background, name)
        if name == "action":
            torch.testing.assert_close(value, column, rtol=0, atol=2e-6)
        else:
            assert torch.equal(value, column), name
    np.testing.assert_allclose(
        env_actions(again), np.concatenate([p["action"] for p in parts]), rtol=1e-6, atol=1e-6
    )
    if low != -1:
        for name in ("action_low", "action_high"):
            assert torch.equal(getattr(again, name), getattr(first, name))


@pytest.mark.parametrize(
    "attributes",
    [
        {"action_low": "x"},
        {"action_low": -3.0},
        {"action_low": [1.0] * 3, "action_high": 2.0},
    ],
)
def test_damaged_bounds_in_a_file_are_refused(tmp_path: Path, attributes: dict[str, Any]) -> None:
    write_d4rl(tmp_path / "a.hdf5", episodes())
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file.attrs.update(attributes)
    with pytest.raises(ValueError, match=r"a\.hdf5: the action space of the file: expected"):
        fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}")


def space(**changes: Any) -> str:
    box = {"type": "Box", "dtype": "float32", "shape": [2], "low": [-3.0, -3.0], "high": [3.0, 4.0]}
    return json.dumps({"action_space": json.dumps(box | changes)})


@pytest.mark.parametrize("changes", [{}, {"low": -3.0}, {"low": [[-3.0, -3.0]]}])
def test_the_bounds_of_minari_come_from_its_metadata(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    parts = wide()
    write_minari(tmp_path / "a", parts)
    (tmp_path / "a/data/metadata.json").write_text(space(**changes))
    dataset = fastifo.load(f"minari:{tmp_path / 'a'}")
    assert dataset.action_low is not None
    assert dataset.action_high is not None
    assert (dataset.action_low.tolist(), dataset.action_high.tolist()) == ([-3, -3], [3, 4])
    expected = np.concatenate([p["action"] for p in parts])
    np.testing.assert_allclose(env_actions(dataset), expected, atol=1e-6)
    assert "from -3 to 3, -3 to 4" in dataset.summary()
    (tmp_path / "a/data/metadata.json").write_text(space(low=[-1, -1], high=[1, 1]))
    with pytest.raises(ValueError, match=r"23 of 25 are outside \[-1, 1\]: they range"):
        fastifo.load(f"minari:{tmp_path / 'a'}")
    (tmp_path / "a/data/metadata.json").write_text(space(low=-np.inf, high=np.inf))
    with pytest.raises(ValueError, match="does not state their bounds"):
        fastifo.load(f"minari:{tmp_path / 'a'}")


@pytest.mark.parametrize("kind", ["d4rl", "npz", "minari", "robomimic"])
def test_actions_that_are_one_number_a_step_have_width_1(tmp_path: Path, kind: str) -> None:
    parts = wide(1.0)
    for part in parts:
        part["action"] = part["action"][:, 0]
    action = fastifo.load(write(kind, tmp_path, parts)).background.action
    assert action is not None
    assert action[:, 0].tolist() == np.concatenate([p["action"] for p in parts]).tolist()


def test_an_expert_of_another_scale_is_mapped_to_the_background(tmp_path: Path) -> None:
    parts = wide(1.5)
    expert = write("npz", tmp_path, parts)
    background = fastifo.Dataset.from_episodes(wide(2.0), action_low=-2, action_high=2)
    background.save(tmp_path / "b.fastifo")
    dataset = fastifo.load(
        expert=f"{expert},action_low=-1.5,action_high=1.5", background=tmp_path / "b.fastifo"
    )
    assert dataset.expert is not None
    assert dataset.expert.action is not None
    expected = np.concatenate([p["action"] for p in parts]) / 2
    np.testing.assert_allclose(dataset.expert.action.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    "names",
    [
        ("action_low", "action_high"), ("action_space_low", "action_space_high"),
        ("min_action", "max_action"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["attributes", "arrays", "npz"])
def test_bounds_under_other_names_and_in_arrays_are_read(
    tmp_path: Path, names: tuple[str, str], where: str
) -> None:
    parts = wide(0.4)
    expected = np.concatenate([p["action"] for p in parts])
    bounds = dict(zip(names, (np.full(2, -0.5, "f4"), np.full(2, 0.5, "f4")), strict=True))
    spec = write("npz" if where == "npz" else "d4rl", tmp_path, parts)
    path = Path(spec.partition(":")[2])
    if where == "npz":
        with np.load(path) as file:
            columns: dict[str, Any] = dict(file) | bounds
        np.savez(path, **columns)
    else:
        with h5py.File(path, "r+") as file:
            (file.attrs if where == "attributes" else file).update(bounds)
    dataset = fastifo.load(spec)
    assert dataset.action_low is not None
    assert dataset.action_low.tolist() == [-0.5, -0.5]
    np.testing.assert_allclose(env_actions(dataset), expected, atol=1e-6)
    assert float(dataset.background.action.abs().max()) > 0.75  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "space",
    [
        {"low": [-2, -2], "high": [2, 2]}, {"type": "Box"}, {"type": 1}, ["Box"], "{not json", 3,
        {"type": "Box", "low": "a", "high": "b"}, {"type": "Box", "low": [-2, -2]},
    ],
    ids=str,
)  # fmt: skip
def test_an_action_space_that_cannot_be_read_is_asked_about(tmp_path: Path, space: Any) -> None:
    spec = write("minari", tmp_path, episodes())
    metadata = next(tmp_path.rglob("metadata.json"))
    content = json.loads(metadata.read_text())
    for value in (space, json.dumps(space)):
        metadata.write_text(json.dumps(content | {"action_space": value}))
        with pytest.raises(ValueError, match=r"action_space: expected .*pass action_low and"):
            fastifo.load(spec)
        dataset = fastifo.load(spec, action_low=-2, action_high=2)
        assert dataset.action_low is not None


@pytest.mark.parametrize("bound", [1e6, 1e10, 3e38])
def test_bounds_that_leave_no_precision_are_refused(tmp_path: Path, bound: float) -> None:
    spec = write("d4rl", tmp_path, episodes())
    with pytest.raises(ValueError, match="expected bounds of at most 100000"):
        fastifo.load(spec, action_low=-bound, action_high=bound)
