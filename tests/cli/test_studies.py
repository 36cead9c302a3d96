"""`fastifo sibench`, `study` and `improve` on tiny tasks."""

from pathlib import Path

import pytest

import fastifo
from cli.commands import run
from support import write_expert

SMALL_NETS = ["--num-updates", "2", "--hidden-sizes", "8", "8"]


@pytest.mark.slow
def test_sibench_study_and_improve(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tiny = ["--episodes", "2", "--bc-updates", "2"]
    status, out, err = run(
        capsys, "sibench", "build", "--env-id", "Hopper-v4", "--out", tmp_path / "sets", "--sizes",
        "1,2", *tiny,
    )  # fmt: skip
    assert status == 0, err
    assert out.count("return") == 2
    status, again, _ = run(capsys, "sibench", "show", tmp_path / "sets")
    assert again == out

    status, out, err = run(
        capsys, "study", "sibench", "--envs", "Hopper-v4", "--sizes", "1", "2", *tiny,
        "--algorithms", "bc", "--seeds", "0", "--eval-episodes", "2", *SMALL_NETS,
        "--set", "kernel_width=0.1", "activation=elu", "--out", tmp_path / "study",
        "--policy", write_expert(tmp_path / "own.npz"),
    )  # fmt: skip
    assert status == 0, err
    trained = fastifo.open_run(tmp_path / "study/runs/Hopper-v4/bc")
    assert trained.members[0].config.activation == "elu"
    assert trained.datasets[0]["info"]["expert"]["file"] == "own.npz"
    assert (tmp_path / "study/report.html").is_file()

    status, out, err = run(
        capsys, "improve", "vfo_bin", "--background", tmp_path / "sets/Hopper-v4/d=1.fastifo",
        "--iterations", "2", "--episodes", "2", *SMALL_NETS, "--out", tmp_path / "improve",
    )  # fmt: skip
    assert status == 0, err
    assert (tmp_path / "improve/sawteeth.png").is_file()


def test_dagger_with_an_expert_by_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, err = run(
        capsys, "improve", "dagger", "--expert", "own_envs:steer", "--env-id", "own_envs:Track",
        "--iterations", "2", "--episodes", "2", "--betas", "1", "0.5", *SMALL_NETS,
        "--set", "num_bins=11", "batch_size=4",
        "--out", tmp_path / "dagger",
    )  # fmt: skip
    assert status == 0, err
    assert "own_envs:Track: dagger" in out
    assert (tmp_path / "dagger/sawteeth.png").is_file()
    played = fastifo.load(tmp_path / "dagger/seed-0/iteration-01/played.fastifo")
    assert played.info["beta"] == 0.5
    status, _, err = run(capsys, "improve", "vfo_bin", "--out", tmp_path / "x")
    assert status == 2
    assert "seed_background: expected a dataset" in err


def test_a_study_of_noisy_experts_reports_success(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tiny = [
        "--envs", "metaworld/CoffeeButton", "--algorithms", "bc", "--seeds", "0", "1",
        "--episodes", "3", "--demos", "2", "--eval-episodes", "2", "--num-updates", "2",
        "--preset", "robomimic", "--env-arg", "max_episode_steps=40", "success_terminal=false",
    ]  # fmt: skip
    noise = ["--background-noise", "0.1", "1"]
    out = tmp_path / "study"
    small = ["--hidden-sizes", "8", "8", "--eval-every", "1"]
    status, text, err = run(capsys, "study", "sibench", *tiny, *noise, *small, "--out", out)
    assert status == 0, err
    for words in ("background_noise=0.1: returns", "background_noise=1.0: returns", "success"):
        assert words in text
    trained = fastifo.open_run(out / "runs/metaworld/CoffeeButton/bc")
    config = trained.members[0].config
    assert (config.weight_decay, config.hidden_sizes) == (0.1, (8, 8))
    settings = {"max_episode_steps": 40, "success_terminal": False}
    assert trained.env_kwargs == settings
    half = trained.evaluate(protocol="last_half")
    assert half.returns.shape == (4, 1)  # two sets and two seeds; after the second update
    rows = (out / "results.csv").read_text().splitlines()
    assert len(rows) == 5  # two sets and two seeds, below the header
    assert rows[1].startswith("metaworld/CoffeeButton,background_noise=0.1,")

    status, _, err = run(
        capsys, "study", "sibench", *tiny, *noise, "--sizes", "1", "--out", tmp_path / "x"
    )
    assert status == 2
    assert "expected --sizes or --background-noise, found both" in err


def test_a_bimodal_study_passes_on_what_says_who_plays(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}
    monkeypatch.setattr(
        "fastifo.cli.study.study_bimodal", lambda *args, **fields: given.update(fields)
    )
    monkeypatch.setattr("fastifo.cli.study.StudyOptions.write_report", lambda self: None)
    flags = ["--object-error", "0.1", "--noise", "0.3", "--env-arg", "max_episode_steps=80"]
    status, _, err = run(capsys, "study", "bimodal", *flags, "--out", tmp_path)
    assert status == 0, err
    options = given["set_options"]
    assert isinstance(options, dict)
    kept = {name: options[name] for name in ("object_error", "noise", "env.max_episode_steps")}
    assert kept == {"object_error": 0.1, "noise": 0.3, "env.max_episode_steps": 80}
    run(capsys, "study", "bimodal", "--out", tmp_path)
    options = given["set_options"]
    assert isinstance(options, dict)
    assert "noise" not in options
    assert options["object_error"] == 0


@pytest.mark.parametrize(
    ("called", "words", "flags", "name", "value"),
    [
        ("sibench.build_sets", ["sibench", "build", "--env-id", "a"], ["--noise", "1"], "noise", 1),
        ("improve.improve", ["improve", "bc"], ["--hidden-sizes", "8"], "hidden_sizes", (8,)),
    ],
)
def test_without_a_flag_the_function_chooses(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    called: str, words: list[str], flags: list[str], name: str, value: object,
) -> None:  # fmt: skip
    given: dict[str, object] = {}

    def record(*arguments: object, **fields: object) -> list[Path]:
        given.update({name: None} | fields)
        return []

    monkeypatch.setattr(f"fastifo.cli.{called}", record)
    monkeypatch.setattr("fastifo.cli.sibench.show", lambda paths: None)
    monkeypatch.setattr("fastifo.report.report.report", lambda out: out)
    status, _, err = run(capsys, *words, "--out", tmp_path)
    assert status == 0, err
    assert given[name] is None
    run(capsys, *words, *flags, "--out", tmp_path)
    assert given[name] == value


@pytest.mark.parametrize("kind", ["sibench", "improve"])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("alpha", "--set: expected NAME=VALUE such as temperature=3, found 'alpha'"),
        ("kernel_widht=1", "no field 'kernel_widht'; did you mean 'kernel_width'"),
    ],
)
def test_a_wrong_setting_of_a_study_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str, setting: str, message: str
) -> None:
    status, _, err = run(
        capsys, "study", kind, "--algorithms", "bc", "--set", setting, "--out", tmp_path / "x"
    )
    assert status == 2
    assert message in err


def test_sibench_errors_name_the_cause(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, _, err = run(capsys, "sibench", "build", "--env-id", "Hopper-v4", "--sizes", "1,x")
    assert status == 2
    assert "expected numbers such as 1 10 or 1,10" in err
    status, _, err = run(capsys, "sibench", "show", tmp_path / "cache")
    assert status == 2
    assert "no sets here" in err
