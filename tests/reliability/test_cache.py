"""The cache affects speed only: one that is missing or cannot be written loses no work."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastifo
from fastifo.benchmarks import demonstrations
from fastifo.envs.experts import ExpertPolicy
from fastifo.utils.folders import cache_folder
from support import write_expert

TINY = "episodes=2,demos=2,bc_updates=2"


@pytest.fixture
def expert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(demonstrations, "NOISELESS_EPISODES", 1)
    return write_expert(tmp_path / "expert.npz")


@pytest.mark.parametrize("cache", ["/proc/none", "file", "file/below"])
@pytest.mark.parametrize(
    "spec", [f"sibench:Hopper-v4/d=1,{TINY},expert=", "bimodal:Hopper-v4/expert=1,total=2,policy="]
)
def test_a_cache_that_cannot_be_written_is_a_warning(
    expert: Path, tmp_path: Path, cache: str, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
    with pytest.warns(UserWarning, match=r"could not be cached: .*could not be written"):
        dataset = fastifo.load(f"{spec}{expert}", progress=False)
    assert dataset.background.num_episodes == 2


def test_without_a_home_folder_a_set_is_built_and_the_remedy_named(expert: Path) -> None:
    code = f"""
import pathlib, warnings
def nobody(*_):
    raise RuntimeError("Could not determine home directory.")
pathlib.Path.home = nobody
import fastifo
from fastifo.benchmarks import demonstrations
demonstrations.NOISELESS_EPISODES = 1
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    fastifo.load("sibench:Hopper-v4/d=1,{TINY},expert={expert}", progress=False)
print([str(w.message) for w in caught if "XDG_CACHE_HOME" in str(w.message)])
for spec in ("d4rl:hopper-medium-v2", "minari:mujoco/hopper/none-v0"):
    try:
        fastifo.load(spec, progress=False)
    except OSError as error:
        print(error)
"""
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "could not be cached: HOME: this user has no home folder" in lines[0]
    assert "set XDG_CACHE_HOME" in lines[1]
    assert "set MINARI_DATASETS_PATH" in lines[2]


def test_no_home_folder_is_an_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(OSError, match="set XDG_CACHE_HOME"):
        cache_folder()


@pytest.mark.parametrize("noise", ["nan", "inf", "-inf", "-0.1", "-nan"])
@pytest.mark.parametrize("spec", ["sibench:Hopper-v4/d=1", "bimodal:Hopper-v4/expert=1"])
def test_noise_that_is_no_finite_number_is_refused(spec: str, noise: str) -> None:
    with pytest.raises(ValueError, match="noise must be at least 0"):
        fastifo.load(f"{spec},noise={noise}", progress=False)


@pytest.mark.parametrize(
    "spec",
    [
        "sibench:Hopper-v4/d=1,episodes=1000000000",
        "sibench:Hopper-v4/d=1,demos=10000000",
        "bimodal:Hopper-v4/expert=1,total=1000000000",
        "bimodal:Hopper-v4/expert=1,demos=1000000000",
    ],
)
def test_an_absurd_number_of_episodes_is_refused_before_any_work(spec: str) -> None:
    with pytest.raises(ValueError, match="must be at most 100000"):
        fastifo.load(spec, progress=False)


def test_shares_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    from fastifo.cli.data import split
    from helpers import random_dataset

    for shares in ((math.nan, 0.5), (0.5, math.nan), (math.inf, 1.0), ()):
        with pytest.raises(ValueError, match="shares: expected"):
            split(random_dataset(), tmp_path / "x", shares, 0)


def test_a_pipe_in_the_place_of_an_expert_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="expected a file, found a pipe or a device"):
        ExpertPolicy(tmp_path / "pipe")
    with pytest.raises(ValueError, match="expected a file, found a pipe or a device"):
        fastifo.load(f"sibench:Hopper-v4/d=1,expert={tmp_path / 'pipe'}", progress=False)
    for other in ("/dev/zero", str(tmp_path)):
        with pytest.raises(ValueError, match="expected a file, found a"):
            ExpertPolicy(Path(other))
