"""Videos of frames: MP4 where the package `av` is installed, GIF everywhere."""

import importlib
import importlib.util
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.utils.files import write_atomic

INSTALL = "pip install 'fastifo[video]'"
MAX_GIF_RATE = 50.0  # frames in a second that every viewer plays
PALETTE_FRAMES = 16  # that the colors of a GIF are chosen from
BIT_RATE = 4_000_000  # of MP4, bits in a second


def default_suffix() -> str:
    """The kind of file that can be written here."""
    return ".mp4" if importlib.util.find_spec("av") is not None else ".gif"


def check_name(path: Path) -> None:
    """Raises ValueError for a name of another kind; ImportError for MP4 without `av`."""
    if path.suffix.lower() not in (".mp4", ".gif"):
        raise ValueError(f"{path}: expected a name that ends in .mp4 or .gif")
    if path.suffix.lower() == ".mp4" and default_suffix() != ".mp4":
        raise ImportError(f"{path}: MP4 needs the package av: {INSTALL}; or name a .gif")


def write_video(path: Path, frames: Sequence[NDArray[np.uint8]], frames_per_s: float) -> None:
    """Writes a video, whole or not at all.

    path: ends in .mp4 or .gif.  frames: [H, W, 3] each, of one size.
    Raises as `check_name`; OSError naming the file where it cannot be written.
    """
    check_name(path)
    write = _write_mp4 if path.suffix.lower() == ".mp4" else _write_gif
    write_atomic(path, lambda temporary: write(temporary, frames, frames_per_s))


def _write_gif(path: Path, frames: Sequence[NDArray[np.uint8]], frames_per_s: float) -> None:
    from PIL import Image

    every = math.ceil(frames_per_s / MAX_GIF_RATE)  # frames are left out, not slowed down
    images = [Image.fromarray(frame) for frame in frames[::every]]
    # One palette for all, or the colors would flicker; it comes from frames of the whole episode.
    sample = frames[:: 1 + len(frames) // PALETTE_FRAMES]
    palette = Image.fromarray(np.concatenate(sample)).quantize(256)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    # The format counts in hundredths of a second: their sum is right, whatever the rate.
    ends = [10 * round(100.0 * every * n / frames_per_s) for n in range(len(images) + 1)]
    durations = [end - begin for begin, end in itertools.pairwise(ends)]
    images[0].save(
        path, format="GIF", save_all=True, append_images=images[1:], loop=0, duration=durations
    )


def _write_mp4(path: Path, frames: Sequence[NDArray[np.uint8]], frames_per_s: float) -> None:
    av: Any = importlib.import_module("av")
    height, width = (size - size % 2 for size in frames[0].shape[:2])  # H.264 wants even numbers
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=max(1, round(frames_per_s)))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = BIT_RATE
        for frame in frames:
            pixels = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
