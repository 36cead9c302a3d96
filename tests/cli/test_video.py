"""`fastifo video` on a tiny run."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

import fastifo
from cli.commands import run
from support import needs_rendering

WIDTHS = {"obs": (4, 2), "action": (3, 1)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run in an environment with a MuJoCo model."""
    episode = {name: np.zeros(shape) for name, shape in WIDTHS.items()}
    data = fastifo.Dataset.from_episodes([episode], action_low=-2, action_high=2)
    fastifo.train("bc", data, env="own_envs:Boxes", num_updates=1, hidden_sizes=(4,),
                  progress=False, out=tmp_path / "run")  # fmt: skip
    return tmp_path / "run"


@needs_rendering
def test_a_policy_is_filmed(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    out = folder / "film.gif"
    flags = ["--env-id", "own_envs:Boxes", "--max-steps", 3, "--size", 32, "--camera", "back"]
    status, printed, err = run(capsys, "video", folder, "--out", out, *flags)
    assert status == 0, err
    assert "in 3 steps, " in printed
    assert printed.endswith(f"seen by back\nvideo   {out}\n")
    with Image.open(out) as image:
        assert {frame.size for frame in ImageSequence.Iterator(image)} == {(32, 32)}


@needs_rendering
def test_what_cannot_be_filmed_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    for flags, message in (
        (["--out", "a.avi"], "a.avi: expected a name that ends in .mp4 or .gif"),
        (["--camera", "bck"], "has no camera 'bck'; did you mean 'back'?"),
        (["--out", __file__ + "/a.gif", "--env-id", "Nope-v0"], "a.gif: cannot be written"),
        (["--member", 3], "--member: expected best or a number below 1, found 3"),
    ):
        named = ["--env-id", "own_envs:Boxes", "--out", folder / "a.gif"]
        status, _, err = run(capsys, "video", folder, *named, *flags)
        assert status == 2
        assert message in err.strip().splitlines()[-1]
    assert not (folder / "a.gif").exists()


def test_a_folder_without_a_run_is_not_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, _, err = run(capsys, "video", tmp_path / "missing")
    assert status == 2
    assert "missing: no run here" in err
    assert not (tmp_path / "missing").exists()
