"""fastifo: imitation from observation, from expert episodes without actions to a policy."""

import torch  # noqa: F401  before the compiled core, so that both use one OpenMP runtime

from fastifo import benchmarks, callbacks
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.load import load
from fastifo.engine.reopen import open_run
from fastifo.engine.run import Run
from fastifo.engine.train import relabel, train
from fastifo.envs.policy import Policy
from fastifo.envs.returns import Returns
from fastifo.studies.improve import Improvement, improve

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "Episodes",
    "Improvement",
    "Policy",
    "Returns",
    "Run",
    "__version__",
    "benchmarks",
    "callbacks",
    "improve",
    "load",
    "open_run",
    "relabel",
    "train",
]
