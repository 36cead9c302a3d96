"""A few frames of one episode, evenly spaced, whatever its length turns out to be."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

FRAMES = 12  # of a strip


class Strip:
    """Keeps some of the frames that it is given, at most `2 * FRAMES` at any time."""

    def __init__(self) -> None:
        self.kept: list[NDArray[np.uint8]] = []
        self.every = 1  # frames from one that is kept to the next
        self.count = 0

    def add(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Adds the next images of an episode, by camera, [H, W, C] each."""
        if self.count % self.every == 0:
            self.kept.append(newest_frame(images))
        self.count += 1
        if len(self.kept) == 2 * FRAMES:
            self.kept, self.every = self.kept[::2], 2 * self.every

    def frames(self) -> list[NDArray[np.uint8]]:
        """At most `FRAMES` frames, in order, from the first on."""
        chosen = np.linspace(0, len(self.kept) - 1, min(FRAMES, len(self.kept))).round()
        return [self.kept[int(index)] for index in chosen]


def newest_frame(images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The frames of all cameras in one, below each other; of stacked frames the newest.

    images: by camera, [H, W, C]; C is a multiple of 3, or the frames are shades of grey.
    Returns [sum of H, largest W, 3].
    """
    width = max(image.shape[1] for image in images.values())
    frames = []
    for image in images.values():
        newest = image[..., -3:] if image.shape[2] % 3 == 0 else image[..., -1:].repeat(3, 2)
        frames.append(np.pad(newest, ((0, 0), (0, width - newest.shape[1]), (0, 0))))
    return np.concatenate(frames)
