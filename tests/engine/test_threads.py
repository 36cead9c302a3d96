"""How many threads the torch engine uses, and how long they spin."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from engine.runs import train
from fastifo.algos.iql import IQL
from fastifo.engine.torch_engine import threads_for
from fastifo.utils import openmp
from fastifo.utils.parallel import at_most_threads
from helpers import child_environment, make_learner, random_dataset


@pytest.fixture
def three_threads() -> Any:
    """Lets torch use three threads during a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("fields", "threads"),
    [
        ({"hidden_sizes": (64, 64), "batch_size": 256}, 1),
        ({"hidden_sizes": (512, 512), "batch_size": 256}, 2),
        ({"hidden_sizes": (512, 512), "batch_size": 8}, 1),
    ],
)
def test_larger_problems_are_worth_more_threads(fields: dict[str, Any], threads: int) -> None:
    count = threads_for(make_learner("iql", **fields))
    assert (count == 1) == (threads == 1)
    population = make_learner("iql", seeds=tuple(range(40)), **fields)
    assert threads_for(population) > count


def test_rows_of_windows_count(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner("bc", hidden_sizes=(256, 256), batch_size=256)
    count = threads_for(learner)
    monkeypatch.setattr(type(learner), "window", 32)
    assert threads_for(learner) == pytest.approx(32 * count, abs=32)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(("sizes", "expected"), [((8,), 1), ((1024, 1024), 3)])
def test_an_update_runs_with_as_many_threads_as_it_is_worth(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], expected: int
) -> None:
    counts = set()
    update = IQL.update

    def recorded(learner: IQL, batch: Any) -> Any:
        counts.add(torch.get_num_threads())
        return update(learner, batch)

    monkeypatch.setattr(IQL, "update", recorded)
    train("iql", random_dataset(), 2, engine="torch", hidden_sizes=sizes, batch_size=64)
    assert counts == {expected}
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_a_limit_of_threads_never_raises_their_number() -> None:
    with at_most_threads(2), at_most_threads(5):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 3


def spins(first: str, **environment: str) -> tuple[str, bool]:
    """GOMP_SPINCOUNT in a process that imports fastifo, and whether that was in time."""
    code = f"import {first}, fastifo, os; from fastifo.utils import openmp as o; " + (
        "print(os.environ.get('GOMP_SPINCOUNT'), o._TOO_LATE)"
    )
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    count, late = result.stdout.split()
    return count, late == "True"


@pytest.mark.slow
def test_threads_stop_spinning_unless_the_user_chose_otherwise() -> None:
    assert spins("os") == ("1000", False)
    assert spins("torch") == ("1000", True)
    assert spins("os", GOMP_SPINCOUNT="7") == ("7", False)
    assert spins("os", OMP_WAIT_POLICY="active") == ("None", False)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(
    ("late", "chosen", "load", "sizes", "says"),
    [
        (True, False, 99.0, (1024, 1024), True),
        (True, False, 99.0, (8,), False),
        (True, False, 0.1, (1024, 1024), False),
        (True, True, 99.0, (1024, 1024), False),
        (False, False, 99.0, (1024, 1024), False),
    ],
)
def test_threads_that_will_crawl_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], late: bool, chosen: bool,
    load: float, sizes: tuple[int, ...], says: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(openmp, "_TOO_LATE", late)
    monkeypatch.setattr(openmp, "_CHOSEN", chosen)
    monkeypatch.setattr("os.getloadavg", lambda: (load, load, load))
    fields: dict[str, Any] = {"hidden_sizes": sizes, "batch_size": 64, "progress": True}
    train("iql", random_dataset(), 2, engine="torch", **fields)
    assert ("import fastifo before torch" in capsys.readouterr().err) == says


@pytest.mark.parametrize("engine", ["torch", "native"])
def test_a_forked_process_trains_too(engine: str) -> None:
    code = f"""
import os, sys, threading
import torch
import fastifo
from helpers import random_dataset
torch.set_num_threads(2)
def weights():
    run = fastifo.train(
        "bc", random_dataset(), num_updates=3, hidden_sizes=(64, 64), batch_size=64,
        engine={engine!r}, progress=False,
    )
    return run.policy().act(torch.ones(3))
before = weights()
torch.ones(4_000_000).sum()  # starts threads
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(weights(), before) else 1)
timer = threading.Timer(60, os.kill, (child, 9))
timer.start()
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
timer.cancel()
sys.exit(code)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=child_environment(OMP_NUM_THREADS="2"), check=False)
    assert done.returncode == 0
