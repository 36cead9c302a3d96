"""The help of every command and algorithm."""

import pytest

from cli.commands import run
from fastifo.algos import ALGORITHMS
from fastifo.algos.config import field_help
from fastifo.cli.main import COMMANDS

GROUPS = {"data", "sibench", "study"}


@pytest.mark.parametrize("command", ["quickstart", "train", "evaluate", "data", "report"])
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, out, _ = run(capsys, "--help")
    assert status == 0
    assert command in out
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert f"fastifo {command}" in out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["data"], ["inspect", "convert", "verify", "split"]),
        (["sibench"], ["build", "show"]),
        (["study"], ["sibench", "bimodal", "improve"]),
        (["study", "sibench"], ["--sizes", "--algorithms", "--out"]),
        (["improve"], ["--iterations", "--background", "dagger", "--beta-decay", "--betas"]),
    ],
)
def test_help_lists_subcommands_and_flags(
    capsys: pytest.CaptureFixture[str], command: list[str], words: list[str]
) -> None:
    status, out, _ = run(capsys, *command, "--help")
    assert status == 0
    for word in words:
        assert word in out
    assert "noqa" not in out


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - GROUPS))
def test_help_ends_with_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert f"Example   fastifo {command}" in out


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_help_of_a_subcommand_ends_with_an_example(
    capsys: pytest.CaptureFixture[str], group: str
) -> None:
    for name in COMMANDS[group].commands:
        status, out, _ = run(capsys, group, name, "--help")
        assert status == 0
        assert f"Example   fastifo {group} {name}" in out


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_the_help_of_an_algorithm_names_every_field(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    status, out, _ = run(capsys, "train", name, "--help")
    assert status == 0
    for field in field_help(ALGORITHMS[name].Config):
        assert field == "backbone" or f"--{field.replace('_', '-')}" in out


@pytest.mark.parametrize(
    ("command", "name", "presets", "source"),
    [
        ("train", "bc", ["vfo", "orig", "robomimic"], "CORL's any_percent_bc"),
        ("train", "rebrac", ["vfo", "hopper-medium", "pen-human"], "arXiv:2305.09836"),
        ("relabel", "seabo", ["vfo", "antmaze"], "arXiv:2402.03807"),
        ("relabel", "seabo-rebrac", ["vfo", "hopper-medium"], "arXiv:2305.09836"),
    ],
)
def test_the_help_of_an_algorithm_lists_its_presets_with_their_sources(
    capsys: pytest.CaptureFixture[str], command: str, name: str, presets: list[str], source: str
) -> None:
    _, out, _ = run(capsys, command, name, "--help")
    text = out.rpartition("Presets of this algorithm")[2]
    for word in [*presets, source]:
        assert word in text


def test_no_command_is_an_error_that_lists_the_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, _, err = run(capsys)
    assert status == 2
    assert "quickstart" in err
