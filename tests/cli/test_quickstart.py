"""`fastifo quickstart` on a tiny set."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import fastifo
from cli.commands import run
from fastifo.benchmarks.bimodal import BimodalSpec
from fastifo.benchmarks.sibench_spec import SIBenchSpec
from fastifo.benchmarks.spec import parse_spec
from fastifo.cli.quickstart import BUTTON, SETTINGS, Setting, setting_of
from support import contents

TASK = "metaworld/CoffeeButton"
TINY = (
    f"bimodal:{TASK}/expert=1,total=2,demos=1,object_error=0.15,env.max_episode_steps=40,"
    "env.success_terminal=false"
)


@pytest.mark.slow
def test_quickstart_prints_a_table_of_all_methods_and_can_be_repeated(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(SETTINGS, TASK, dataclasses.replace(BUTTON, spec=TINY))
    flags = ["--num-updates", "1", "--hidden-sizes", "4", "--episodes", "1", "--seeds", "0", "1"]
    command = ["quickstart", "--data-seed", "1", "--out", tmp_path / "out", *flags]
    status, out, err = run(capsys, *command)
    assert status == 0, err
    for row in ("background", "bc", "vfo_bin", "vfo_disc", "awr", "expert"):
        assert f" {row} " in out
    assert " success " in out
    figure = tmp_path / "out" / TASK / "report.png"
    assert f"figure  {figure}" in out
    assert f"page    {figure.with_name('report.html')}" in out
    next_command = f"fastifo train vfo_bin --dataset {figure.with_name('dataset.fastifo')} --out "
    assert next_command in "\n".join(out.splitlines()[-3:])
    assert figure.with_name("report.html").is_file()
    assert figure.read_bytes().startswith(b"\x89PNG")
    dataset = fastifo.load(figure.with_name("dataset.fastifo"))
    assert dataset.info["spec"]["seed"] == 1
    trained = fastifo.open_run(figure.with_name("vfo_bin"))
    learner = trained.policy(1).learner  # of the second seed
    cfg = learner.cfg
    assert (cfg.temperature, cfg.target_period, cfg.weight_decay) == (0.3, 50, 0.1)
    weights = {k: v for k, v in contents(tmp_path / "out").items() if "checkpoint" in k}
    assert len({Path(name).parts[2] for name in weights}) == 4
    assert run(capsys, *command)[0] == 0
    assert {k: v for k, v in contents(tmp_path / "out").items() if "checkpoint" in k} == weights


def test_the_specs_of_all_tasks_are_valid_and_mujoco_tasks_clone_the_expert() -> None:
    button = parse_spec(BimodalSpec, f"{BUTTON.spec},seed=4", "expert", "")
    assert (button.env_id, button.seed, button.clone) == (TASK, 4, 0)
    assert button.object_error > 0.0
    walker = setting_of("Walker2d-v4")
    spec = SIBenchSpec.parse(f"{walker.spec},seed=4")
    assert (spec.env_id, spec.seed, spec.d) == ("Walker2d-v4", 4, 50)
    assert (walker.num_updates, walker.seeds, walker.hidden_sizes) == (5000, (0,), (256, 256))


def test_flags_replace_the_setting_of_a_task(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []

    def record(env_id: str, out: Path, *rest: Any) -> Path:
        calls.append((env_id, out, *rest))
        return out / "report.png"

    monkeypatch.setattr("fastifo.cli.quickstart.quickstart", record)
    command = ["quickstart", "--env", "Hopper-v4", "--out", tmp_path]
    assert run(capsys, *command)[0] == 0
    assert (
        run(capsys, *command, "--seeds", "4", "5", "--num-updates", "7", "--data-seed", "2")[0] == 0
    )
    plain = setting_of("Hopper-v4")
    changed = dataclasses.replace(plain, seeds=(4, 5), num_updates=7)
    assert isinstance(plain, Setting)
    assert calls == [
        ("Hopper-v4", tmp_path / "Hopper-v4", plain, 0),
        ("Hopper-v4", tmp_path / "Hopper-v4", changed, 2),
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--env-id", "Hopper-v9"], "Hopper-v9"),
        (["--env-id", "Swimmer-v4"], "no expert ships for 'Swimmer-v4'"),
        (["--data-seed", "100"], "seed must be 0 to 99, found 100"),
    ],
)
def test_a_wrong_task_or_seed_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str], message: str
) -> None:
    status, _, err = run(capsys, "quickstart", "--out", tmp_path, *flags)
    assert status != 0
    assert message in err
    assert not list(tmp_path.iterdir())
