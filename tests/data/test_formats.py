"""Files in other programs' layouts, written here with h5py alone, against what went in."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import fastifo
from fastifo.data.episodes import Episodes

D, A = 4, 2


def episodes(count: int = 5, seed: int = 0) -> list[dict[str, Any]]:
    """T + 1 observations each; every other one ends in a terminal."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        steps = 3 + i
        found.append(
            {
                "obs": rng.standard_normal((steps + 1, D)).astype(np.float32),
                "action": rng.uniform(-1, 1, (steps, A)).astype(np.float32),
                "reward": rng.standard_normal(steps).astype(np.float32),
                "terminal": i % 2 == 0,
            }
        )
    return found


def ends(parts: list[dict[str, Any]]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """terminals and timeouts, as D4RL has them."""
    terminal, timeout = [], []
    for part in parts:
        last = np.arange(len(part["action"])) == len(part["action"]) - 1
        terminal.append(last & part["terminal"])
        timeout.append(last & (not part["terminal"]))
    return np.concatenate(terminal), np.concatenate(timeout)


def write_d4rl(path: Path, parts: list[dict[str, Any]], **changes: Any) -> None:
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


def write_robomimic(path: Path, parts: list[dict[str, Any]], *, ahead: bool = True) -> None:
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
                if group == "next_obs" and not ahead:
                    continue
                demo[f"{group}/object"], demo[f"{group}/robot0_eef_pos"] = rows[:, :3], rows[:, 3:]
                demo[f"{group}/agentview_image"] = np.zeros((len(last), 4, 4, 3), np.uint8)
        file["mask/train"] = np.array([b"demo_3", b"demo_1"])


def assert_same(found: Episodes, parts: list[dict[str, Any]]) -> None:
    expected = fastifo.Dataset.from_episodes(parts, min_steps=1).background
    for name, value in expected.columns().items():
        torch.testing.assert_close(found.columns()[name], value, rtol=0, atol=0, msg=name)


def test_d4rl(tmp_path: Path) -> None:
    parts = episodes()
    write_d4rl(tmp_path / "hopper_medium-v2.hdf5", parts)
    found = fastifo.load(f"d4rl:{tmp_path / 'hopper_medium-v2.hdf5'}")
    assert_same(found.background, parts)
    assert found.env_id == "Hopper-v4"
    assert "notes" not in found.info


def test_d4rl_without_next_observations_drops_what_it_cannot_know(tmp_path: Path) -> None:
    parts = episodes()
    write_d4rl(tmp_path / "a.hdf5", parts, next_observations=None)
    found = fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}")
    for part in parts:
        if part["terminal"]:  # the value is known to end: its next observation does not matter
            part["obs"][-1] = part["obs"][-2]
        else:
            part["obs"], part["action"] = part["obs"][:-1], part["action"][:-1]
            part["reward"] = part["reward"][:-1]
    assert_same(found.background, parts)
    assert found.info["notes"] == {
        "transitions dropped for want of a next observation": 2,
        "terminal observations repeated for want of the next": 3,
    }
    assert "transitions dropped for want of a next observation: 2" in found.summary()


def test_d4rl_old_files_have_columns_of_width_1_and_no_timeouts(tmp_path: Path) -> None:
    count = 2500
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((count, D)).astype(np.float32)
    terminal = np.zeros((count, 1), np.float32)
    terminal[300] = 1
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["observations"], file["actions"] = rows, np.zeros((count, A), np.float32)
        file["rewards"], file["terminals"] = np.zeros((count, 1), np.float32), terminal
    found = fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}")
    assert found.background.lengths.tolist() == [301, 999, 999, 198]
    assert found.info["notes"]["episodes cut by the end of the file"] == 1


def test_a_terminal_is_never_paired_with_the_next_episode(tmp_path: Path) -> None:
    parts = episodes()
    for changes in ({}, {"next_observations": None}):
        write_d4rl(tmp_path / "a.hdf5", parts, **changes)
        found = fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}").background
        begins = np.stack([part["obs"][0] for part in parts])
        after = found.obs[found.rows() + 1].numpy()
        assert not (after[:, None] == begins[None]).all(-1).any()


def test_rows_that_do_not_follow_each_other_are_cut(tmp_path: Path) -> None:
    parts = episodes(1)
    ahead = parts[0]["obs"][1:].copy()
    ahead[0] += 1  # as where a replay buffer wrapped around
    write_d4rl(tmp_path / "a.hdf5", parts, next_observations=ahead)
    found = fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}")
    assert found.background.lengths.tolist() == [1, 2]
    assert found.background.timeout.tolist() == [True, False, False]
    assert found.info["notes"] == {
        "episodes cut where the next observation is not the next row's": 1
    }


