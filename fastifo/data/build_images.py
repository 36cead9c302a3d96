"""Checks frames that a user passes as arrays, and stores them end to end."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastifo.data.frames import Frames, has_channels_first, new_frames

EXPECTED = "uint8 [T + 1, H, W, C], one frame for each observation"


def build_images(
    source: str, episodes: Sequence[Mapping[str, Any]], lengths: Sequence[int]
) -> dict[str, Frames]:
    """The frames of all episodes by camera, copied; empty if no episode has "image".

    source: names the episodes in errors.  lengths: T of each episode.
    Raises TypeError or ValueError naming the episode and the camera: frames that are no uint8, of
    another size than the first episode's, or not one for each observation; cameras that only some
    episodes have.
    """
    given = [episode.get("image") for episode in episodes]
    if all(images is None for images in given):
        return {}
    stores = {}
    row = 0
    for index, (images, length) in enumerate(zip(given, lengths, strict=True)):
        name = f"{source}[{index}]['image']"
        if not isinstance(images, Mapping) or not images:
            kinds = {type(None): "nothing", dict: "no camera"}
            raise TypeError(
                f"{name}: expected camera -> {EXPECTED}, in every episode or in none, found "
                f"{kinds.get(type(images), type(images).__name__)}"
            )
        arrays = {
            _camera(name, k): _frames(f"{name}[{k!r}]", images[k], length + 1) for k in images
        }
        if index == 0:
            rows = sum(lengths) + len(lengths)
            stores = {k: new_frames((rows, *array.shape[1:])) for k, array in arrays.items()}
        if arrays.keys() != stores.keys():
            raise ValueError(
                f"{name}: expected the cameras {', '.join(stores)} as in the first episode, found "
                f"{', '.join(arrays)}"
            )
        for camera, array in arrays.items():
            size = stores[camera].shape[1:]
            if array.shape[1:] != size:
                raise ValueError(
                    f"{name}[{camera!r}]: expected frames of {list(size)} as in the first episode, "
                    f"found {list(array.shape[1:])}"
                )
            stores[camera].write(np.arange(row, row + length + 1), array)
        row += length + 1
    return {camera: Frames([store]) for camera, store in stores.items()}


def _camera(name: str, camera: Any) -> str:
    """The name of a camera.  Raises TypeError for another one than a word."""
    if not isinstance(camera, str) or not camera or not camera.isprintable():
        raise TypeError(f"{name}: expected camera names such as 'agentview', found {camera!r}")
    return camera


def _frames(name: str, value: Any, count: int) -> NDArray[np.uint8]:
    """An array of `count` frames.  Raises TypeError or ValueError for anything else."""
    try:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    except ValueError:
        raise ValueError(f"{name}: expected {EXPECTED}, found frames of differing sizes") from None
    if array.dtype != np.uint8:
        hint = "; multiply by 255 and round" if array.dtype.kind == "f" else ""
        raise TypeError(f"{name}: expected {EXPECTED}, found {array.dtype}{hint}")
    if array.ndim != 4 or 0 in array.shape:
        raise ValueError(f"{name}: expected {EXPECTED}, found shape {list(array.shape)}")
    if has_channels_first(array.shape):
        raise ValueError(
            f"{name}: expected {EXPECTED}, found shape {list(array.shape)}, with channels first; "
            "transpose(0, 2, 3, 1) moves them to the end"
        )
    if len(array) != count:
        raise ValueError(
            f"{name}: expected {count} frames, one for each observation, found {len(array)}"
        )
    return np.require(array, np.uint8, ["C", "W"])


def check_same_cameras(background: Mapping[str, Frames], expert: Mapping[str, Frames]) -> None:
    """Raises ValueError if a camera of both has frames of different sizes."""
    for camera in background.keys() & expert.keys():
        sizes = [list(images[camera].size) for images in (background, expert)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"camera {camera!r}: the expert's frames are {sizes[1]}, the background's "
                f"{sizes[0]}; both must have one size"
            )
