"""The native engine and the CPU ops compute each loss from one header: the bits are the same."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fastifo import _C

CSRC = Path(__file__).parents[2] / "csrc"
NAMES = sorted(
    name
    for path in (CSRC / "losses").glob("*.h")
    for name in re.findall(r'kName = "(\w+)"', path.read_text())
)


def test_engine_and_ops_give_the_same_gradients_and_weights(tmp_path: Path) -> None:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    assert compiler is not None
    program = tmp_path / "losses_agree"
    command = [compiler, "-std=c++20", "-O1", "-Wno-psabi", "-DFASTIFO_ISA=plain", f"-I{CSRC}"]
    sources = [Path(__file__).with_name("losses_agree.cpp")]
    sources += [CSRC / "ops/advantage.cpp", CSRC / "ops/dual.cpp"]
    subprocess.run([*command, *map(str, sources), "-o", str(program)], check=True)
    done = subprocess.run([str(program)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_header_is_in_the_list(name: str) -> None:
    metrics = _C.metric_names(name)
    assert len(metrics) == len(set(metrics)) > 0


def test_an_unknown_loss_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"method: expected one of .*, found gail") as error:
        _C.metric_names("gail")
    listed = str(error.value).removeprefix("method: expected one of ").removesuffix(", found gail")
    assert sorted(listed.split(", ")) == NAMES