def test_robomimic(tmp_path: Path) -> None:
    parts = episodes(12)
    path = tmp_path / "a.hdf5"
    write_robomimic(path, parts)
    assert_same(fastifo.load(f"robomimic:{path}").background, parts)  # demo_2 before demo_10
    chosen = fastifo.load(f"robomimic:{path},filter=train").background
    assert_same(chosen, [parts[1], parts[3]])
    swapped = fastifo.load(f"robomimic:{path},keys=robot0_eef_pos+object").background
    np.testing.assert_array_equal(swapped.obs[0], np.roll(parts[0]["obs"][0], 1))
    assert fastifo.load(f"robomimic:{path},episodes=2").background.num_episodes == 2


def test_robomimic_without_next_observations(tmp_path: Path) -> None:
    parts = episodes(2)
    write_robomimic(tmp_path / "a.hdf5", parts, ahead=False)
    found = fastifo.load(f"robomimic:{tmp_path / 'a.hdf5'}")
    assert found.background.lengths.tolist() == [3, 3]  # the second lost its last step


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (",keys=object+agentview_image", r"agentview_image: expected low-dim.*not supported yet"),
        (",keys=nothing", r"nothing: expected low-dimensional observations \(object, robot0_eef"),
        (",filter=valid", "filter: expected one of train, found 'valid'"),
        (",episodes=99", "it holds 5 episodes, not 99"),
        (",size=3", "unknown option 'size=3'; known: episodes, keys, filter"),
    ],
)
def test_robomimic_refusals(tmp_path: Path, options: str, message: str) -> None:
    write_robomimic(tmp_path / "a.hdf5", episodes())
    with pytest.raises(ValueError, match=message):
        fastifo.load(f"robomimic:{tmp_path / 'a.hdf5'}{options}")


def write_minari(folder: Path, parts: list[dict[str, Any]], *, keyed: bool = False) -> None:
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


def test_minari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = episodes(12)
    write_minari(tmp_path / "mujoco/hopper/expert-v0", parts)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    folder = tmp_path / "mujoco/hopper/expert-v0"
    for name in ("mujoco/hopper/expert-v0", folder, folder / "data"):
        found = fastifo.load(f"minari:{name}")
        assert_same(found.background, parts)
        assert found.env_id == "Hopper-v5"
    with pytest.raises(FileNotFoundError, match="download it there with Minari"):
        fastifo.load("minari:mujoco/ant/expert-v0")


def test_minari_dictionaries_need_keys(tmp_path: Path) -> None:
    parts = episodes()
    write_minari(tmp_path / "a", parts, keyed=True)
    with pytest.raises(
        ValueError, match=r"dictionary of goal, observation; choose some with ,keys"
    ):
        fastifo.load(f"minari:{tmp_path / 'a'}")
    assert_same(fastifo.load(f"minari:{tmp_path / 'a'},keys=observation+goal").background, parts)


@pytest.mark.filterwarnings("ignore")  # of its writer: no author, no code
def test_minari_by_its_own_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gymnasium
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    buffers = []
    for i, part in enumerate(episodes()):
        last = np.arange(len(part["action"])) == len(part["action"]) - 1
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                id=i, observations=part["obs"], actions=part["action"],
                rewards=part["reward"].tolist(), terminations=(last & part["terminal"]).tolist(),
                truncations=(last & (not part["terminal"])).tolist(),
            )
        )  # fmt: skip
    box = gymnasium.spaces.Box
    minari.create_dataset_from_buffers(
        "test/own-v0", buffers,
        observation_space=box(-np.inf, np.inf, (D,), np.float32),
        action_space=box(-1, 1, (A,), np.float32),
    )  # fmt: skip
    assert_same(fastifo.load("minari:test/own-v0").background, episodes())


