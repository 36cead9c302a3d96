"""Frames in run folders and reports: contact sheets of data, strips of episodes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import fastifo
from fastifo.engine.pictures import GAP
from fastifo.envs.strip import FRAMES, Strip
from fastifo.report.report import report
from support import needs_rendering

RENDER: dict[str, Any] = {"cameras": ["front", "back"], "height": 24, "width": 32}


def episode(value: int, steps: int = 3) -> dict[str, Any]:
    """An episode whose frames are gray, a shade for each camera and step."""
    shades = np.arange(value, value + steps + 1, dtype=np.uint8)
    frames = np.broadcast_to(shades[:, None, None, None], (steps + 1, 24, 32, 3))
    images = {"front": frames, "back": frames + np.uint8(100)}
    return {"obs": np.zeros((steps + 1, 2)), "action": np.zeros((steps, 1)), "image": images}


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


@needs_rendering
def test_a_report_shows_frames_of_the_data_and_of_each_policy(tmp_path: Path) -> None:
    data = fastifo.Dataset.from_episodes(
        [episode(0), episode(10)], [episode(50)], action_low=-2, action_high=2
    )
    run = fastifo.train(
        "bc", data, env="own_envs:Boxes", env_kwargs={"render": RENDER}, seeds=range(2),
        num_updates=1, hidden_sizes=(4,), image_features=2,
        batch_size=2, progress=False, out=tmp_path / "run", device="cpu",
    )  # fmt: skip
    sheet = read(tmp_path / "run/frames-0.png")
    # One row of the expert's 4 frames, one of the background's 8; both cameras below each other.
    assert sheet.shape == (2 * 48 + GAP, 8 * (32 + GAP) - GAP, 3)
    for row, shades in enumerate(([50, 51, 52, 53], [0, 1, 2, 3, 10, 11, 12, 13])):
        for column, shade in enumerate(shades):
            top, left = row * (48 + GAP), column * (32 + GAP)
            assert (sheet[top : top + 24, left : left + 32] == shade).all()
            assert (sheet[top + 24 : top + 48, left : left + 32] == shade + 100).all()
    assert not (tmp_path / "run/episode.png").exists()
    returns = run.evaluate(2, progress=False)
    strip = read(tmp_path / "run/episode.png")
    columns = min(FRAMES, int(returns.lengths[:, 0].max()) + 1)
    assert strip.shape == (2 * 48 + GAP, columns * (32 + GAP) - GAP, 3)
    np.testing.assert_array_equal(strip[:24, :32], returns.strips[0][0][:24])
    report(tmp_path / "run")
    page = (tmp_path / "run/report.html").read_text()
    for title in (
        "Frames of the data of own_envs:Boxes",
        "An episode of each policy of bc, sampled",
    ):
        assert title in page
    assert page.count("data:image/png;base64") == 3


@pytest.mark.parametrize("length", [1, 5, FRAMES, 100, 1000])
def test_a_strip_spans_the_episode_in_little_memory(length: int) -> None:
    strip, most = Strip(), 0
    for step in range(length):
        strip.add(
            {"a": np.full((1, 1, 6), step % 256, np.uint8), "b": np.zeros((1, 2, 3), np.uint8)}
        )
        most = max(most, len(strip.kept))
    steps = [int(frame[0, 0, 0]) for frame in strip.frames()]
    assert {frame.shape for frame in strip.frames()} == {(2, 2, 3)}
    assert len(steps) == min(length, FRAMES)
    assert steps[0] == 0
    assert most <= 2 * FRAMES
    if length <= FRAMES:
        assert steps == list(range(length))
    if length == 100:
        assert steps[-1] > 85
        assert max(np.diff(steps)) <= 2 * min(np.diff(steps))
