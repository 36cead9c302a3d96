"""Lists, names and former names of flags."""

import re
from typing import Any

import pytest

import fastifo
from cli.commands import run
from fastifo.cli.main import parse

STUDY = ["study", "sibench", "--out", "x"]
TRAIN = ["train", "vfo_bin", "--dataset", "a", "--out", "x"]
BUILD = ["sibench", "build", "--env-id", "Hopper-v4"]


def fields(*arguments: str) -> dict[str, Any]:
    """All fields of the command that the arguments ask for, with those of its subcommands."""
    values: dict[str, Any] = {}

    def add(command: Any) -> None:
        for name, value in vars(command).items():
            if hasattr(value, "__dataclass_fields__"):
                add(value)
            else:
                values[name] = value

    add(parse(arguments))
    return values


@pytest.mark.parametrize(
    ("command", "flag", "entries", "expected"),
    [
        (STUDY, "--sizes", ["1", "10", "100"], (1, 10, 100)),
        (STUDY, "--seeds", ["0", "1"], (0, 1)),
        (STUDY, "--hidden-sizes", ["8", "4"], (8, 4)),
        (STUDY, "--envs", ["Hopper-v4", "Ant-v4"], ("Hopper-v4", "Ant-v4")),
        (STUDY, "--algorithms", ["bc", "vfo_bin"], ("bc", "vfo_bin")),
        (["study", "bimodal", "--out", "x"], "--mixtures", ["0", "500"], (0, 500)),
        (["study", "improve", "--out", "x"], "--seeds", ["5", "4"], (5, 4)),
        (BUILD, "--sizes", ["1", "2"], (1, 2)),
        (TRAIN, "--seeds", ["0", "1", "2"], (0, 1, 2)),
        (TRAIN, "--temperature", ["0.1", "1"], (0.1, 1.0)),
        (TRAIN, "--activation", ["relu", "elu"], ("relu", "elu")),
        (TRAIN, "--hidden-sizes", ["8", "4"], (8, 4)),
        (TRAIN, "--encoder-scales", ["0.5", "2"], (0.5, 2.0)),
        (TRAIN, "--batch-size", ["8", "16"], (8, 16)),
        (["improve", "bc", "--background", "a", "--out", "x"], "--seeds", ["0", "7"], (0, 7)),
        (["improve", "dagger", "--out", "x"], "--betas", ["1", "0.5"], (1.0, 0.5)),
        (["quickstart"], "--hidden-sizes", ["8", "4"], (8, 4)),
        (["data", "split", "a", "--out", "x"], "--shares", ["0.25", "0.75"], (0.25, 0.75)),
    ],
)
def test_lists_are_separated_by_spaces_or_commas(
    command: list[str], flag: str, entries: list[str], expected: tuple[Any, ...]
) -> None:
    name = flag[2:].replace("-", "_")
    ways = [entries, [",".join(entries)], [entries[0] + ",", *entries[1:]], [", ".join(entries)]]
    for words in ways:
        assert fields(*command, flag, *words)[name] == expected, words
    assert fields(*command, f"{flag}={','.join(entries)}")[name] == expected


def test_settings_and_files_keep_their_commas() -> None:
    assert fields(*STUDY, "--set", "penalty=(1,2)", "a=b")["set"] == ("penalty=(1,2)", "a=b")
    tge = ["train", "tge", "--dataset", "x", "--out", "x", "--embeddings", "a,b/c"]
    assert fields(*tge)["embeddings"] == ("a,b/c",)
    assert fields("train", "bc", "--dataset", "a,b/c", "--out", "x,y")["dataset"] == ("a,b/c",)


def test_an_empty_list_is_a_list() -> None:
    assert fields(*TRAIN, "--hidden-sizes")["hidden_sizes"] == ()


def test_the_study_of_improvement_has_no_flags_that_it_ignores() -> None:
    flags = fields("study", "improve", "--out", "x").keys()
    assert flags.isdisjoint({"eval_episodes", "eval_every"})
    assert {"eval_episodes", "eval_every"} <= fields(*STUDY).keys()


@pytest.mark.parametrize(
    ("flag", "words"), [("--sizes", "1,x"), ("--seeds", "0 1.5"), ("--hidden-sizes", "8;8")]
)
def test_a_wrong_entry_of_a_list_is_shown(
    capsys: pytest.CaptureFixture[str], flag: str, words: str
) -> None:
    status, _, err = run(capsys, *STUDY, flag, *words.split())
    assert status == 2
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", err).split())
    assert "expected numbers such as 1 10 or 1,10" in text
    assert flag in text


@pytest.mark.parametrize(
    ("command", "number", "several"),
    [(TRAIN, 3, "0 1 2"), (STUDY, 1, "0"), (["quickstart"], 20, "0 1 ... 19")],
)
def test_a_single_number_is_no_list_of_seeds(
    capsys: pytest.CaptureFixture[str], command: list[str], number: int, several: str
) -> None:
    status, _, err = run(capsys, *command, "--seeds", number)
    assert status == 2
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", err).split())
    assert f"--seeds {several} for {number} seed" in text
    assert f"--seeds {number}, (with a comma) for seed {number} alone" in text
    assert fields(*command, "--seeds", f"{number},")["seeds"] == (number,)
    assert fields(*command, "--seeds", "0")["seeds"] == (0,)


