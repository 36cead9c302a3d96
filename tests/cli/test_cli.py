"""The command line: every command on a tiny dataset, and errors of one line."""

import json
from pathlib import Path
from typing import Any

import pytest

import fastifo
from fastifo.algos import ALGORITHMS
from fastifo.algos.config import field_help
from fastifo.cli.main import main
from fastifo.envs.returns import MEAN_OF
from helpers import random_dataset
from support import contents, write_expert

SIZES = ["--hidden-sizes", "8", "--batch-size", "4", "--num-bins", "11", "--num-updates", "3"]


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    path = tmp_path / "set.fastifo"
    random_dataset().save(path)
    return str(path)


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
    status, printed, err = run(
        capsys, "train", name, "--dataset", dataset, "--out", out, *SIZES, *more
    )
    assert status == 0, err
    return printed


@pytest.mark.parametrize("command", ["quickstart", "train", "evaluate", "data", "report"])
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, out, _ = run(capsys, "--help")
    assert status == 0
    assert command in out
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert f"fastifo {command}" in out


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_the_help_of_an_algorithm_names_every_field(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    status, out, _ = run(capsys, "train", name, "--help")
    assert status == 0
    for field in field_help(ALGORITHMS[name].Config):
        assert field == "backbone" or f"--{field.replace('_', '-')}" in out


def test_no_command_is_an_error_with_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys)
    assert status == 2
    assert "quickstart" in err


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_an_algorithm_trains_from_a_file(
    capsys: pytest.CaptureFixture[str], dataset: str, tmp_path: Path, name: str
) -> None:
    known = vars(ALGORITHMS[name].Config())
    stages = {
        "disc_updates": 2,
        "inverse_updates": 2,
        "diffusion_updates": 2,
        "unet_width": 8,
        "horizon": 4,
    }
    more = [
        part
        for field, value in stages.items()
        if field in known
        for part in (f"--{field.replace('_', '-')}", str(value))
    ]
    printed = train(capsys, dataset, tmp_path / "run", name, *more)
    assert str(tmp_path / "run") in printed
    opened = fastifo.open_run(tmp_path / "run")
    assert (opened.algorithm, opened.num_updates) == (name, 3)
    assert opened.members[0].config.hidden_sizes == (8,)
    manifest = json.loads((tmp_path / "run/checkpoint/manifest.json").read_text())
    assert manifest["train_s"] > 0


def test_a_further_backbone_is_a_subcommand_of_its_own(
    capsys: pytest.CaptureFixture[str], dataset: str, tmp_path: Path
) -> None:
    train(capsys, dataset, tmp_path / "run", "seabo-rebrac", "--policy-penalty", "0.5")
    config = fastifo.open_run(tmp_path / "run").members[0].config
    assert vars(config)["backbone"] == "rebrac"
    assert vars(config)["policy_penalty"] == 0.5
    assert vars(config)["critic_layer_norm"]


@pytest.mark.parametrize("suffix", ["hdf5", "fastifo"])
def test_relabel_writes_a_dataset_with_rewards(
    capsys: pytest.CaptureFixture[str], dataset: str, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"rewarded.{suffix}"
    status, printed, err = run(capsys, "relabel", "seabo", "--dataset", dataset, "--out", out)
    assert status == 0, err
    assert str(out) in printed
    reward = fastifo.load(f"d4rl:{out}" if suffix == "hdf5" else out).background.reward
    assert reward is not None
    assert 0.0 < float(reward.min()) < float(reward.max()) <= 1.0


@pytest.mark.parametrize("command", ["train", "relabel"])
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--horizon", "12"], "horizon: expected"),
        (["--neighbour-backend", "faiss-gpu"], "neighbour_backend: faiss-gpu expects FAISS"),
        (["--preset", "nonsense"], "preset"),
    ],
)
def test_settings_are_refused_before_data_are_made(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: str,
    flags: list[str],
    words: str,
) -> None:
    made: list[object] = []
    monkeypatch.setattr("fastifo.data.load.load", lambda *given, **named: made.append(given))
    spec = ["--dataset", "sibench:Hopper-v4/d=5", "--out", tmp_path / "run"]
    status, _, err = run(capsys, command, "tge", *spec, *flags)
    assert status == 2
    assert words in err
    assert not made


