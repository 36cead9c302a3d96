"""`fastifo data`, `sibench`, `study` and `improve` on tiny datasets."""

from pathlib import Path

import pytest

import fastifo
from cli.test_cli import SIZES, run
from data.test_formats import episodes, write_d4rl
from helpers import random_dataset
from support import write_expert

SMALL_NETS = ["--num-updates", "2", "--hidden-sizes", "8", "8"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["data"], ["inspect", "convert", "verify", "split"]),
        (["sibench"], ["build", "show"]),
        (["study"], ["sibench", "bimodal", "improve"]),
        (["study", "sibench"], ["--sizes", "--algorithms", "--out"]),
        (["improve"], ["--iterations", "--background"]),
    ],
)
def test_help_names_what_there_is(
    capsys: pytest.CaptureFixture[str], command: list[str], words: list[str]
) -> None:
    status, out, _ = run(capsys, *command, "--help")
    assert status == 0
    for word in words:
        assert word in out
    assert "noqa" not in out


def test_convert_inspect_verify_split(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_d4rl(tmp_path / "hopper_medium-v2.hdf5", episodes(10), next_observations=None)
    source, pack = f"d4rl:{tmp_path / 'hopper_medium-v2.hdf5'}", tmp_path / "a.fastifo"
    status, out, _ = run(
        capsys, "data", "convert", "--expert", f"{source},episodes=2", "--background", source,
        "--out", pack,
    )  # fmt: skip
    assert status == 0
    assert "environment  Hopper-v4" in out
    status, out, _ = run(capsys, "data", "inspect", pack)
    assert status == 0
    assert "10 episodes" in out
    status, out, _ = run(capsys, "data", "inspect", source)
    assert "transitions dropped for want of a next observation: 5" in out
    status, out, _ = run(capsys, "data", "verify", pack)
    assert status == 0
    assert out.startswith("sound")
    status, out, _ = run(capsys, "data", "split", pack, "--out", tmp_path / "part", "--shares",
                         "0.7", "0.3")  # fmt: skip
    assert status == 0
    parts = [fastifo.load(tmp_path / f"part-{i}.fastifo") for i in range(2)]
    assert [part.background.num_episodes for part in parts] == [7, 3]
    assert all(part.expert is not None and part.expert.num_episodes == 2 for part in parts)
    begins = {float(part.background.obs[0, 0].item()) for part in parts}  # no episode in both
    assert len(begins) == 2
    whole = fastifo.load(pack).background
    assert sum(part.background.num_transitions for part in parts) == whole.num_transitions
    for shares in (["0.5"], ["0.5", "0.6"], ["0.99", "0.01"]):
        status, _, err = run(
            capsys, "data", "split", pack, "--out", tmp_path / "p", "--shares", *shares
        )
        assert status == 2
        assert "shares: " in err


def test_train_from_two_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    random_dataset().save(tmp_path / "a.fastifo")
    status, _, err = run(
        capsys, "train", "vfo_bin", "--expert", tmp_path / "a.fastifo", "--background",
        tmp_path / "a.fastifo", "--out", tmp_path / "run", *SIZES,
    )  # fmt: skip
    assert status == 0, err
    assert fastifo.open_run(tmp_path / "run").num_updates == 3


@pytest.mark.slow
def test_sibench_study_and_improve(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tiny = ["--episodes", "2", "--bc-updates", "2"]
    status, out, err = run(
        capsys, "sibench", "build", "--env", "Hopper-v4", "--out", tmp_path / "sets", "--sizes",
        "1,2", *tiny,
    )  # fmt: skip
    assert status == 0, err
    assert out.count("return") == 2
    status, again, _ = run(capsys, "sibench", "show", tmp_path / "sets")
    assert again == out
    status, out, err = run(
        capsys, "study", "sibench", "--envs", "Hopper-v4", "--sizes", "1", "2", *tiny,
        "--algorithms", "bc", "--seeds", "0", "--evaluation-episodes", "2", *SMALL_NETS,
        "--set", "kernel_width=0.1", "activation=elu", "--out", tmp_path / "study",
        "--policy", write_expert(tmp_path / "own.npz"),
    )  # fmt: skip
    assert status == 0, err
    made = fastifo.open_run(tmp_path / "study/runs/Hopper-v4/bc")
    assert made.members[0].config.activation == "elu"
    assert made.datasets[0]["info"]["expert"]["file"] == "own.npz"
    assert (tmp_path / "study/report.html").is_file()
    status, out, err = run(
        capsys, "improve", "vfo_bin", "--background", tmp_path / "sets/Hopper-v4/d=1.fastifo",
        "--iterations", "2", "--episodes", "2", *SMALL_NETS, "--out", tmp_path / "improve",
    )  # fmt: skip
    assert status == 0, err
    assert (tmp_path / "improve/sawteeth.png").is_file()
    for wrong, message in {
        "alpha": "--set: expected NAME=VALUE such as temperature=3, found 'alpha'",
        "kernel_widht=1": "no field 'kernel_widht'; did you mean 'kernel_width'",
    }.items():
        for kind in ("sibench", "improve"):
            status, _, err = run(
                capsys, "study", kind, "--algorithms", "bc", "--set", wrong, "--out", tmp_path / "x"
            )
            assert status == 2
            assert message in err
    status, _, err = run(capsys, "sibench", "build", "--env", "Hopper-v4", "--sizes", "1,x")
    assert status == 2
    assert "sizes: expected numbers such as 1,10,100, found '1,x'" in err
    status, _, err = run(capsys, "sibench", "show", tmp_path / "cache")
    assert status == 2
    assert "no sets here" in err
