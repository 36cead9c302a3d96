"""`fastifo train` on a tiny dataset."""

import json
from pathlib import Path

import pytest

import fastifo
from cli.commands import SIZES, run, train
from fastifo.algos import ALGORITHMS
from fastifo.envs.returns import FILE_OF
from fastifo.utils.text import number_texts
from helpers import random_dataset
from support import contents


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_an_algorithm_trains_from_a_file(
    capsys: pytest.CaptureFixture[str], dataset: str, tmp_path: Path, name: str
) -> None:
    fields = vars(ALGORITHMS[name].Config())
    small_stages = {
        "disc_updates": 2,
        "first_disc_updates": 2,
        "inverse_updates": 2,
        "diffusion_updates": 2,
        "embedding_updates": 2,
        "embedding_batch_size": 8,
        "unet_width": 8,
        "horizon": 4,
    }
    flags = [
        part
        for field, value in small_stages.items()
        if field in fields
        for part in (f"--{field.replace('_', '-')}", str(value))
    ]
    printed = train(capsys, dataset, tmp_path / "run", name, *flags)
    assert str(tmp_path / "run") in printed
    opened = fastifo.open_run(tmp_path / "run")
    assert (opened.algorithm, opened.num_updates) == (name, 3)
    assert opened.members[0].config.hidden_sizes == (8,)
    manifest = json.loads((tmp_path / "run/checkpoint/manifest.json").read_text())
    assert manifest["train_s"] > 0


def test_a_second_backbone_has_its_own_subcommand(
    capsys: pytest.CaptureFixture[str], dataset: str, tmp_path: Path
) -> None:
    train(capsys, dataset, tmp_path / "run", "seabo-rebrac", "--policy-penalty", "0.5")
    config = fastifo.open_run(tmp_path / "run").members[0].config
    assert vars(config)["backbone"] == "rebrac"
    assert vars(config)["policy_penalty"] == 0.5
    assert vars(config)["critic_layer_norm"]


def test_expert_and_background_may_come_from_two_files(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    random_dataset().save(tmp_path / "a.fastifo")
    status, _, err = run(
        capsys, "train", "vfo_bin", "--expert", tmp_path / "a.fastifo", "--background",
        tmp_path / "a.fastifo", "--out", tmp_path / "run", *SIZES,
    )  # fmt: skip
    assert status == 0, err
    assert fastifo.open_run(tmp_path / "run").num_updates == 3


def test_without_an_environment_it_says_once_that_nothing_was_evaluated(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    random_dataset().save(tmp_path / "a.fastifo")
    command = ["train", "bc", "--dataset", tmp_path / "a.fastifo", "--out", tmp_path / "run"]
    for more, count in (([], 1), (["--episodes", "0"], 0)):
        status, out, err = run(capsys, *command, *SIZES, *more)
        assert status == 0, err
        assert (out + err).count("not evaluated: the data name no environment; give one") == count
        assert (out + err).count("--env-id Hopper-v4") == count


def test_several_values_are_a_sweep_and_seeds_multiply_it(
    capsys: pytest.CaptureFixture[str], dataset: str, tmp_path: Path
) -> None:
    sweep = ["--temperature", "0.1", "1", "--seeds", "0", "3", "--activation", "relu", "elu"]
    train(capsys, dataset, tmp_path / "run", "vfo_bin", *sweep)
    members = fastifo.open_run(tmp_path / "run").members
    values = {(m.config.temperature, m.config.activation, m.seed) for m in members}  # type: ignore[attr-defined]
    assert values == {(t, a, s) for t in (0.1, 1.0) for a in ("relu", "elu") for s in (0, 3)}
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


def test_repeating_the_command_changes_nothing(
    capsys: pytest.CaptureFixture[str], dataset: str, tmp_path: Path
) -> None:
    train(capsys, dataset, tmp_path / "run", "bc")
    before = contents(tmp_path)
    train(capsys, dataset, tmp_path / "run", "bc")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command", ["train", "relabel"])
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--horizon", "12"], "horizon: expected"),
        (["--neighbour-backend", "faiss-gpu"], "neighbour_backend: faiss-gpu expects FAISS"),
        (["--preset", "nonsense"], "preset"),
    ],
)
def test_wrong_settings_are_refused_before_the_dataset_is_built(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: str,
    flags: list[str],
    words: str,
) -> None:
    loaded: list[object] = []
    monkeypatch.setattr("fastifo.cli.options.load", lambda *args, **kwargs: loaded.append(args))
    spec = ["--dataset", "sibench:Hopper-v4/d=5", "--out", tmp_path / "run"]
    status, _, err = run(capsys, command, "tge", *spec, *flags)
    assert status == 2
    assert words in err
    assert not loaded


@pytest.mark.slow
def test_sampled_actions_and_the_mode_of_every_member_are_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    random_dataset(env_id="Hopper-v4").save(tmp_path / "a.fastifo")
    flags = ["--seeds", "0", "3", "--episodes", "2"]
    printed = train(capsys, str(tmp_path / "a.fastifo"), tmp_path / "run", "bc", *flags)
    status, evaluated, _ = run(capsys, "evaluate", tmp_path / "run", "--episodes", "2")
    assert status == 0
    for out in (printed, evaluated):
        for kind in ("sampled", "mode"):
            assert out.count(f"2 members x 2 episodes ({kind})") == 1
    returns = [fastifo.Returns.load(tmp_path / "run" / name) for name in FILE_OF.values()]
    sampled, mode = (number_texts(each.per_member) for each in returns)
    assert f"  member 1, seed=3: sampled {sampled[1]}  mode {mode[1]}" in evaluated
