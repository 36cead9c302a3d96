"""Runs commands inside the test's process."""

from pathlib import Path

import pytest

from fastifo.cli.main import main

SIZES = ["--hidden-sizes", "8", "--batch-size", "4", "--num-bins", "11", "--num-updates", "3"]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of one command."""
    status = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as error:
        status = int(error.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


def train(
    capsys: pytest.CaptureFixture[str], dataset: str, out: Path, name: str, *more: object
) -> str:
    """Trains for three updates with tiny networks; returns standard output."""
    status, printed, err = run(
        capsys, "train", name, "--dataset", dataset, "--out", out, *SIZES, *more
    )
    assert status == 0, err
    return printed
