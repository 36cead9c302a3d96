"""`Render`: which cameras an environment has, and how their frames are made.

The settings are a part of the environment's, `env_kwargs["render"]`, so that they stay in datasets
and runs, and evaluation renders as the data were rendered.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastifo.utils.text import did_you_mean

SETTING = "render"  # name of the environment's setting
MAX_SIZE, MAX_SAMPLES, MAX_STACK = 4096, 64, 64
FREE = "free"  # MuJoCo's free camera, at its default place for the model
OWN = "render"  # the environment's own method `render`, for those without a MuJoCo model


@dataclass(frozen=True)
class Render:
    """Cameras and settings of MuJoCo's renderer.  Raises ValueError or TypeError for a wrong value.

    The defaults are fast: without a GPU, shadows and anti-aliasing take most of the time.
    """

    cameras: tuple[str, ...]  # names, as in "agentview"
    height: int = 84  # of a frame, in pixels
    width: int = 84
    shadows: bool = False
    reflections: bool = False
    offsamples: int = 0  # samples of a pixel, for anti-aliasing; MuJoCo's default is 4
    frame_stack: int = 1  # successive frames in the channels of an image, the newest last
    state: bool = True  # False: policies see the images alone; the observation is one zero

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", _checked_cameras(self.cameras))
        for name, low, high in (
            ("height", 1, MAX_SIZE), ("width", 1, MAX_SIZE), ("offsamples", 0, MAX_SAMPLES),
            ("frame_stack", 1, MAX_STACK),
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ValueError(
                    f"render: {name}: expected an integer from {low} to {high}, found {value!r}"
                )
        for name in ("shadows", "reflections", "state"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(
                    f"render: {name}: expected true or false, found {getattr(self, name)!r}"
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return self.height, self.width, 3 * self.frame_stack

    @property
    def images(self) -> tuple[tuple[str, int, int, int], ...]:
        """Camera, height, width and channels of each image."""
        return tuple((camera, *self.shape) for camera in self.cameras)

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values, for `parse`."""
        return vars(self) | {"cameras": list(self.cameras)}

    @staticmethod
    def parse(value: Any) -> "Render":
        """Reads the setting of an environment.

        value: a mapping of this class's fields; or only the cameras, as a list of names, or as text
        such as "agentview+robot0_eye_in_hand".
        Raises ValueError for an unknown field or a wrong value; TypeError for something else.
        """
        if isinstance(value, Render):
            return value
        if isinstance(value, str):
            value = value.split("+")
        if not isinstance(value, Mapping):
            return Render(value)
        known = [field.name for field in dataclasses.fields(Render)]
        for name in value:
            if name not in known:
                hint = did_you_mean(str(name), known)
                raise ValueError(f"render: no setting {name!r}; {hint}")
        if "cameras" not in value:
            raise ValueError('render: cameras: expected names, as in ["agentview"], found none')
        return Render(**value)


def _checked_cameras(names: Any) -> tuple[str, ...]:
    is_list = isinstance(names, Sequence) and not isinstance(names, str | bytes)
    if not is_list or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f'render: cameras: expected names, as in ["agentview"], found {names!r}')
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"render: cameras: expected one or more names, each once, found {list(names)}"
        )
    return tuple(names)


def check_cameras(env: str, wanted: Sequence[str], known: Sequence[str]) -> None:
    """Raises ValueError, with the nearest name, for a camera that an environment does not have."""
    for camera in wanted:
        if camera not in known:
            raise ValueError(f"{env}: has no camera {camera!r}; {did_you_mean(camera, known)}")
