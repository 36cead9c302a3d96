"""Jobs for worker processes.

They stand in a module that workers can import: a test module of the installed package is not one.
"""

import os
import signal
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import fastifo
from fastifo.utils.parallel import run_jobs


class Unreadable:
    """Its module is missing in the process that it is sent to."""

    def __reduce__(self) -> tuple[Any, ...]:
        return import_module, ("no_such_module",)

    def run(self) -> None:
        raise AssertionError("a job that cannot be read does not run")


@dataclass
class Touch:
    path: Path

    def run(self) -> None:
        self.path.write_text("done")


@dataclass
class Linger:
    path: Path
    stubborn: bool = False

    def run(self) -> None:
        if self.stubborn:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.path.write_text(str(os.getpid()))
        time.sleep(600)


@dataclass
class Train:
    """Trains for long; writes checkpoints when it is stopped."""

    folder: Path

    def run(self) -> None:
        obs, action = torch.zeros(50, 3), torch.zeros(49, 2)
        dataset = fastifo.Dataset.from_episodes([{"obs": obs, "action": action}] * 2)
        fastifo.train(
            "bc", dataset, num_updates=10_000_000, hidden_sizes=(64, 64), out=self.folder,
            checkpoint_every=10_000_000, log_every=100, progress=False,
        )  # fmt: skip


class OddError(Exception):
    """Cannot be pickled."""


@dataclass
class Fail:
    path: Path
    how: str = "error"

    def run(self) -> None:
        if self.how == "die":
            os._exit(7)
        if self.how == "odd":
            raise OddError(lambda: 3)
        raise FileNotFoundError(f"{self.path}: no such set")


def linger_main(folder: str) -> None:
    run_jobs([Linger(Path(folder) / "first"), Linger(Path(folder) / "second", stubborn=True)])


def train_main(folder: str) -> None:
    run_jobs([Train(Path(folder) / str(i)) for i in range(6)])


@dataclass
class FailOnce:
    """Fails at its first attempt and then succeeds."""

    path: Path
    how: str  # die, full, wrong or no

    def run(self) -> None:
        tried = self.path.with_name(f"{self.path.name}-tried")
        if self.how != "no" and not tried.exists():
            tried.write_text("")
            if self.how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "full":
                raise OSError(28, f"{self.path}: could not be written (No space left on device)")
            raise ZeroDivisionError(str(self.path))
        self.path.write_text("done")
