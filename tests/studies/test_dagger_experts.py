"""The experts that DAgger can ask, and those it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastifo
from fastifo.envs.spec import as_spec
from fastifo.studies.expert_sources import open_expert
from helpers import SMALL, random_dataset
from studies.dagger_runs import TINY, run_dagger
from support import write_expert

Make = Callable[[fastifo.Run, Path], Any]


@pytest.mark.parametrize(
    ("expert", "kind", "message"),
    [
        (lambda obs: obs[:, 0], ValueError, r"<lambda>: expected actions \[\d+, 1\] for observ"),
        (lambda obs: np.zeros((1, 1)), ValueError, r"expected actions \[\d+, 1\].*found \[1, 1\]"),
        (
            lambda obs: np.full((len(obs), 1), np.nan),
            ValueError,
            "finite actions, found nan in dim",
        ),
        (lambda obs: None, ValueError, r"expected actions .*found \[\]"),
        (lambda obs: "left", TypeError, "expected an array of actions, found str"),
        (lambda obs: obs * 1j, TypeError, "expected an array of actions, found complex numbers"),
        ("own_envs:stear", ValueError, "no function 'stear'; did you mean 'steer'"),
        ("nowhere:steer", ValueError, "found no module 'nowhere'"),
        ("nowhere.npz", FileNotFoundError, "nowhere.npz: no such expert file"),
        ("nowhere.onnx", FileNotFoundError, "nowhere.onnx: no such policy file"),
        ("nowhere", FileNotFoundError, "expert nowhere: expected 'included', .* nothing there"),
        ("sibench:Hopper-v4/d=5", ValueError, "found the dataset sibench.*cannot be queried"),
        ("included", ValueError, "no expert ships for 'own_envs:Track'"),
        (3, TypeError, "expert: expected 'included', .*found int"),
    ],
)
def test_an_expert_that_cannot_answer_is_refused_before_training(
    tmp_path: Path, expert: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        run_dagger(tmp_path, expert=expert)
    assert not list(tmp_path.rglob("run"))
    assert not (tmp_path / "plan.json").exists()


def test_a_folder_is_free_after_an_expert_that_failed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected finite actions"):
        run_dagger(tmp_path, expert=lambda obs: np.nan * obs)
    (tmp_path / "start.fastifo").write_bytes(b"of a process that was killed before its plan")
    assert run_dagger(tmp_path, 1).returns[0][0] == 0.0


def test_a_wrong_answer_to_a_learner_is_refused(tmp_path: Path) -> None:
    def answer(obs: Any) -> Any:  # fails once it is away from 0
        return np.where(np.abs(obs) > 0, np.nan, 0.0)

    with pytest.raises(ValueError, match=r"found nan in dimension 0 for the observation \["):
        run_dagger(tmp_path, expert=answer)
    assert not list(tmp_path.rglob("played.fastifo"))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda run, folder: run.path, id="run folder"),
        pytest.param(lambda run, folder: run.policy(0), id="policy"),
        *(
            pytest.param(
                lambda run, folder, name=name: run.policy(0).export(folder / name).path,
                id=name,
                marks=pytest.mark.slow,
            )
            for name in ("policy.pt2", "policy.onnx")
        ),
    ],
)
def test_a_trained_policy_is_an_expert(tmp_path: Path, make: Make) -> None:
    dataset = random_dataset(env_id="Hopper-v4")
    fields: dict[str, Any] = {"num_updates": 2, "progress": False, "policy_head": "deterministic"}
    run = fastifo.train("bc", dataset, out=tmp_path / "run", **SMALL | fields)
    expert = open_expert(make(run, tmp_path), as_spec("Hopper-v4"))
    obs = torch.randn(300, 11)
    torch.testing.assert_close(expert.ask(obs), run.policy(0).act(obs), rtol=0, atol=1e-5)


def test_the_environment_of_a_run_is_the_default(tmp_path: Path) -> None:
    dataset = random_dataset(env_id="Hopper-v4")
    fastifo.train("bc", dataset, out=tmp_path / "run", num_updates=2, progress=False, **SMALL)
    result = fastifo.improve("dagger", tmp_path / "run", out=tmp_path / "out", iterations=1, **TINY)
    assert result.env_id == "Hopper-v4"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["narrow.pt2", "narrow.onnx"])
def test_an_exported_policy_of_another_environment_is_refused(tmp_path: Path, name: str) -> None:
    run = fastifo.train("bc", random_dataset(), num_updates=1, progress=False, **SMALL)
    expert = open_expert(run.policy(0).export(tmp_path / name).path, as_spec("Hopper-v4"))
    with pytest.raises(ValueError, match=rf"{name}: does not accept observations \[2, 11\] \("):
        expert.ask(torch.zeros(2, 11))


@pytest.mark.slow
def test_files_that_are_no_deterministic_policy_are_refused(tmp_path: Path) -> None:
    dataset = random_dataset(env_id="Hopper-v4")
    run = fastifo.train("bc", dataset, num_updates=1, progress=False, **SMALL)
    samples = run.policy(0).export(tmp_path / "samples.pt2", deterministic=False).path
    with pytest.raises(ValueError, match=r"samples.pt2: holds samples.*--play mode"):
        open_expert(samples, as_spec("Hopper-v4"))
    for name in ("damaged.pt2", "damaged.onnx"):
        (tmp_path / name).write_bytes(samples.read_bytes()[:1000])
        with pytest.raises(ValueError, match=f"{name}: expected .* damaged or unrelated"):
            open_expert(tmp_path / name, as_spec("Hopper-v4"))


def test_the_included_expert_and_a_policy_file_are_experts(tmp_path: Path) -> None:
    obs = torch.randn(5, 11)
    for source, expected in (
        ("included", fastifo.envs.experts.load_expert("Hopper-v4")),
        (
            write_expert(tmp_path / "own.npz"),
            fastifo.envs.experts.load_expert("Hopper-v4", tmp_path / "own.npz"),
        ),
    ):
        asked = open_expert(source, as_spec("Hopper-v4"))
        assert torch.equal(asked.ask(obs), expected.act_rows(obs, None))


def test_an_expert_of_another_environment_is_refused(tmp_path: Path) -> None:
    narrow = write_expert(tmp_path / "narrow.npz", obs_dim=30)
    with pytest.raises(ValueError, match=r"narrow.npz: does not accept observations \[1, 11\]"):
        fastifo.improve("dagger", narrow, env_id="Hopper-v4", out=tmp_path / "out", **TINY)
