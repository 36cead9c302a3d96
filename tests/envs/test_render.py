"""Cameras: what their frames show, their settings, and how they reach evaluation."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import own_envs
from fastifo.envs.backends import offscreen
from fastifo.envs.backends.gymnasium import GymnasiumEnv
from fastifo.envs.backends.robosuite_env import RobosuiteEnv, is_installed
from fastifo.envs.checks import check_env
from fastifo.envs.registry import describe, find_backend
from fastifo.envs.render import Render
from fastifo.envs.spec import EnvSpec, as_spec
from support import needs_rendering

SMALL = {"height": 24, "width": 32}
RED, GREEN = 0, 1


def spec(env: Any, *cameras: str, **settings: Any) -> EnvSpec:
    return as_spec(env, kwargs={"render": {"cameras": cameras, **SMALL, **settings}})


def place(frame: NDArray[np.uint8], color: int) -> NDArray[np.float64]:
    """Mean row and column of the pixels in which a color is strongest."""
    others = np.delete(frame.astype(int), color, axis=2).max(2)
    where = np.argwhere(frame[..., color] > others + 50)
    return np.asarray(where.mean(0)) if len(where) else np.full(2, np.nan)


@needs_rendering
def test_frames_are_upright_and_follow_the_state() -> None:
    env = GymnasiumEnv(spec(own_envs.Boxes, "front", "back"))
    assert env.info.images == (("front", 24, 32, 3), ("back", 24, 32, 3))
    env.reset(0)
    places = []
    for x in (-0.5, 0.5):
        env.env.x = x
        env.step(np.zeros(1))
        frames = env.images()
        assert all(f.dtype == np.uint8 and f.shape == (24, 32, 3) for f in frames.values())
        assert place(frames["front"], RED)[0] < 12 < place(frames["front"], GREEN)[0]
        places.append([place(frames[camera], RED)[1] for camera in ("front", "back")])
    (left, left_behind), (right, right_behind) = places
    assert left < 16 < right
    assert right_behind < 16 < left_behind  # the camera behind sees them the other way round
    env.close()


@needs_rendering
def test_frame_stack_repeats_the_first_frame_and_ends_with_the_newest() -> None:
    env, single = GymnasiumEnv(spec(own_envs.Boxes, "front", frame_stack=3)), []
    assert env.info.images == (("front", 24, 32, 9),)
    for _ in range(2):  # the second episode shows nothing of the first
        env.reset(0)
        assert env.stack is not None
        single = [env.stack.frames()["front"]]
        image = env.images()["front"]
        np.testing.assert_array_equal(image, np.concatenate(single * 3, -1))
        for _ in range(2):
            env.step(np.full(1, 2.0))
            single.append(env.stack.frames()["front"])
        assert (single[0] != single[2]).any()
        np.testing.assert_array_equal(env.images()["front"], np.concatenate(single, -1))
    env.close()


@needs_rendering
def test_rows_of_a_vector_are_the_images_of_their_slots() -> None:
    env = spec(own_envs.Boxes, "front")
    seeds = [5, 6, 7]
    expected = []
    alone = GymnasiumEnv(env)
    for seed in seeds:
        alone.reset(seed)
        expected.append(alone.images()["front"])
    for workers in (0, 2):
        vector = find_backend(env).make(env, 3, threads=1, workers=workers)
        vector.start(seeds)
        seen: dict[int, Any] = {}
        while len(seen) < 3:
            step = vector.recv()
            seen |= dict(zip(step.slots.tolist(), step.images["front"], strict=True))
        vector.close()
        np.testing.assert_array_equal([seen[slot] for slot in range(3)], expected)


@needs_rendering
def test_cameras_do_not_change_an_episode() -> None:
    rows = []
    for env in (spec("gymnasium/HalfCheetah-v5", "track"), as_spec("gymnasium/HalfCheetah-v5")):
        cheetah = GymnasiumEnv(env)
        steps = [cheetah.reset(3)]
        steps += [np.append(*cheetah.step(np.full(6, 0.5))[:2]) for _ in range(5)]
        rows.append(np.concatenate(steps))
        cheetah.close()
    np.testing.assert_array_equal(rows[0], rows[1])


@needs_rendering
def test_an_image_is_a_function_of_the_state_and_the_settings() -> None:
    env = GymnasiumEnv(spec("gymnasium/HalfCheetah-v5", "track"))
    env.reset(0)
    for _ in range(5):
        env.step(np.full(6, 0.5))
    expected = env.images()["track"]
    state = [np.array(getattr(env.env.unwrapped.data, name)) for name in ("qpos", "qvel")]
    env.close()
    differ = []
    for settings in ({}, {"shadows": True}, {"reflections": True}, {"offsamples": 4}):
        other = GymnasiumEnv(spec("gymnasium/HalfCheetah-v5", "track", **settings))
        other.reset(1)
        other.env.unwrapped.set_state(*state)
        assert other.stack is not None
        differ.append(int((other.stack.frames()["track"] != expected).sum()))
        other.close()
    assert differ[0] == 0
    assert min(differ[1], differ[3]) > 0  # its floor reflects nothing


@needs_rendering
@pytest.mark.slow
@pytest.mark.skipif(not is_installed(), reason="needs robosuite, which is optional")
@pytest.mark.filterwarnings("default")
def test_robosuite_shows_the_cube_and_the_same_in_the_same_state() -> None:
    cameras = ("agentview", "robot0_eye_in_hand")
    env = RobosuiteEnv(spec("robosuite/Lift", *cameras, height=84, width=84))
    env.reset(0)
    env.step(np.full(7, 0.3))
    state, played = env.env.sim.get_state().flatten(), env.images()
    env.reset(1)
    env.set_state(state)
    for camera, image in env.images().items():
        np.testing.assert_array_equal(image, played[camera])
    joint = env.env.sim.model.get_joint_qpos_addr("cube_joint0")[0] + 1  # the time comes first
    places = []
    for y, z in ((-0.1, 0.83), (0.1, 0.83), (0.1, 0.9)):
        state[joint : joint + 3] = 0.0, y, z
        env.set_state(state)
        frames = env.images()
        assert not any(np.isnan(place(frame, RED)).any() for frame in frames.values())
        places.append(place(frames["agentview"], RED))
    env.close()
    # The camera looks at the robot, whose left is the right of the frame.
    assert places[0][1] < 42 < places[1][1]
    assert places[2][0] < places[1][0]  # a higher cube is nearer to the top


def test_an_environment_without_a_model_renders_itself() -> None:
    drawn = spec(own_envs.Drawn, "render", height=8, width=8)
    env = GymnasiumEnv(drawn)
    env.reset(0)
    (column,) = np.flatnonzero(env.images()["render"][0, :, 0])
    assert column == int(4 + 4 * env.env.x)
    wrong = GymnasiumEnv(spec(own_envs.Drawn, "render"))
    with pytest.raises(ValueError, match=r"expected render\(\) to return .* \[24, 32, 3\], .*8, 8"):
        wrong.reset(0)
    blind = GymnasiumEnv(spec(own_envs.Line, "render"))
    with pytest.raises(ValueError, match=r"Line: has neither a MuJoCo model nor its own render"):
        blind.reset(0)


def test_frames_of_one_array_are_stacked_as_they_were() -> None:
    stacks = []
    for kind in (own_envs.Drawn, own_envs.Redrawn):
        env = GymnasiumEnv(spec(kind, "render", height=8, width=8, frame_stack=2))
        env.reset(0)
        env.step(np.array([2.0]))
        env.step(np.array([2.0]))
        stacks.append(env.images()["render"])
    np.testing.assert_array_equal(stacks[0], stacks[1])
    assert (stacks[0][..., :3] != stacks[0][..., 3:]).any()


@needs_rendering
def test_gymnasium_plays_a_task_of_envpool_with_cameras() -> None:
    env = spec("HalfCheetah-v4", "track")
    assert type(find_backend(env)).__name__ == "GymnasiumBackend"
    assert type(find_backend(env.without_cameras())).__name__ == "EnvPoolBackend"
    for other in ("envpool/HalfCheetah-v4", "metaworld/Reach"):
        with pytest.raises(ValueError, match="EnvPool does not render it; use one of"):
            describe(spec(other, "track"))


@needs_rendering
@pytest.mark.parametrize(
    ("env", "camera", "message"),
    [
        ("gymnasium/HalfCheetah-v5", "trak", "no camera 'trak'; did you mean 'track'"),
        (own_envs.Line, "front", "no camera 'front'; known: render"),
        (own_envs.Boxes, "render", "no camera 'render'; did you mean 'free'"),
    ],
)
def test_an_unknown_camera_is_named_with_the_nearest(env: Any, camera: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        describe(spec(env, camera))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"cameras": ["a"], "hight": 3}, "render: no setting 'hight'; did you mean 'height'"),
        ({"height": 3}, "render: cameras: expected names"),
        ({"cameras": []}, "expected one or more names, each once"),
        (["a", "a"], "expected one or more names, each once"),
        ({"cameras": ["a"], "width": 0}, "width: expected an integer from 1 to 4096, found 0"),
        ({"cameras": ["a"], "frame_stack": 1.0}, "frame_stack: expected an integer from 1 to 64"),
        ({"cameras": ["a"], "shadows": 1}, "shadows: expected true or false, found 1"),
        (3, "render: cameras: expected names, .* found 3"),
    ],
)
def test_wrong_settings_are_refused(value: Any, error: str) -> None:
    with pytest.raises((ValueError, TypeError), match=error):
        as_spec("HalfCheetah-v4", kwargs={"render": value})


def test_settings_of_the_data_are_used_unless_the_user_has_others() -> None:
    data = Render(("track",), 32, 48, shadows=True, frame_stack=2)
    assert Render.parse(data.to_json()) == data
    env = as_spec("HalfCheetah-v4", settings={"render": data.to_json()})
    assert env.render == data
    assert as_spec(env, kwargs={"render": "front+back"}).render == Render(("front", "back"))
    assert env.without_cameras().render is None
    assert data.images == (("track", 32, 48, 6),)


@needs_rendering
def test_images_of_data_and_environment_are_compared_before_training() -> None:
    env = spec(own_envs.Boxes, "front")
    bounds = torch.full((1,), -2.0), torch.full((1,), 2.0)
    check_env(env, 2, 1, *bounds, [("front", 24, 32, 3)])
    with pytest.raises(ValueError, match="expected the camera 'back' of the data, found front"):
        check_env(env, 2, 1, *bounds, [("back", 24, 32, 3)])
    with pytest.raises(ValueError, match=r"expected images of 24 x 32 x 9, .* found 24 x 32 x 3"):
        check_env(env, 2, 1, *bounds, [("front", 24, 32, 9)])


def test_a_missing_library_is_an_error_that_names_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(offscreen, "has_library", lambda kind: False)
    with pytest.raises(ImportError, match=r"found neither; install .* libosmesa6 or libegl1"):
        offscreen.choose_library("robosuite/Lift")


@pytest.mark.parametrize(
    ("gpu", "present", "asked", "chosen"),
    [
        (True, ("egl", "osmesa"), "", "egl"), (False, ("egl", "osmesa"), "", "osmesa"),
        (False, ("egl",), "", "egl"), (False, ("egl", "osmesa"), "egl", "egl"),
        (True, ("osmesa",), "egl", "osmesa"), (False, ("egl", "osmesa"), "glfw", "osmesa"),
    ],
)  # fmt: skip
def test_egl_renders_on_a_gpu_and_osmesa_elsewhere(
    gpu: bool, present: tuple[str, ...], asked: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYOPENGL_PLATFORM", raising=False)
    monkeypatch.setattr(offscreen, "ASKED", asked)
    monkeypatch.setattr(offscreen, "has_library", lambda kind: kind in present)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert offscreen.choose_library("env") == chosen
