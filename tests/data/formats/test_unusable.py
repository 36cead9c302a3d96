"""Unusable episodes are dropped and counted; columns that nobody needs may be missing."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import fastifo
from data.formats.files import assert_same, episodes, write_d4rl, write_minari, write_robomimic

DROPPED = "episodes dropped for damaged or missing values"


def minari_file(path: Path) -> h5py.File:
    return h5py.File(path / "data/main_data.hdf5", "a")


def too_few_obs(group: h5py.Group) -> None:
    rows = group["observations"][:-1]
    del group["observations"]
    group["observations"] = rows


def too_few_actions(group: h5py.Group) -> None:
    rows = group["actions"][:-1]
    del group["actions"]
    group["actions"] = rows


def no_rewards(group: h5py.Group) -> None:
    del group["rewards"]


def wider(group: h5py.Group) -> None:
    rows = group["observations"][()]
    del group["observations"]
    group["observations"] = np.concatenate([rows, rows], 1)


def nan_obs(group: h5py.Group) -> None:
    group["observations"][2, 1] = np.nan


def infinite_action(group: h5py.Group) -> None:
    group["actions"][0, 0] = np.inf


def empty(group: h5py.Group) -> None:
    for name in ("observations", "actions", "rewards", "terminations", "truncations"):
        rows = group[name][: name == "observations"]
        del group[name]
        group[name] = rows


FAULTS = (
    too_few_obs, too_few_actions, no_rewards, wider, nan_obs, infinite_action, empty,
)  # fmt: skip


@pytest.mark.parametrize("harm", FAULTS, ids=lambda harm: harm.__name__)
def test_unusable_episodes_of_minari_are_dropped_up_to_half(tmp_path: Path, harm: Any) -> None:
    parts = episodes(6)
    write_minari(tmp_path / "a", parts)
    spec = f"minari:{tmp_path / 'a'}"
    with minari_file(tmp_path / "a") as file:
        harm(file["episode_0"])
        harm(file["episode_4"])
    dataset = fastifo.load(spec)
    assert_same(dataset.background, [parts[i] for i in (1, 2, 3, 5)])
    assert dataset.info["notes"][DROPPED] == 2
    assert f"{DROPPED}: 2" in dataset.summary()
    selected = fastifo.load(f"{spec},episodes=4")
    assert_same(selected.background, parts[1:4])
    assert selected.info["notes"][DROPPED] == 1
    with minari_file(tmp_path / "a") as file:
        harm(file["episode_1"])
        harm(file["episode_5"])
    if harm in (no_rewards, wider):  # then the others are the unusual ones
        kept = fastifo.load(spec).background
        assert kept.num_episodes in (4, 6)
        return
    with pytest.raises(
        ValueError, match=r"main_data\.hdf5: .*\(4 of 6 episodes are unusable; skip"
    ):
        fastifo.load(spec)


@pytest.mark.parametrize("next_obs", [True, False])
def test_unusable_demonstrations_are_dropped(tmp_path: Path, next_obs: bool) -> None:
    parts = episodes(6)
    write_robomimic(tmp_path / "a.hdf5", parts, next_obs=next_obs)
    whole = fastifo.load(f"robomimic:{tmp_path / 'a.hdf5'}").background
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        del file["data/demo_2/dones"]
        file["data/demo_3/obs/object"][0, 0] = np.nan
        rows = file["data/demo_5/actions"][:0]
        del file["data/demo_5/actions"]
        file["data/demo_5/actions"] = rows
    dataset = fastifo.load(f"robomimic:{tmp_path / 'a.hdf5'}")
    assert dataset.info["notes"][DROPPED] == 3
    assert dataset.background == whole.take([0, 1, 4])


@pytest.mark.parametrize("column", ["observations", "next_observations", "actions"])
def test_an_episode_of_a_flat_file_with_damaged_values_is_dropped(
    tmp_path: Path, column: str
) -> None:
    parts = episodes()
    key, rows = ("action", "actions") if column == "actions" else ("obs", column)
    stored = np.concatenate(
        [p[key][slice(None) if key == "action" else slice(1, None)] for p in parts]
    )
    if column == "observations":
        stored = np.concatenate([p["obs"][:-1] for p in parts])
    stored = stored.copy()
    stored[2 if column == "next_observations" else 1, 0] = np.nan  # of the first episode
    write_d4rl(tmp_path / "a.hdf5", parts, **{rows: stored})
    dataset = fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}")
    assert_same(dataset.background, parts[1:])
    assert dataset.info["notes"][DROPPED] == 1


def test_an_episode_behind_those_asked_for_is_not_checked(tmp_path: Path) -> None:
    parts = episodes()
    actions = np.concatenate([p["action"] for p in parts])
    actions[3:] = np.nan
    write_d4rl(tmp_path / "a.hdf5", parts, actions=actions)
    with pytest.raises(ValueError, match=r"action: expected finite.*4 of 5 episodes are unusable"):
        fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}")
    dataset = fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'},episodes=1")
    assert_same(dataset.background, parts[:1])
    assert "notes" not in dataset.info


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_rewards_that_are_not_finite_are_kept_and_counted(tmp_path: Path, value: float) -> None:
    parts = episodes()
    rewards = np.concatenate([p["reward"] for p in parts])
    rewards[[2, 7]] = value
    write_d4rl(tmp_path / "a.hdf5", parts, rewards=rewards)
    dataset = fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}")
    assert dataset.background.reward is not None
    np.testing.assert_array_equal(dataset.background.reward.numpy(), rewards)
    assert dataset.info["notes"] == {"rewards that are not finite or exceed 1e8": 2}
    small: dict[str, Any] = {"num_updates": 2, "hidden_sizes": (8,), "progress": False}
    assert fastifo.train("bc", dataset, **small).updates_done == 2
    if not np.isfinite(value):
        with pytest.raises(ValueError, match="learns from the background's rewards; some are nan"):
            fastifo.train("iql", dataset, **small)


@pytest.mark.parametrize("kind", ["d4rl", "minari", "robomimic"])
@pytest.mark.parametrize("missing", [("rewards",), ("ends",), ("rewards", "ends", "actions")])
def test_columns_that_are_not_needed_may_be_missing(
    tmp_path: Path, kind: str, missing: tuple[str, ...]
) -> None:
    parts = episodes()
    path = tmp_path / "a"
    writers: dict[str, Any] = {
        "d4rl": write_d4rl, "minari": write_minari, "robomimic": write_robomimic,
    }  # fmt: skip
    writers[kind](path, parts)
    ends = {"d4rl": ["terminals"], "minari": ["terminations", "truncations"],
            "robomimic": ["dones"]}[kind]  # fmt: skip
    names = [name for each in missing for name in (ends if each == "ends" else [each])]
    with h5py.File(path / "data/main_data.hdf5" if kind == "minari" else path, "a") as file:
        groups = {"d4rl": [file], "minari": list(file.values())}.get(kind)
        for group in groups or list(file["data"].values()):
            for name in names:
                del group[name]
    dataset = fastifo.load(f"{kind}:{path}", env_id="none")
    assert dataset.background.obs_dim == 4
    assert dataset.background.num_episodes == 5
    assert (dataset.background.reward is None) == ("rewards" in missing)
    assert (dataset.background.action is None) == ("actions" in missing)
    if "ends" in missing:
        assert not dataset.background.terminal.any()
        counted = [note for note in dataset.notes() if "counted as time limits" in note]
        assert [note.rpartition(": ")[2] for note in counted] == ["2" if kind == "d4rl" else "5"]
    small: dict[str, Any] = {"num_updates": 2, "hidden_sizes": (8,), "progress": False}
    if "actions" in missing:
        with pytest.raises(ValueError, match="bc needs the background's actions"):
            fastifo.train("bc", dataset, **small)
    else:
        fastifo.train("bc", dataset, **small)
    if "rewards" in missing:
        with pytest.raises(ValueError, match="iql needs the background's rewards"):
            fastifo.train("iql", dataset, **small)


def test_an_expert_needs_observations_only(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for i in range(3):
            file[f"data/demo_{i}/obs/object"] = np.random.default_rng(i).normal(size=(9, 4))
    write_d4rl(tmp_path / "b.hdf5", episodes())
    dataset = fastifo.load(
        expert=f"robomimic:{tmp_path / 'a.hdf5'}", background=f"d4rl:{tmp_path / 'b.hdf5'}"
    )
    assert dataset.expert is not None
    assert dataset.expert.lengths.tolist() == [8, 8, 8]
    assert dataset.notes() == [
        "expert, ends of episodes counted as time limits, since the file has no dones: 3",
        "expert, transitions dropped for lack of a next observation: 3",
    ]


def test_bounds_of_actions_do_not_matter_to_a_file_without_actions(tmp_path: Path) -> None:
    write_d4rl(tmp_path / "a.hdf5", episodes())
    write_d4rl(tmp_path / "b.hdf5", episodes())
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        del file["actions"]
    for low, high in ((-2, 2), ([-2, -2], [2, 2])):
        dataset = fastifo.load(
            expert=f"d4rl:{tmp_path / 'a.hdf5'}", background=f"d4rl:{tmp_path / 'b.hdf5'}",
            action_low=low, action_high=high,
        )  # fmt: skip
        assert dataset.expert is not None
        assert dataset.action_high is not None
        assert dataset.action_high.tolist() == [2, 2]
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file.attrs.update({"action_low": [-2.0, -2.0], "action_high": [2.0, 2.0]})
    assert fastifo.load(tmp_path / "a.hdf5").background.action is None


def test_names_in_a_mask_are_read_whatever_they_are(tmp_path: Path) -> None:
    parts = episodes(4)
    write_robomimic(tmp_path / "a.hdf5", parts)
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file.move("data/demo_2", "data/episode 7")
        file["mask/odd"] = np.array([b"episode 7", b"demo_0"])
        file["mask/text"] = np.array(["demo_3"], dtype=h5py.string_dtype())
        file["mask/wrong"] = np.array([b"demo_0", b"demo_2", b"nobody"])
    path = f"robomimic:{tmp_path / 'a.hdf5'}"
    assert_same(fastifo.load(f"{path},filter=odd").background, [parts[0], parts[2]])
    assert_same(fastifo.load(f"{path},filter=text").background, [parts[3]])
    assert fastifo.load(path).background.num_episodes == 4
    with pytest.raises(ValueError, match=r"mask/wrong: .*found 2 of 3 that are none: 'demo_2', 'n"):
        fastifo.load(f"{path},filter=wrong")


def test_an_empty_mask_and_frames_as_observations_are_named(tmp_path: Path) -> None:
    write_robomimic(tmp_path / "a.hdf5", episodes())
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file["mask/none"] = np.array([], "S8")
    with pytest.raises(ValueError, match="mask/none: expected names of groups in data, found none"):
        fastifo.load(f"robomimic:{tmp_path / 'a.hdf5'},filter=none")
    write_minari(tmp_path / "b", episodes())
    with minari_file(tmp_path / "b") as file:
        for group in file.values():
            rows = len(group["observations"])
            del group["observations"]
            group["observations"] = np.zeros((rows, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"expected a number or a vector in each row, found shape"):
        fastifo.load(f"minari:{tmp_path / 'b'}")


@pytest.mark.parametrize(("dones", "terminal"), [("terminal", 4), ("timeout", 0)])
def test_the_ends_of_demonstrations_can_be_stated(
    tmp_path: Path, dones: str, terminal: int
) -> None:
    write_robomimic(tmp_path / "a.hdf5", episodes(4))
    dataset = fastifo.load(f"robomimic:{tmp_path / 'a.hdf5'},dones={dones}")
    assert int(dataset.background.terminal.sum()) == terminal


def test_the_description_of_a_robomimic_environment_is_kept(tmp_path: Path) -> None:
    write_robomimic(tmp_path / "a.hdf5", episodes())
    dataset = fastifo.load(f"robomimic:{tmp_path / 'a.hdf5'}")
    assert dataset.info["env_args"] == {"env_name": "Lift"}
    dataset.save(tmp_path / "a.fastifo")
    assert fastifo.load(tmp_path / "a.fastifo").info == json.loads(json.dumps(dict(dataset.info)))
