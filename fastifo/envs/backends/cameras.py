"""Images of one environment: frames of its cameras, the last few of them stacked."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.envs.backends.offscreen import MujocoCameras, model_cameras
from fastifo.envs.render import OWN, Render, check_cameras

Frames = dict[str, NDArray[np.uint8]]  # by camera, [H, W, C] each


class ImageStack:
    """Images of the last frames: those of each camera, joined along the channels."""

    def __init__(self, count: int, frames: Callable[[], Frames], close: Callable[[], None]) -> None:
        """count: frames in an image.  frames: of the environment's current state.
        close: frees what renders them.
        """
        self.count, self.frames, self.close = count, frames, close
        self.history: list[Frames] = []

    def reset(self) -> None:
        """An episode has begun; its first frame stands for those before it."""
        self.history = [self.frames()] * self.count

    def step(self) -> None:
        """The environment has made a step."""
        self.history = [*self.history[1:], self.frames()]

    def images(self) -> Frames:
        """The current image of each camera, [H, W, 3 * count]; the newest frame is last."""
        return {
            camera: _joined([frames[camera] for frames in self.history])
            for camera in self.history[-1]
        }


def _joined(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return frames[0] if len(frames) == 1 else np.concatenate(frames, axis=-1)


def mujoco_stack(
    name: str, model: Any, data: Callable[[], Any], render: Render, *, collisions: bool = True
) -> ImageStack:
    """Images of a MuJoCo simulation.

    data: returns its `mujoco.MjData`.  For the other arguments and errors see `MujocoCameras`.
    """
    cameras = MujocoCameras(name, model, render, collisions=collisions)
    return ImageStack(render.frame_stack, lambda: cameras.frames(data()), cameras.close)


def gymnasium_cameras(env: Any) -> list[str]:
    """Cameras of an environment with Gymnasium's interface: its model's, or its own `render`."""
    model = getattr(getattr(env, "unwrapped", env), "model", None)
    if type(model).__module__.partition(".")[0] == "mujoco":
        return model_cameras(model)
    return [OWN] if hasattr(env, "render") else []


def gymnasium_stack(name: str, env: Any, render: Render) -> ImageStack:
    """Images of an environment with Gymnasium's interface.

    Raises ValueError for a camera that it does not have; ImportError without a library.
    """
    check_cameras(name, render.cameras, gymnasium_cameras(env))
    if OWN not in render.cameras:
        inner = getattr(env, "unwrapped", env)
        return mujoco_stack(name, inner.model, lambda: inner.data, render)
    return ImageStack(
        render.frame_stack, lambda: {OWN: own_frame(name, env, render.shape[:2])}, lambda: None
    )


def own_frame(name: str, env: Any, size: Sequence[int] | None = None) -> NDArray[np.uint8]:
    """A frame of an environment's own method `render`, copied, since it may draw in one array.

    size: height and width that it must have.  Raises ValueError for anything else.
    """
    try:
        frame = env.render()
    except NotImplementedError:
        raise ValueError(f"{name}: has neither a MuJoCo model nor its own render()") from None
    height, width = size or (*np.shape(frame), 0, 0)[:2]
    is_uint8 = isinstance(frame, np.ndarray) and frame.dtype == np.uint8
    if not is_uint8 or frame.shape != (height, width, 3):
        found = f"{getattr(frame, 'dtype', type(frame).__name__)} {list(np.shape(frame))}"
        wanted = "[H, W, 3]" if size is None else f"[{height}, {width}, 3]"
        raise ValueError(
            f"{name}: expected render() to return a frame of uint8 {wanted}, found {found}"
        )
    return np.array(frame, np.uint8)