@pytest.mark.parametrize(
    ("former", "today"),
    [
        (["quickstart", "--env", "Ant-v4"], ["quickstart", "--env-id", "Ant-v4"]),
        (["quickstart", "--hidden", "8"], ["quickstart", "--hidden-sizes", "8", "8"]),
        (["quickstart", "--hidden=8"], ["quickstart", "--hidden-sizes", "8,8"]),
        (["quickstart", "--eval-episodes", "5"], ["quickstart", "--episodes", "5"]),
        (["evaluate", "run", "--eval-episodes=5"], ["evaluate", "run", "--episodes", "5"]),
        (["sibench", "build", "--env=Ant-v4"], ["sibench", "build", "--env-id", "Ant-v4"]),
        ([*BUILD, "--expert", "a.npz"], [*BUILD, "--policy", "a.npz"]),
        ([*STUDY, "--evaluation-episodes", "5"], [*STUDY, "--eval-episodes", "5"]),
        ([*STUDY, "--evaluation_episodes", "5"], [*STUDY, "--eval-episodes", "5"]),
    ],
)
def test_former_flags_work_and_are_not_in_the_help(
    capsys: pytest.CaptureFixture[str], former: list[str], today: list[str]
) -> None:
    assert parse(former) == parse(today)
    command = former[: 1 + (former[0] in ("sibench", "study"))]
    _, out, _ = run(capsys, *command, "--help")
    flag = next(word for word in former[::-1] if word.startswith("--")).partition("=")[0]
    assert not re.search(rf"{flag}(?![\w-])", out.replace("_", "-"))


@pytest.mark.parametrize(
    ("command", "flag", "hint"),
    [
        (TRAIN, "--lr", "--learning-rate"),
        (TRAIN, "--lr=3", "--learning-rate"),
        (TRAIN, "--seed", "--seeds"),
        (TRAIN, "--num-update", "--num-updates"),
        (TRAIN, "--steps", "--num-updates"),
        (TRAIN, "--data", "--dataset"),
        (TRAIN, "--env", "--env-id"),
        (STUDY, "--hidden", "--hidden-sizes"),
        (STUDY, "--num-episodes", "--eval-episodes"),
        (["evaluate", "run"], "--num-episodes", "--episodes"),
        (BUILD, "--size", "--sizes"),
        (["report", "runs"], "--figur", "--figure"),
        (TRAIN, "--checkpoints-path", "--out"),
        (TRAIN, "--max-timesteps", "--num-updates"),
        (TRAIN, "--env-name", "--env-id"),
    ],
)
def test_an_unknown_flag_is_answered_with_the_right_one(
    capsys: pytest.CaptureFixture[str], command: list[str], flag: str, hint: str
) -> None:
    status, _, err = run(capsys, *command, flag, "3")
    assert status == 2
    assert f"fastifo: {flag.partition('=')[0]}: did you mean {hint}?\n" in err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"fastifo {fastifo.__version__}\n", "")


@pytest.mark.parametrize(
    ("command", "word", "hint"),
    [
        (["trian", "bc"], "trian", "train"),
        (["Report", "runs"], "Report", "report"),
        (["train", "BC", "--temperature", "1"], "BC", "bc"),
        (["train", "vfo-bin", "--temperature", "1"], "vfo-bin", "vfo_bin"),
        (["train", "tge_rebrac"], "tge_rebrac", "tge-rebrac"),
        (["relabel", "SEABO"], "SEABO", "seabo"),
        (["study", "sibensh"], "sibensh", "sibench"),
        (["data", "inspct", "file"], "inspct", "inspect"),
    ],
)
def test_an_unknown_command_is_answered_with_the_right_one_alone(
    capsys: pytest.CaptureFixture[str], command: list[str], word: str, hint: str
) -> None:
    status, _, err = run(capsys, *command)
    assert status == 2
    assert [line for line in err.splitlines() if line.startswith("fastifo: ")] == [
        f"fastifo: {word}: did you mean {hint}?"
    ]


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["train", "dagger", "--env-id", "Hopper-v4"], "dagger: DAgger is online and asks an ex"),
        (["train", "DAgger"], 'DAgger: .* fastifo improve dagger or fastifo.improve."dagger", '),
        (["dagger", "--env-id", "Hopper-v4"], "dagger: .* run it with fastifo improve dagger "),
        (["relabel", "dagger"], "dagger: .* run it with fastifo improve dagger "),
        (["PW-DICE"], "PW-DICE: is an algorithm; run it with fastifo train pw_dice"),
        (["relabel", "VfO-bin"], "VfO-bin: is an algorithm; run it with fastifo train vfo_bin"),
        (["train", "td3_bc"], r"td3_bc: did you mean rebrac\?"),
        (["improve", "dagger", "--betta", "1"], r"--betta: did you mean --betas\?"),
    ],
)
def test_an_algorithm_at_the_wrong_command_is_answered_with_the_right_one(
    capsys: pytest.CaptureFixture[str], command: list[str], line: str
) -> None:
    status, _, err = run(capsys, *command)
    assert status == 2
    (own,) = (line for line in err.splitlines() if line.startswith("fastifo: "))
    assert re.match(f"fastifo: {line}", own)
