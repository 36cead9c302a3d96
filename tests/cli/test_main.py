"""Errors of the command line, and one pass through several commands."""

import json
from pathlib import Path
from typing import Any

import pytest

import fastifo
from cli.commands import SIZES, run, train
from fastifo.envs.returns import FILE_OF, MEAN_OF
from fastifo.utils.text import number_texts
from support import contents, write_expert


def test_from_a_spec_to_a_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    expert = write_expert(tmp_path / "expert.npz")
    spec = f"sibench:Hopper-v4/d=1,episodes=2,demos=2,bc_updates=2,expert={expert}"
    status, out, _ = run(
        capsys, "data", "convert", "--dataset", spec, "--out", tmp_path / "set.fastifo"
    )
    assert status == 0
    assert "environment  Hopper-v4" in out
    assert fastifo.load(tmp_path / "set.fastifo").background.num_episodes == 2

    runs = tmp_path / "runs"
    flags = ["--episodes", "2", "--eval-every", "2", "--eval-episodes", "1", "--play", "both"]
    printed = train(capsys, str(tmp_path / "set.fastifo"), runs / "a", "vfo_bin", *flags)
    for played in ("sampled", "mode"):
        assert f"1 member x 2 episodes ({played})" in printed
    rows = [json.loads(line) for line in (runs / "a/metrics.jsonl").read_text().splitlines()]
    for name in MEAN_OF.values():
        assert [row["update"] for row in rows if name in row] == [2, 3]

    command = ("evaluate", runs / "a", "--episodes", "3", "--play", "both", "--seed", "1")
    status, out, _ = run(capsys, *command)
    assert status == 0
    assert "1 member x 3 episodes (sampled)" in out
    assert "1 member x 3 episodes (mode)" in out
    for name in FILE_OF.values():
        assert str(fastifo.Returns.load(runs / "a" / name)) in out
    assert (runs / "a/returns-deterministic.npz").exists()

    status, out, _ = run(capsys, "evaluate", runs / "a", "--protocol", "last_tenth")
    assert status == 0
    assert "1 member x 1 evaluation in training (sampled)" in out
    last = [row["return_mean"] for row in rows if "return_mean" in row][-1]
    assert number_texts([last])[0] in out

    status, out, _ = run(capsys, "report", runs, "--figure", tmp_path / "figure.png")
    assert status == 0
    assert "vfo_bin" in out
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_a_mistake_is_one_line_and_status_two(
    capsys: pytest.CaptureFixture[str], dataset: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train(capsys, dataset, out, "bc")
    cut = tmp_path / "cut.fastifo"
    cut.write_bytes(Path(dataset).read_bytes()[:-1])
    before = contents(tmp_path)
    mistakes: list[tuple[list[Any], str]] = [
        (
            ["data", "inspect", tmp_path / "nowhere"],
            "expected a fastifo-dataset file, found nothing there",
        ),
        (["data", "verify", cut], "truncated or of another format"),
        (["data", "inspect", "sibench:Hopper-v4/d=x"], "d must be an integer"),
        (
            ["data", "convert", "--dataset", dataset, "--out", f"{dataset}/below"],
            "cannot be written",
        ),
        (["train", "bc", "--out", out], "expected --dataset, or --expert and --background"),
        (["report", tmp_path / "nowhere"], "no run below this folder"),
        (["evaluate", tmp_path], "no run here"),
        (["evaluate", out], "names no environment"),
        (["quickstart", "--env-id", "Walker2-v4", "--out", out], "did you mean 'Walker2d-v4'"),
        (["train", "awr", "--dataset", dataset, "--out", out, *SIZES], "holds another run"),
        (
            ["train", "bc", "--dataset", dataset, "--out", tmp_path / "new", "--batch-size", "0"],
            "batch_size: expected at least 1, found 0",
        ),
    ]
    for arguments, message in mistakes:
        status, _, err = run(capsys, *arguments)
        assert status == 2, (arguments, err)
        assert err.startswith("fastifo: "), err
        assert message in err
        assert err.count("\n") == 1, err
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "bcc", "--dataset", "a", "--out", "b"], ["bcc"]),
        (["train", "bc", "--dataset", "a", "--out", "b", "--batchsize", "3"], ["--batch-size"]),
        (["evaluate", "run", "--episodes", "many"], ["many"]),
    ],
)
def test_a_wrong_flag_is_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    status, _, err = run(capsys, *arguments)
    assert status == 2
    for word in words:
        assert word in err
    assert "Traceback" not in err


def test_ctrl_c_says_how_to_continue(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **fields: object) -> None:
        raise KeyboardInterrupt("stopped at update 5; a checkpoint was written")

    monkeypatch.setattr("fastifo.cli.data.load", stop)
    status, _, err = run(capsys, "data", "inspect", "set")
    assert status == 130
    assert "stopped at update 5; a checkpoint was written; run the same command" in err
