"""Errors name the wrong input, what was expected, what was found and what to do.

Files that were on the disk before stay unchanged, byte for byte.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastifo
from fastifo.engine.callbacks import EvaluateEvery
from helpers import SMALL, random_dataset
from support import contents

QUIET: dict[str, Any] = {"num_updates": 4, "progress": False, **SMALL}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a run, a dataset and another program's file, which the test must not change."""
    train("bc", random_dataset(), out=tmp_path / "run")
    random_dataset().save(tmp_path / "set.fastifo")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("keep me")
    before = contents(tmp_path)
    yield tmp_path
    assert contents(tmp_path) == before


def train(name: str, dataset: Any, **fields: Any) -> fastifo.Run:
    return fastifo.train(name, dataset, **QUIET | fields)


@pytest.mark.parametrize(
    ("name", "fields", "error", "message"),
    [
        ("vfo_bim", {}, ValueError, "unknown algorithm 'vfo_bim'; did you mean 'vfo_bin'"),
        ("BC", {}, ValueError, "unknown algorithm 'BC'; did you mean 'bc'"),
        ("ReBRAC", {}, ValueError, "unknown algorithm 'ReBRAC'; did you mean 'rebrac'"),
        ("tge_rebrac", {}, ValueError, "unknown algorithm 'tge_rebrac'; did you mean 'tge-rebrac'"),
        ("PW-DICE", {}, ValueError, "unknown algorithm 'PW-DICE'; did you mean 'pw_dice'"),
        ("TD3+BC", {}, ValueError, "unknown algorithm .*; did you mean 'rebrac'"),
        ("behavior-cloning", {}, ValueError, "unknown algorithm .*; did you mean 'bc'"),
        ("dagger", {}, ValueError, "'dagger': DAgger is online and asks an expert; run it with"),
        ("DAgger", {}, ValueError, r"with fastifo improve dagger or fastifo.improve\("),
        ("", {}, ValueError, "unknown algorithm ''; known: awr, bc, bco, dilo, "),
        (
            "bc",
            {"hidden_size": 3},
            TypeError,
            "no field 'hidden_size'; did you mean 'hidden_sizes'",
        ),
        ("bc", {"seed": 3}, TypeError, "no field 'seed'"),
        ("vfo_bin", {"temperature": -1.0}, ValueError, "temperature: expected .*, found -1"),
        ("bc", {"seeds": []}, ValueError, "seeds: expected one or more, found none"),
        ("bc", {"seeds": [0, 1, 0]}, ValueError, "seeds: expected each seed once, found 0 "),
        ("bc", {"seeds": [-1]}, ValueError, "seeds: expected integers from 0 .*found -1"),
        ("bc", {"num_updates": 0}, ValueError, "num_updates: expected .* at least 1, found 0"),
        ("bc", {"device": "gpu"}, ValueError, "device: expected auto, cpu or cuda, found 'gpu'"),
        ("bc", {"precision": "fp16"}, ValueError, "precision: expected one of .*found 'fp16'"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_written(
    folder: Path, name: str, fields: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(name, random_dataset(), out=folder / "new", **fields)


def test_data_that_a_method_lacks_is_named_with_the_remedy(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"vfo_bin needs expert observations.*Pass expert=\["):
        train("vfo_bin", random_dataset(expert=False), out=folder / "new")
    with pytest.raises(ValueError, match=r"awr needs the background's rewards.*Pass 'reward'"):
        train("awr", random_dataset(reward=False), out=folder / "new")
    no_actions = random_dataset()
    assert no_actions.expert is not None
    object.__setattr__(no_actions.expert, "action", None)
    with pytest.raises(ValueError, match=r"sqil needs the expert's actions; the dataset has none"):
        train("sqil", no_actions, out=folder / "new")
    step = {"obs": [[0.0] * 3] * 2, "action": [[0.0] * 2]}
    walk = {"obs": [[0.0] * 3] * 3, "action": [[0.0] * 2] * 2}
    for background, expert, name in (([step], [walk], "background"), ([walk], [step], "expert")):
        short = fastifo.Dataset.from_episodes(background, expert, min_steps=1)
        with pytest.raises(ValueError, match=rf"dilo learns from three .* the {name} has no"):
            train("dilo", short, out=folder / "new")


@pytest.mark.parametrize(
    ("name", "content"),
    [("run", "another run"), ("other", "other files"), ("set.fastifo", "other")],
)
def test_a_folder_that_holds_something_else_is_refused(
    folder: Path, name: str, content: str
) -> None:
    with pytest.raises(ValueError, match=f"{name}: .*{content}.*choose another"):
        train("vfo_bin", random_dataset(), out=folder / name)
    run = train("bc", random_dataset())
    with pytest.raises(ValueError, match=f"expected a new or empty folder, found {content}"):
        run.save(folder / name)


@pytest.mark.parametrize(
    ("fields", "differing"),
    [
        ({"seeds": [1]}, "members"),
        ({"learning_rate": 1e-2}, "members"),
        ({"precision": "fp64"}, "precision"),
        ({"dataset": random_dataset(1)}, "datasets"),
    ],
)
def test_resuming_another_run_is_refused_naming_the_difference(
    folder: Path, fields: Any, differing: str
) -> None:
    dataset = fields.pop("dataset", random_dataset())
    with pytest.raises(ValueError, match=rf"holds another run \(it differs in {differing}\)"):
        train("bc", dataset, out=folder / "run", **fields)


def test_asking_for_fewer_updates_than_were_made_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="already trained for 4 updates, num_updates is 2"):
        train("bc", random_dataset(), out=folder / "run", num_updates=2)


def test_training_without_resume_does_not_overwrite_a_run(folder: Path) -> None:
    with pytest.raises(ValueError, match="found another run; choose another"):
        train("bc", random_dataset(), out=folder / "run", resume=False)


def test_evaluating_without_an_environment_names_the_remedy(folder: Path) -> None:
    run = fastifo.open_run(folder / "run")
    with pytest.raises(ValueError, match="names no environment; pass env='Hopper-v4'"):
        run.evaluate(1)


def test_an_environment_of_other_sizes_is_refused_before_training(folder: Path) -> None:
    with pytest.raises(ValueError, match="Hopper-v4: its observations are 11 wide, those of the"):
        train("bc", dataclasses.replace(random_dataset(), env_id="Hopper-v4"), out=folder / "new")
    run = fastifo.open_run(folder / "run")
    with pytest.raises(ValueError, match="Hopper-v4: its observations are 11 wide, those of the"):
        run.evaluate(1, env="Hopper-v4", progress=False)


def test_an_environment_of_another_action_width_is_refused_before_training(folder: Path) -> None:
    dataset = dataclasses.replace(random_dataset(env_id="Hopper-v4"), env_id="Reacher-v4")
    with pytest.raises(ValueError, match="Reacher-v4: its actions are 2 wide, those of the data 3"):
        train("bc", dataset, out=folder / "new")


def test_an_unknown_environment_is_named_with_the_nearest(folder: Path) -> None:
    message = "no environment 'Hoper-v4'; did you mean 'Hopper-v4'"
    with pytest.raises(ValueError, match=message):
        train("bc", random_dataset(env_id="Hoper-v4"), out=folder / "new")
    with pytest.raises(ValueError, match=message):
        fastifo.open_run(folder / "run").evaluate(1, env="Hoper-v4", progress=False)


def test_evaluation_during_training_without_an_environment_is_refused_at_the_start(
    folder: Path,
) -> None:
    with pytest.raises(ValueError, match="names no environment; pass env="):
        train("bc", random_dataset(), callbacks=[EvaluateEvery(3)], out=folder / "new")


@pytest.mark.parametrize("field", ["log_every", "checkpoint_every"])
def test_an_interval_of_zero_updates_is_refused(folder: Path, field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: expected .*at least 1, found 0"):
        train("bc", random_dataset(), out=folder / "new", **{field: 0})


def test_an_evaluation_interval_below_one_is_refused() -> None:
    for every, num_episodes in ((0, 20), (5, 0)):
        with pytest.raises(ValueError, match="expected an integer of at least 1, found 0"):
            EvaluateEvery(every, num_episodes)


@pytest.mark.parametrize("dataset", [None, 3, {"obs": [1.0]}])
def test_an_argument_that_is_not_a_dataset_is_named(folder: Path, dataset: Any) -> None:
    kind = type(dataset).__name__
    with pytest.raises(TypeError, match=f"dataset: expected a Dataset, .* found {kind}"):
        train("bc", dataset, out=folder / "new")


def test_members_that_diverge_do_not_stop_those_of_another_shape() -> None:
    with pytest.warns(UserWarning, match="The other members continue"):
        run = train(
            "vfo_bin",
            random_dataset(),
            hidden_sizes=[(4,), (5,)],
            learning_rate=[1e-3, 1e30],
            log_every=2,
        )
    assert set(run.failed) == {1, 3}
