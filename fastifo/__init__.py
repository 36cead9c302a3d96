"""Imitation from observation: policies from expert episodes without actions and background data.

`load` reads a dataset, `train` trains policies on it and returns a `Run`; `Run.evaluate` plays
episodes with them.
"""

from fastifo.utils import openmp  # noqa: F401  before torch loads OpenMP

# isort: split
import importlib
from typing import TYPE_CHECKING, Any

import torch  # noqa: F401  imported before the compiled core: both then share an OpenMP runtime

from fastifo import benchmarks, callbacks
from fastifo.algos import register
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.load import load
from fastifo.engine.reopen import open_run
from fastifo.engine.run import Run
from fastifo.engine.train import relabel, train
from fastifo.envs.policy import Policy
from fastifo.envs.returns import Returns
from fastifo.studies.improve import improve
from fastifo.studies.improvement import Improvement
from fastifo.studies.space import choice, integers, loguniform, uniform
from fastifo.studies.sweep import sweep
from fastifo.studies.sweep_results import Sweep

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "Episodes",
    "Improvement",
    "Policy",
    "Returns",
    "Run",
    "Sweep",
    "__version__",
    "benchmarks",
    "callbacks",
    "choice",
    "improve",
    "integers",
    "load",
    "loguniform",
    "open_run",
    "register",
    "relabel",
    "sweep",
    "train",
    "uniform",
]

# Available after `import fastifo`, and imported on first use where nothing above needs them.
SUBPACKAGES = {"algos", "cli", "data", "engine", "envs", "losses", "nn", "ops", "report", "studies"}

if TYPE_CHECKING:
    from fastifo import algos, cli, data, engine, envs, losses, nn, ops, report, studies  # noqa: F401
else:

    def __getattr__(name: str) -> Any:
        if name in SUBPACKAGES:
            return importlib.import_module(f"fastifo.{name}")
        raise AttributeError(f"module 'fastifo' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *SUBPACKAGES})
