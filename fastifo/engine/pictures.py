"""Pictures in a run folder, which reports show: frames of its data, and of evaluated episodes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.envs.returns import Returns
from fastifo.envs.strip import newest_frame
from fastifo.utils.files import write_atomic

SHEET = "frames-{}.png"  # of the dataset with this number
EPISODE_OF = {False: "episode.png", True: "episode-deterministic.png"}  # by `deterministic`
COLUMNS, ROWS = 12, 2  # frames of each part of the data
GAP = 2  # pixels between frames
WHITE = 255


def write_sheets(folder: Path, datasets: Sequence[Dataset]) -> None:
    """Writes a contact sheet of each dataset that has images, unless it is there.

    It shows frames of the expert, if there is one, and below them as many rows of the background.
    Raises OSError naming a file that cannot be written.
    """
    for number, dataset in enumerate(datasets):
        path = folder / SHEET.format(number)
        if dataset.images and not path.exists():
            parts = [part for part in (dataset.expert, dataset.background) if part is not None]
            write_png(path, tiled([row for part in parts if part.images for row in _rows(part)]))


def _rows(episodes: Episodes) -> list[list[NDArray[np.uint8]]]:
    """Frames from the beginning of the first episode to the end of the last one."""
    total = episodes.num_transitions + episodes.num_episodes
    index = np.unique(np.linspace(0, total - 1, COLUMNS * ROWS).astype(np.int64))
    frames = [
        newest_frame({camera: each[i].numpy() for camera, each in episodes.images.items()})
        for i in index.tolist()
    ]
    return [frames[first : first + COLUMNS] for first in range(0, len(frames), COLUMNS)]


def write_episodes(folder: Path, returns: Returns) -> None:
    """Writes a strip of the first episode of each policy, if the policies saw images.

    Raises OSError naming a file that cannot be written.
    """
    rows = [frames for frames in returns.strips if frames]
    if rows:
        write_png(folder / EPISODE_OF[returns.deterministic], tiled(rows))


def tiled(rows: Sequence[Sequence[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Rows of frames of one size as one picture, [H, W, 3]; rows may differ in length."""
    height, width = rows[0][0].shape[:2]
    columns = max(map(len, rows))
    shape = (len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3)
    picture = np.full(shape, WHITE, np.uint8)
    for i, row in enumerate(rows):
        for j, frame in enumerate(row):
            top, left = i * (height + GAP), j * (width + GAP)
            picture[top : top + height, left : left + width] = frame
    return picture


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes a picture [H, W, 3].  Raises OSError naming the file where it cannot be written."""
    from PIL import Image

    image: Any = Image.fromarray(pixels)
    write_atomic(path, lambda temporary: image.save(temporary, format="PNG"))
