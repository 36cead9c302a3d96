"""`fastifo sweep`: flags, a TOML file, and both together."""

from pathlib import Path
from typing import Any

import pytest

from cli.commands import run
from fastifo.cli.machines import Machines
from fastifo.studies.sweep_results import Sweep
from fastifo.utils.executors import InProcess, Processes
from helpers import random_dataset

TOML = """
algorithm = "vfo_bin"
dataset = "{data}"
rungs = [2, 4]
proposer = "grid"
episodes = 2
final_seeds = [5]
final_episodes = 2

[space]
temperature = [0.5, 2.0]

[fields]
hidden_sizes = [8]
batch_size = 4
num_bins = 11
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """A sweep's file, next to its data."""
    data = tmp_path / "set.fastifo"
    random_dataset(env_id="Hopper-v4").save(data)
    path = tmp_path / "sweep.toml"
    path.write_text(TOML.format(data=data))
    return path


def test_a_file_and_flags_make_a_sweep(
    toml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    flags = ["--rungs", 3, "--set", "num_bins=12", "--final-seeds", "6,", "--play", "mode"]
    status, printed, err = run(capsys, "sweep", "--config", toml, "--out", out, *flags)
    assert status == 0, err
    assert "rung 1 of 1 (3 updates): 2 members in 1 population" in err
    assert f"table {out / 'results.csv'}" in printed
    result = Sweep.load(out / "sweep.json")
    assert [m.last.values for m in result.members] == [{"temperature": 0.5}, {"temperature": 2.0}]
    assert [m.seed for m in result.final] == [6]
    assert result.deterministic
    assert (out / "report.html").exists()


@pytest.mark.parametrize(
    ("change", "flags", "message"),
    [
        (("rungs", "rung"), [], "no argument 'rung'; did you mean 'rungs'"),
        (("rungs = [2, 4]", ""), [], "rungs: expected numbers of updates such as --rungs 1000"),
        (("algorithm", "#"), [], "algorithm: expected a name such as vfo_bin, found none"),
        (("[space]", "[space"), [], "expected TOML, found something else"),
        (("dataset", "#"), [], "dataset: expected --dataset"),
        (("0.5, 2.0", "-0.5, 2.0"), [], "temperature: expected above 0"),
        (("x", "x"), ["--set", "temperature=1"], "temperature: expected it in the space or with"),
        (("x", "x"), ["--space", "gamma=uniform(1)"], "expected uniform of two numbers"),
        (("x", "x"), ["--address", "auto", "--executor", "processes"], "address: the executor"),
        (("x", "x"), ["--slurm", "partition"], "--slurm: expected NAME=VALUE"),
        (("x", "x"), ["--config", "nowhere.toml"], "nowhere.toml: no such file"),
    ],
)
def test_mistakes_are_named(
    toml: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    flags: list[str],
    message: str,
) -> None:
    toml.write_text(toml.read_text().replace(*change))
    status, _, err = run(capsys, "sweep", "--config", toml, "--out", tmp_path / "out", *flags)
    assert status == 2
    assert message in err
    assert not (tmp_path / "out").exists()


def test_flags_choose_the_executor(tmp_path: Path) -> None:
    assert Machines().make(tmp_path) is None
    cases: list[tuple[dict[str, Any], type]] = [
        ({"workers": 2}, Processes), ({"executor": "in-process"}, InProcess)
    ]  # fmt: skip
    for flags, kind in cases:
        assert isinstance(Machines(**flags).make(tmp_path), kind)
