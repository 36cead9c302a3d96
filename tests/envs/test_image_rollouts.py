"""Rollouts with cameras: images of episodes, and policies that act on them."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

import fastifo
from fastifo.data.episodes import Episodes
from fastifo.envs.backends.gymnasium import GymnasiumEnv
from fastifo.envs.evaluate import evaluate_policies
from fastifo.envs.film import film
from fastifo.envs.rollout import collect, rollout
from fastifo.envs.spec import EnvSpec, as_spec
from support import LinearPolicy, needs_rendering

pytestmark = needs_rendering

RENDER = {"cameras": ["front", "back"], "height": 24, "width": 32, "frame_stack": 2}
BOUNDS = (torch.full((1,), -2.0), torch.full((1,), 2.0))


def boxes(env: Any = "own_envs:Boxes") -> EnvSpec:
    return as_spec(env, kwargs={"render": RENDER})


@pytest.fixture(scope="module")
def played() -> Episodes:
    return collect(
        LinearPolicy(0, 0.5, 2, 1), boxes(), 3, False, seed=0, title="play", bounds=BOUNDS,
        record_images=True, progress=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def dataset(played: Episodes) -> fastifo.Dataset:
    return fastifo.Dataset(
        played, played.without_rewards(), "own_envs:Boxes", *BOUNDS, env_kwargs={"render": RENDER}
    )


@pytest.fixture(scope="module")
def run(dataset: fastifo.Dataset) -> fastifo.Run:
    return fastifo.train(
        "bc", dataset, env="own_envs:Boxes", num_updates=3, hidden_sizes=(8,), image_features=4,
        batch_size=4, seeds=range(2), progress=False, device="cpu",
    )  # fmt: skip


def test_images_of_an_episode_are_those_of_the_environment_in_its_states(played: Episodes) -> None:
    env = GymnasiumEnv(boxes())
    assert {camera: frames.shape for camera, frames in played.images.items()} == dict.fromkeys(
        ("front", "back"), (len(played.obs), 24, 32, 6)
    )
    env.reset(0)
    assert env.stack is not None
    for episode in played:
        shown = []
        for x in episode.obs[:, 0]:
            env.env.data.qpos[0] = x
            shown.append(env.stack.frames()["front"])
        for t in range(len(episode) + 1):
            expected = np.concatenate([shown[max(t - 1, 0)], shown[t]], -1)
            np.testing.assert_array_equal(episode.images["front"][t], expected)
    env.close()


def test_recording_in_processes_gives_the_same_images(played: Episodes) -> None:
    others = collect(
        LinearPolicy(0, 0.5, 2, 1), boxes(), 3, False, seed=0, title="play", bounds=BOUNDS,
        record_images=True, progress=False, num_workers=2,
    )  # fmt: skip
    assert others == played


def test_policies_that_see_no_images_turn_the_cameras_off() -> None:
    spec = as_spec("own_envs:Boxes", kwargs={"render": RENDER | {"cameras": ["no such camera"]}})
    policy = LinearPolicy(0, 0.5, 2, 1)
    (episodes,) = rollout([policy], spec, 2, True, seed=0, record=True, progress=False).episodes
    assert episodes.images == {}
    without = collect(policy, spec, 2, True, seed=0, title="play", progress=False)
    assert without.images == {}


def test_a_policy_acts_on_the_images_that_it_sees(run: fastifo.Run) -> None:
    env, policy = GymnasiumEnv(boxes()), run.policy(1)
    (played,) = rollout([policy], boxes(), 2, True, seed=0, record=True, progress=False).episodes
    env.reset(0)
    assert env.stack is not None
    shown = []
    for x in played.obs[0][:3, 0]:
        env.env.data.qpos[0] = x
        shown.append(env.stack.frames())
    for t in range(3):
        pair = shown[max(t - 1, 0)], shown[t]
        images = {camera: np.concatenate([a[camera] for a in pair], -1) for camera in pair[0]}
        action = policy.act(played.obs[0][t], images=images)
        np.testing.assert_allclose(played.actions[0][t], action, atol=1e-5)
    env.close()


def test_evaluation_does_not_depend_on_processes_or_on_other_policies(run: fastifo.Run) -> None:
    both = run.evaluate(3)
    policies = [run.policy(1)]
    for workers in (0, 2):
        alone = evaluate_policies(policies, boxes(), 3, False, num_workers=workers, progress=False)
        np.testing.assert_array_equal(alone.returns[0], both.returns[1])
    shot = film(run.policy(1), boxes(), episode=2, deterministic=False, height=16, width=16,
                progress=False)  # fmt: skip
    assert shot.return_ == pytest.approx(both.returns[1, 2], abs=1e-5)


def test_cameras_that_data_and_environment_do_not_share_stop_before_training(
    dataset: fastifo.Dataset, run: fastifo.Run
) -> None:
    for render, message in (
        (None, "expected the camera 'front' of the data, found none"),
        (RENDER | {"cameras": ["front"]}, "expected the camera 'back' of the data, found front"),
        (RENDER | {"frame_stack": 1}, "expected images of 24 x 32 x 6, as in the data"),
    ):
        wrong = dataclasses.replace(dataset, env_kwargs={"render": render} if render else {})
        with pytest.raises(ValueError, match=message):
            fastifo.train("bc", wrong, env="own_envs:Boxes", num_updates=1, progress=False)
    with pytest.raises(ValueError, match="expected the camera 'front' of the data, found none"):
        rollout([run.policy(0)], "own_envs:Boxes", 1, True, seed=0, record=False, progress=False)
    low_dim = dataclasses.replace(dataset.with_cameras(), env_kwargs={"render": "no camera"})
    fastifo.train("bc", low_dim, env="own_envs:Boxes", num_updates=1, progress=False)