def test_npz(tmp_path: Path) -> None:
    parts = episodes()
    terminal, timeout = ends(parts)
    columns: dict[str, Any] = {
        "observations": np.concatenate([p["obs"][:-1] for p in parts]).astype("f8"),
        "next_observations": np.concatenate([p["obs"][1:] for p in parts]),
        "actions": np.asfortranarray(np.concatenate([p["action"] for p in parts])),
        "rewards": np.concatenate([p["reward"] for p in parts]),
        "terminals": terminal,
    }
    np.savez(tmp_path / "a.npz", timeouts=timeout, **columns)
    assert_same(fastifo.load(f"npz:{tmp_path / 'a.npz'}").background, parts)
    lengths = [len(p["action"]) for p in parts]
    np.savez_compressed(tmp_path / "b.npz", episode_lengths=lengths, **columns)
    assert_same(fastifo.load(f"npz:{tmp_path / 'b.npz'}").background, parts)
    np.savez(tmp_path / "c.npz", arm=np.ones((9, 2)), hand=np.ones(9))
    found = fastifo.load(f"npz:{tmp_path / 'c.npz'},keys=arm+hand").background
    assert found.obs.shape == (9, 3)
    assert found.action is None
    np.savez(tmp_path / "d.npz", observations=np.array([None, 1]))
    with pytest.raises(ValueError, match=r"d\.npz: observations: "):
        fastifo.load(f"npz:{tmp_path / 'd.npz'}")


def test_expert_and_background_from_different_files(tmp_path: Path) -> None:
    shown, played = episodes(2, seed=1), episodes(4, seed=2)
    write_d4rl(tmp_path / "hopper_expert-v2.hdf5", shown)
    write_minari(tmp_path / "played", played)
    expert = f"d4rl:{tmp_path / 'hopper_expert-v2.hdf5'}"
    background = f"minari:{tmp_path / 'played'}"
    with pytest.raises(ValueError, match=r"Hopper-v4, background .* of Hopper-v5"):
        fastifo.load(expert=expert, background=background)
    found = fastifo.load(expert=expert, background=background, env_id="Hopper-v4")
    assert_same(found.background, played)
    assert found.expert is not None
    assert found.expert.action is not None  # for sqil alone
    assert found.expert.reward is None
    assert found.env_id == "Hopper-v4"
    found.save(tmp_path / "a.fastifo")
    again = fastifo.load(expert=tmp_path / "a.fastifo", background=tmp_path / "a.fastifo")
    assert again.fingerprint() == found.fingerprint()
    fastifo.train("vfo_bin", again, num_updates=2, progress=False, hidden_sizes=(8,), batch_size=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spec": "a", "expert": "b"}, "expected one spec, or expert= and background=, found both"),
        ({"expert": "b"}, "background: expected a file or a spec, found none"),
    ],
)
def test_arguments_that_do_not_go_together(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fastifo.load(**arguments)


def test_widths_that_differ_are_named(tmp_path: Path) -> None:
    write_d4rl(tmp_path / "a.hdf5", episodes())
    np.savez(tmp_path / "c.npz", observations=np.ones((9, 2)))
    with pytest.raises(ValueError, match=r"c\.npz: observations are 2 wide, those of .* 4"):
        fastifo.load(expert=f"npz:{tmp_path / 'c.npz'}", background=f"d4rl:{tmp_path / 'a.hdf5'}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": np.full((25, D), np.nan)}, "obs: expected finite numbers"),
        ({"observations": np.full((25, D), 1e30)}, "obs: expected finite numbers of at most 1e"),
        ({"actions": np.full((25, A), 11.0)}, "action: expected finite numbers of at most 10"),
        ({"actions": np.zeros((24, A))}, r"actions: expected \(25, width\), found \(24, 2\)"),
        ({"rewards": np.zeros(3)}, r"rewards: expected \(25,\), found \(3,\)"),
        ({"terminals": np.zeros(24)}, r"terminals: expected \(25,\), found \(24,\)"),
        ({"observations": np.zeros((0, D))}, "expected one or more rows of observations, found"),
        ({"observations": None}, "expected a dataset 'observations', found actions"),
        ({"rewards": np.array([b"x"] * 25)}, "'rewards': expected numbers, found kind 'S'"),
        ({"next_observations": np.zeros((25, 1))}, r"next_observations: expected \(25, 4\)"),
    ],
)
def test_what_cannot_be_data_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_d4rl(tmp_path / "a.hdf5", episodes(), **changes)
    with pytest.raises(ValueError, match=message) as caught:
        fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}")
    assert "a.hdf5" in str(caught.value)


def test_actions_outside_are_clipped_and_counted(tmp_path: Path) -> None:
    parts = episodes()
    parts[0]["action"][1, 0] = 1.7
    write_d4rl(tmp_path / "a.hdf5", parts)
    found = fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}")
    assert found.info["notes"] == {"actions clipped to [-1, 1]": 1}
    assert found.background.action is not None
    assert float(found.background.action.max()) == 1.0
