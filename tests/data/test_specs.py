"""Specs and files without a kind: commas in paths, options, and recognised layouts."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import fastifo
from data.formats.files import assert_same, episodes, write_d4rl, write_minari, write_robomimic


@pytest.mark.parametrize(
    "name",
    ["lr=0.1,seed=3/a.hdf5", "a,b.hdf5", "episodes=2,x/a.hdf5", "x,episodes=2", ",a", "a.hdf5,"],
)
def test_paths_may_contain_commas(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    write_d4rl(path, episodes())
    assert_same(fastifo.load(f"d4rl:{path}").background, episodes())
    assert fastifo.load(f"d4rl:{path},episodes=3").background.num_episodes == 3
    with pytest.raises(
        ValueError, match="unknown option 'size=3'; known: episodes, ends, terminals, dones"
    ):
        fastifo.load(f"d4rl:{path},size=3")
    if "/" in name:
        expected = f"{name}x: expected an HDF5 file, found nothing there"
        with pytest.raises(FileNotFoundError, match=expected):
            fastifo.load(f"d4rl:{path}x,episodes=3")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("episodes=0", "episodes: expected a number, found '0'"),
        ("episodes=two", "episodes: expected a number, found 'two'"),
        ("max_steps=-1", "max_steps: expected a number"),
        ("dones=both", "dones: expected terminal or timeout, found 'both'"),
        ("clip=yes", "clip: expected true or false, found 'yes'"),
        ("action_low=low", "action_low: expected a number, or one for each dimension joined by"),
        ("keys=a", "unknown option 'keys=a'; known: episodes, ends, terminals, dones"),
        ("episodes", "unknown option 'episodes'"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, option: str, message: str) -> None:
    write_d4rl(tmp_path / "a.hdf5", episodes())
    with pytest.raises(ValueError, match=message):
        fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'},{option}")


def test_files_without_a_kind_are_recognised_by_their_content(tmp_path: Path) -> None:
    parts = episodes()
    write_d4rl(tmp_path / "a.hdf5", parts)
    write_robomimic(tmp_path / "b.h5", parts)
    write_minari(tmp_path / "c", parts)
    np.savez(
        tmp_path / "d.dat.npz",
        obs=np.concatenate([p["obs"][:-1] for p in parts]),
        next_obs=np.concatenate([p["obs"][1:] for p in parts]),
        actions=np.concatenate([p["action"] for p in parts]),
        rewards=np.concatenate([p["reward"] for p in parts]),
        episode_lengths=[len(p["action"]) for p in parts],
        terminals=np.concatenate(
            [(np.arange(len(p["action"])) == len(p["action"]) - 1) & p["terminal"] for p in parts]
        ),
    )
    for name in ("a.hdf5", "b.h5", "c/data/main_data.hdf5", "d.dat.npz"):
        assert_same(fastifo.load(tmp_path / name).background, parts)
        assert_same(fastifo.load(f"{tmp_path / name},episodes=2").background, parts[:2])
    with h5py.File(tmp_path / "e.hdf5", "w") as file:
        file["weights"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"e\.hdf5: .*layout is unknown; name it with d4rl:.*we"):
        fastifo.load(tmp_path / "e.hdf5")


def test_notes_of_both_parts_are_reported(tmp_path: Path) -> None:
    write_d4rl(tmp_path / "a.hdf5", episodes(), next_observations=None)
    spec = f"d4rl:{tmp_path / 'a.hdf5'}"
    dataset = fastifo.load(expert=spec, background=spec)
    note = "transitions dropped for lack of a next observation: 2"
    assert f"expert, {note}" in dataset.notes()
    assert f"background, {note}" in dataset.summary().splitlines()


@pytest.mark.parametrize("name", ["hopper-medium-v2", "walker2d-expert-v2", "door-human-v1"])
def test_a_d4rl_name_without_its_prefix_is_answered_with_it(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"{name}: no such file; .* is d4rl:{name}$"):
        fastifo.load(name)
