"""Video files: their frames, and what is refused."""

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from fastifo.report import video
from support import full_disk

FRAMES = [np.full((9, 8, 3), (6 * i, 200, 255 - 6 * i), np.uint8) for i in range(40)]


def read_gif(path: Path) -> tuple[list[NDArray[np.uint8]], list[int]]:
    with Image.open(path) as image:
        frames = [
            (np.asarray(each.convert("RGB")), int(each.info["duration"]))
            for each in ImageSequence.Iterator(image)
        ]
    return [frame for frame, _ in frames], [duration for _, duration in frames]


def test_a_gif_has_every_frame_at_the_rate_of_the_simulation(tmp_path: Path) -> None:
    checker = np.indices((9, 8)).sum(0) % 2 * 255
    frames = [np.stack([np.roll(checker, i, 1)] * 3, -1).astype(np.uint8) for i in range(5)]
    video.write_video(tmp_path / "a.gif", frames, 20.0)
    read, durations = read_gif(tmp_path / "a.gif")
    np.testing.assert_array_equal(read, frames)
    assert durations == [50] * 5


def test_a_fast_simulation_leaves_frames_out(tmp_path: Path) -> None:
    video.write_video(tmp_path / "a.gif", FRAMES, 125.0)
    read, durations = read_gif(tmp_path / "a.gif")
    assert len(read) <= 20  # equal ones become one that lasts longer
    assert sum(durations) == pytest.approx(1000 * len(FRAMES) / 125, abs=25)


def test_an_mp4_has_every_frame(tmp_path: Path) -> None:
    video.write_video(tmp_path / "a.mp4", FRAMES, 20.0)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == 20
        read = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(read) == len(FRAMES)
    np.testing.assert_allclose(read, [frame[:8] for frame in FRAMES], atol=12)  # H.264 loses some


def test_names_and_missing_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"a.avi: expected a name that ends in .mp4 or .gif"):
        video.write_video(tmp_path / "a.avi", FRAMES, 20.0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert video.default_suffix() == ".gif"
    with pytest.raises(ImportError, match=r"MP4 needs the package av: pip install .*; or name a"):
        video.write_video(tmp_path / "a.mp4", FRAMES, 20.0)


def test_a_full_disk_leaves_no_half_video(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"a.gif"), full_disk():
        video.write_video(tmp_path / "a.gif", FRAMES, 20.0)
    assert list(tmp_path.iterdir()) == []
