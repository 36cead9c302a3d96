"""Methods of one's own: a class as the first argument, and `fastifo.register`."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import fastifo
from engine.runs import QUIET, assert_equal_bits
from fastifo.algos import ALGORITHMS
from fastifo.algos.bc import BC, BCConfig
from fastifo.algos.config import Config
from fastifo.algos.learner import Learner, Metrics
from fastifo.algos.rewards.seabo import SEABOReBRAC
from helpers import random_dataset


@dataclass(frozen=True)
class ScaledConfig(BCConfig):
    scale: float = 1.0  # of the loss


class Scaled(BC):
    Config = ScaledConfig
    name = "scaled"

    def update(self, batch: Any) -> Metrics:
        return super().update(batch)


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Restores the registry after each test."""
    before = dict(ALGORITHMS)
    yield
    ALGORITHMS.clear()
    ALGORITHMS.update(before)


def fit(algorithm: Any, **fields: Any) -> fastifo.Run:
    return fastifo.train(algorithm, random_dataset(), num_updates=4, **QUIET | fields)


def test_a_class_trains_resumes_opens_and_sweeps(tmp_path: Path) -> None:
    run = fit(Scaled, out=tmp_path / "run", scale=[0.5, 2.0], seeds=range(2))
    assert run.algorithm == "scaled"
    assert [member.config.scale for member in run.members] == [0.5, 0.5, 2.0, 2.0]  # type: ignore[attr-defined]
    opened = fastifo.open_run(tmp_path / "run")
    assert isinstance(opened.learners[0], Scaled)
    assert_equal_bits(opened, run)
    more = fastifo.train(
        Scaled, random_dataset(), num_updates=8, out=tmp_path / "run", scale=[0.5, 2.0],
        seeds=range(2), **QUIET,
    )  # fmt: skip
    assert more.updates_done == 8


def test_a_registered_name_is_like_any_other() -> None:
    fastifo.register("mine", Scaled)
    assert_equal_bits(fit("mine"), fit(Scaled))
    with pytest.raises(TypeError, match="mine has no field 'scal'; did you mean 'scale'"):
        fit("mine", scal=2.0)


def test_a_class_that_fastifo_has_is_its_method() -> None:
    assert fit(BC).algorithm == "bc"
    run = fit(SEABOReBRAC)
    assert (run.algorithm, vars(run.members[0].config)["backbone"]) == ("seabo", "rebrac")


def test_a_class_may_be_defined_again() -> None:
    fastifo.register("scaled", Scaled)
    again = type("Scaled", (Scaled,), {"__module__": Scaled.__module__})
    fastifo.register("scaled", again)
    assert ALGORITHMS["scaled"] is again


def test_a_run_of_an_unknown_class_says_what_to_register(tmp_path: Path) -> None:
    fit(Scaled, out=tmp_path / "run")
    del ALGORITHMS["scaled"]
    message = r"run: its algorithm 'scaled' is unknown here; .* fastifo.register\('scaled'"
    with pytest.raises(ValueError, match=message):
        fastifo.open_run(tmp_path / "run")
    command = [sys.executable, "-m", "fastifo", "evaluate", str(tmp_path / "run")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "fastifo.register('scaled'" in result.stderr
    fastifo.register("scaled", Scaled)
    assert fastifo.open_run(tmp_path / "run").updates_done == 4


class NoUpdate(Learner):
    def build(self) -> None:
        pass


class PlainConfig(BC):
    class Config(BCConfig):  # not a dataclass of its own
        pass


class OtherConfig(BC):
    Config = Config  # type: ignore[assignment]  # lacks the fields of BC


@pytest.mark.parametrize(
    ("name", "learner", "error", "message"),
    [
        ("bc", Scaled, ValueError, "bc: is already the name of BC; choose another"),
        ("dagger", Scaled, ValueError, "dagger: is already the name of DAgger; choose another"),
        ("my method", Scaled, ValueError, "name: expected letters, digits and underscores"),
        ("a-b", Scaled, ValueError, "name: expected letters, digits and underscores"),
        (3, Scaled, ValueError, "name: expected letters"),
        ("mine", NoUpdate, TypeError, "mine: NoUpdate does not define update"),
        ("mine", Learner, TypeError, "mine: Learner does not define build and update"),
        ("mine", PlainConfig, TypeError, "PlainConfig.Config to be a frozen dataclass"),
        ("mine", OtherConfig, TypeError, "a frozen dataclass derived from BCConfig"),
        ("mine", dict, TypeError, "mine: expected a subclass of Learner, found <class 'dict'>"),
        ("mine", "bc", TypeError, "mine: expected a subclass of Learner, found 'bc'"),
    ],
)
def test_what_cannot_be_registered_is_refused(
    name: Any, learner: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fastifo.register(name, learner)
    assert name == "bc" or name not in ALGORITHMS


@pytest.mark.parametrize("algorithm", [3, None, object(), dict])
def test_something_else_than_a_method_is_refused(algorithm: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a (name such as 'vfo_bin' or a )?subclass"):
        fit(algorithm)


def test_a_class_without_a_name_has_its_own_in_lower_case() -> None:
    class Unnamed(Learner):
        policy: Any

        def build(self) -> None:
            self.policy = self.make_policy()

        def update(self, batch: Any) -> Metrics:
            outputs = self.policy.outputs(batch.background.obs)
            loss, gradient = self.policy.loss(outputs, batch.background.action, None)
            self.apply_gradients([(outputs, gradient)], self.policy)
            return {"loss": loss}

    assert fit(Unnamed).algorithm == "unnamed"
    assert Unnamed.name == "unnamed"


def test_a_subclass_does_not_inherit_the_name_of_its_parent() -> None:
    class Mine(BC):
        pass

    class Other(BC):
        pass

    run = fit(Mine)
    assert run.algorithm == "mine"
    assert repr(run.policy()).startswith("Policy(mine, ")
    fastifo.register("another", Other)
    assert repr(fit("another").policy()).startswith("Policy(another, ")
    assert fit(Other).algorithm == "another"
    assert repr(fit("bc").policy()).startswith("Policy(bc, ")