def test_relabel_refuses_to_write_over_its_source_or_where_nothing_can_be(
    capsys: pytest.CaptureFixture[str], dataset: str, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    for out, words in ((dataset, "is what the data come from"), (f"{dataset}/x.hdf5", dataset)):
        more = ["--dataset", dataset, "--out", out, "--folder", tmp_path / "model"]
        status, _, err = run(capsys, "relabel", "seabo", *more)
        assert status == 2
        assert words in err
    assert contents(tmp_path) == before


def test_several_values_are_a_sweep_and_seeds_multiply_it(
    capsys: pytest.CaptureFixture[str], dataset: str, tmp_path: Path
) -> None:
    sweep = ["--temperature", "0.1", "1", "--seeds", "0", "3", "--activation", "relu", "elu"]
    train(capsys, dataset, tmp_path / "run", "vfo_bin", *sweep)
    members = fastifo.open_run(tmp_path / "run").members
    found = {(m.config.temperature, m.config.activation, m.seed) for m in members}  # type: ignore[attr-defined]
    assert found == {(t, a, s) for t in (0.1, 1.0) for a in ("relu", "elu") for s in (0, 3)}
    assert len(members) == 8


def test_flags_reach_the_fields_they_name(
    capsys: pytest.CaptureFixture[str], dataset: str, tmp_path: Path
) -> None:
    train(
        capsys,
        dataset,
        tmp_path / "run",
        "bc",
        "--standardize-obs",
        "--no-decoupled-weight-decay",
        "--encoder-scales",
        "1",
        "10",
        "--kernel-reading",
        "probs",
    )
    config = fastifo.open_run(tmp_path / "run").members[0].config
    assert config.standardize_obs
    assert not config.decoupled_weight_decay
    assert config.encoder_scales == (1.0, 10.0)
    assert config.kernel_reading == "probs"


def test_the_same_command_again_changes_nothing(
    capsys: pytest.CaptureFixture[str], dataset: str, tmp_path: Path
) -> None:
    train(capsys, dataset, tmp_path / "run", "bc")
    before = contents(tmp_path)
    train(capsys, dataset, tmp_path / "run", "bc")
    assert contents(tmp_path) == before


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
    more = ["--episodes", "2", "--eval-every", "2", "--eval-episodes", "1", "--play", "both"]
    printed = train(capsys, str(tmp_path / "set.fastifo"), runs / "a", "vfo_bin", *more)
    for played in ("sampled", "mode"):
        assert f"1 members x 2 episodes ({played})" in printed
    rows = [json.loads(line) for line in (runs / "a/metrics.jsonl").read_text().splitlines()]
    for name in MEAN_OF.values():
        assert [row["update"] for row in rows if name in row] == [2, 3]

    command = ("evaluate", runs / "a", "--episodes", "3", "--play", "both", "--seed", "1")
    status, out, _ = run(capsys, *command)
    assert status == 0
    assert "1 members x 3 episodes (sampled)" in out
    assert "1 members x 3 episodes (mode)" in out
    found = [
        fastifo.Returns.load(runs / "a" / name).mean
        for name in ("returns.npz", "returns-deterministic.npz")
    ]
    assert f"member 0, seed=0: {found[0]:.1f}  {found[1]:.1f}" in out
    assert (runs / "a/returns-deterministic.npz").exists()

    status, out, _ = run(capsys, "evaluate", runs / "a", "--protocol", "last_tenth")
    assert status == 0
    assert "1 members x 1 evaluations in training (sampled)" in out
    last = [row["return_mean"] for row in rows if "return_mean" in row][-1]
    assert f"{last:.1f}" in out

    status, out, _ = run(capsys, "report", runs, "--figure", tmp_path / "figure.png")
    assert status == 0
    assert "vfo_bin" in out
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.slow
def test_quickstart_prints_a_table_of_all_methods_and_can_be_repeated(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert = write_expert(tmp_path / "expert.npz", 17, 6)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = f"sibench:Walker2d-v4/d=1,episodes=2,demos=2,bc_updates=2,expert={expert}"
    small = fastifo.load(spec, progress=False)
    monkeypatch.setattr("fastifo.cli.quickstart.load", lambda spec: small)
    more = ["--num-updates", "5", "--hidden", "4", "--episodes", "2"]
    command = ["quickstart", "--env", "Walker2d-v4", "--out", tmp_path / "out", *more]
    status, out, err = run(capsys, *command)
    assert status == 0, err
    for row in ("background", "bc", "vfo_bin", "vfo_disc", "awr", "expert"):
        assert f" {row} " in out
    figure = tmp_path / "out/Walker2d-v4/report.png"
    assert f"figure  {figure}" in out
    assert figure.read_bytes().startswith(b"\x89PNG")
    weights = {k: v for k, v in contents(tmp_path / "out").items() if "checkpoint" in k}
    assert len({Path(name).parts[1] for name in weights}) == 4
    assert run(capsys, *command)[0] == 0
    assert {k: v for k, v in contents(tmp_path / "out").items() if "checkpoint" in k} == weights


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
        (["data", "verify", cut], "cut or foreign"),
        (["data", "inspect", "sibench:Hopper-v4/d=x"], "d must be an integer"),
        (
            ["data", "convert", "--dataset", dataset, "--out", f"{dataset}/below"],
            "could not be written",
        ),
        (["train", "bc", "--out", out], "expected --dataset, or --expert and --background"),
        (["report", tmp_path / "nowhere"], "no run below this folder"),
        (["evaluate", tmp_path], "no run here"),
        (["evaluate", out], "names no environment"),
        (["quickstart", "--env", "Walker2-v4", "--out", out], "did you mean 'Walker2d-v4'"),
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

    monkeypatch.setattr("fastifo.data.load.load", stop)
    status, _, err = run(capsys, "data", "inspect", "set")
    assert status == 130
    assert "stopped at update 5; a checkpoint was written; run the same command" in err
