"""Several files as one background, columns by name, and files with damaged episodes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastifo
from data.formats.files import assert_same, episodes, write_d4rl, write_robomimic
from fastifo.data.combine import LEFT_OUT


def test_several_files_are_one_background_in_their_order(tmp_path: Path) -> None:
    parts = episodes(7)
    paths = [tmp_path / "a.hdf5", tmp_path / "b.hdf5", tmp_path / "c.fastifo"]
    write_d4rl(paths[0], parts[:3])
    write_d4rl(paths[1], parts[3:5])
    fastifo.Dataset.from_episodes(parts[5:]).save(paths[2])
    dataset = fastifo.load([f"d4rl:{paths[0]}", paths[1], str(paths[2])])
    assert_same(dataset.background, parts)
    assert dataset.info["spec"] == [f"d4rl:{paths[0]}", str(paths[1]), str(paths[2])]

    both = fastifo.load(expert=[paths[1], paths[2]], background=(paths[0], paths[1]))
    assert both.expert is not None
    assert both.expert.num_episodes == 4
    assert both.expert.reward is None
    assert_same(both.background, parts[:5])


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    a, b = tmp_path / "a.hdf5", tmp_path / "b.hdf5"
    write_d4rl(a, episodes())
    with pytest.raises(ValueError, match=r"a\.hdf5: expected different files, found this one twic"):
        fastifo.load([a, a])
    with pytest.raises(ValueError, match="expected one or more files or specs, found an empty"):
        fastifo.load(background=[])
    wide = [{**p, "obs": np.repeat(p["obs"], 2, 1)} for p in episodes()]
    write_d4rl(b, wide)
    with pytest.raises(ValueError, match=r"b\.hdf5: observations of width 8 do not fit .* file, 4"):
        fastifo.load([a, b])

    fastifo.Dataset.from_episodes(episodes(), env_id="Hopper-v4").save(tmp_path / "c.fastifo")
    with pytest.raises(ValueError, match=r"c\.fastifo: environment Hopper-v4 do not fit .*None"):
        fastifo.load([a, tmp_path / "c.fastifo"])
    named = fastifo.load([a, tmp_path / "c.fastifo"], env_id="Walker2d-v4")
    assert (len(named), named.env_id) == (10, "Walker2d-v4")


def test_actions_of_several_files_are_on_one_scale(tmp_path: Path) -> None:
    raw = [{**p, "action": 2 * p["action"]} for p in episodes()]
    bounded: dict[str, Any] = {"action_low": -2.0, "action_high": 2.0}
    fastifo.Dataset.from_episodes(raw[:2], **bounded).save(tmp_path / "a.fastifo")
    four: dict[str, Any] = {"action_low": -4.0, "action_high": 4.0}
    fastifo.Dataset.from_episodes(raw[2:], **four).save(tmp_path / "b.fastifo")
    dataset = fastifo.load([tmp_path / "a.fastifo", tmp_path / "b.fastifo"])
    action = np.concatenate([p["action"] for p in episodes()])
    assert dataset.background.action is not None
    np.testing.assert_allclose(dataset.background.action.numpy(), action, rtol=0, atol=1e-6)
    fastifo.Dataset.from_episodes(raw, **bounded).save(tmp_path / "c.fastifo")
    fastifo.Dataset.from_episodes(episodes()).save(tmp_path / "d.fastifo")
    with pytest.raises(ValueError, match=r"c\.fastifo: its actions are outside the bounds of the"):
        fastifo.load([tmp_path / "d.fastifo", tmp_path / "c.fastifo"])


def test_columns_that_one_file_lacks_are_dropped_and_counted(tmp_path: Path) -> None:
    write_d4rl(tmp_path / "a.hdf5", episodes())
    write_d4rl(tmp_path / "b.hdf5", episodes(3), rewards=None)
    dataset = fastifo.load([tmp_path / "a.hdf5", tmp_path / "b.hdf5"])
    assert dataset.background.reward is None
    assert dataset.notes() == ["files without rewards, so that those of the others are dropped: 1"]


def test_the_actions_are_the_column_that_is_named(tmp_path: Path) -> None:
    parts = episodes()
    absolute = np.concatenate([p["action"] for p in parts])
    write_d4rl(tmp_path / "a.hdf5", parts, actions=0.1 * absolute, actions_abs=absolute)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("", {"action_key": "actions_abs"}),
        (",action_key=actions_abs", {}),
    ]
    for spec, arguments in cases:
        dataset = fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}{spec}", **arguments)
        assert_same(dataset.background, parts)
    with pytest.raises(ValueError, match=r"a\.hdf5: expected a dataset 'act', found actions"):
        fastifo.load(tmp_path / "a.hdf5", action_key="act")

    write_robomimic(tmp_path / "b.hdf5", parts)
    with pytest.raises(
        ValueError, match=r"b\.hdf5: action_key: expected one of actions, .*found x"
    ):
        fastifo.load(f"robomimic:{tmp_path / 'b.hdf5'},action_key=x")
    fastifo.Dataset.from_episodes(parts).save(tmp_path / "c.fastifo")
    with pytest.raises(ValueError, match="action_key: expected a file of another format"):
        fastifo.load(tmp_path / "c.fastifo", action_key="x")
    with pytest.raises(ValueError, match="action_key: not an option of minari files"):
        fastifo.load(f"minari:{tmp_path}", action_key="x")


def test_skip_bad_drops_any_share_of_the_episodes(tmp_path: Path) -> None:
    parts = episodes()
    damaged = [
        {**p, "obs": np.full_like(p["obs"], np.nan)} if i else p for i, p in enumerate(parts)
    ]
    write_d4rl(tmp_path / "a.hdf5", damaged)
    with pytest.raises(ValueError, match=r"4 of 5 episodes are unusable; skip_bad=True"):
        fastifo.load(tmp_path / "a.hdf5")
    cases: list[tuple[str, dict[str, Any]]] = [("", {"skip_bad": True}), (",skip_bad=true", {})]
    for spec, arguments in cases:
        dataset = fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}{spec}", **arguments)
        assert_same(dataset.background, parts[:1])
        assert "episodes dropped for damaged or missing values: 4" in dataset.notes()

    (tmp_path / "b.hdf5").write_bytes((tmp_path / "a.hdf5").read_bytes()[:900])
    files: list[str | Path] = [tmp_path / "a.hdf5", f"d4rl:{tmp_path / 'b.hdf5'}"]
    with pytest.raises(ValueError, match=r"b\.hdf5"):
        fastifo.load([f"{files[0]},skip_bad=true", files[1]])
    dataset = fastifo.load(files, skip_bad=True)
    assert dataset.info["notes"][LEFT_OUT] == 1
    with pytest.raises(ValueError, match=r"b\.hdf5"):
        fastifo.load([files[1]], skip_bad=True)
    with pytest.raises(FileNotFoundError, match=r"missing"):
        fastifo.load([files[0], f"d4rl:{tmp_path / 'missing.hdf5'}"], skip_bad=True)
