"""SIBench sets of images: what they hold, and that evaluation renders what they show."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastifo
from cli.commands import run as run_command
from fastifo.benchmarks.images import without_state
from fastifo.benchmarks.sets import build_sets
from fastifo.benchmarks.sibench_spec import SIBenchSpec
from fastifo.data.dataset import Dataset
from fastifo.envs.backends.robosuite_env import is_installed
from fastifo.envs.registry import describe
from fastifo.envs.spec import as_spec
from fastifo.utils.executors import InProcess
from support import needs_rendering

CHEETAH = "sibench:HalfCheetah-v4/image/"
SMALL = "d=1,episodes=2,demos=2,bc_updates=2,size=24,env.max_episode_steps=4"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def dataset(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return fastifo.load(CHEETAH + SMALL, progress=False)


@needs_rendering
def test_a_learner_sees_stacked_images_and_no_state(dataset: Dataset, cache: Path) -> None:
    assert dataset.expert is not None
    for part in (dataset.background, dataset.expert):
        assert part.num_episodes == 2
        assert part.images["track"].shape == (10, 24, 24, 9)
        assert part.obs.shape == (10, 1)
        assert not part.obs.any()
        first, second = part[0].images["track"][:2].numpy()
        np.testing.assert_array_equal(first[..., :3], first[..., 6:])  # an episode's first frame
        np.testing.assert_array_equal(second[..., 3:6], first[..., 6:])
        assert (second[..., 6:] != second[..., 3:6]).any()
    info = describe(as_spec("HalfCheetah-v4", settings=dataset.env_kwargs))
    assert (info.obs_dim, info.images) == (1, (("track", 24, 24, 9),))
    assert len(list(cache.rglob("sibench-HalfCheetah-v4-image-d1-*"))) == 1


@needs_rendering
def test_a_ladder_of_image_sets_is_built_in_a_folder(
    dataset: Dataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = {"max_episode_steps": 4}

    def build(*args: Any, **options: Any) -> list[Path]:
        return build_sets(*args, env_kwargs=short, executor=InProcess(), **options)

    monkeypatch.setattr("fastifo.cli.sibench.build_sets", build)
    status, out, err = run_command(
        capsys, "sibench", "build", "--env-id", "HalfCheetah-v4/image", "--out", tmp_path,
        "--sizes", "1", "2", "--episodes", "2", "--bc-updates", "2", "--image-size", "24",
    )  # fmt: skip
    assert status == 0, err
    assert out.count("return") == 2
    folder = tmp_path / "HalfCheetah-v4/image"
    assert fastifo.load(folder / "d=1.fastifo") == dataset  # as the spec's
    assert fastifo.load(folder / "d=2.fastifo").images["track"].shape == (10, 24, 24, 9)
    status, _, err = run_command(
        capsys, "sibench", "build", "--env-id", "HalfCheetah-v4", "--cameras", "track",
        "--out", tmp_path,
    )  # fmt: skip
    assert status == 2
    assert "for sets of images; expected HalfCheetah-v4/image" in err


@needs_rendering
def test_a_set_is_built_once_and_trains_and_evaluates(dataset: Dataset, cache: Path) -> None:
    (path,) = cache.rglob("sibench-*")
    assert fastifo.load(CHEETAH + SMALL, progress=False) == dataset
    assert list(cache.rglob("sibench-*")) == [path]
    run = fastifo.train(
        "vfo_bin", dataset, num_updates=2, hidden_sizes=(8,), image_features=4, batch_size=4,
        progress=False, device="cpu",
    )  # fmt: skip
    assert run.evaluate(1, progress=False).lengths.tolist() == [[4]]


@needs_rendering
def test_the_same_set_with_the_state_shows_the_same_episodes(dataset: Dataset) -> None:
    with_state = fastifo.load(f"{CHEETAH}{SMALL},state=1", progress=False)
    assert with_state.obs_dim == 17
    assert with_state.background.images == dataset.background.images
    np.testing.assert_array_equal(with_state.background.reward, dataset.background.reward)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("HalfCheetah-v4/d=1,size=3", "size is for sets of images; expected HalfCheetah-v4/image"),
        ("HalfCheetah-v4/image/d=1,size=-3", "height: expected an integer from 1 to 4096"),
        ("HalfCheetah-v4/image/d=1,state=2", "state must be 0 or 1, found 2"),
        ("HalfCheetah-v4/image/d=1,env.render=track", "expected the options cameras, size"),
        ("HalfCheetah-v4/image/d=1,camera=track", "unknown option .*; did you mean 'cameras'"),
    ],
)
def test_wrong_options_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SIBenchSpec.parse(f"sibench:{text}")


@needs_rendering
def test_what_cannot_be_filmed_is_refused_before_anything_is_played(
    dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no camera 'trakc'; did you mean 'track'"):
        fastifo.load(f"{CHEETAH}{SMALL},cameras=trakc", progress=False)
    with pytest.raises(ValueError, match="EnvPool does not render it"):
        fastifo.load("sibench:metaworld/Reach/image/d=1", progress=False)
    dataclasses.replace(dataset, env_kwargs={}).with_cameras().save(tmp_path / "a.fastifo")
    with pytest.raises(ValueError, match="sets of images are played by an expert, found recorded"):
        fastifo.load(f"{CHEETAH}{SMALL},expert={tmp_path / 'a.fastifo'}", progress=False)


@needs_rendering
@pytest.mark.skipif(not is_installed(), reason="needs robosuite, which is optional")
@pytest.mark.filterwarnings("default")
def test_in_robosuite_a_learner_sees_two_cameras_and_what_the_arm_knows_of_itself() -> None:
    spec = SIBenchSpec("robosuite/Lift/image", 1)
    assert spec.env.render is not None
    assert spec.env.render.images == (
        ("agentview", 84, 84, 3), ("robot0_eye_in_hand", 84, 84, 3)
    )  # fmt: skip
    obs = np.arange(3 * 19).reshape(3, 19)
    played = Dataset.from_episodes(
        [{"obs": obs, "action": np.zeros((2, 7))}], [{"obs": obs}], "robosuite/Lift"
    )
    seen = without_state(dataclasses.replace(played, env_kwargs=spec.env.kwargs))
    assert seen.obs_keys == ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
    assert seen.expert is not None
    np.testing.assert_array_equal(seen.background.obs, obs[:, 10:])
    np.testing.assert_array_equal(seen.expert.obs, obs[:, 10:])
    env = as_spec("robosuite/Lift", settings=seen.env_kwargs, obs_keys=seen.obs_keys)
    assert describe(env).obs_dim == 9
