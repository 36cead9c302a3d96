"""Reads the run folders that a report is about."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.algos import BACKBONES
from fastifo.engine.checkpoint import Checkpoints, checked_metrics
from fastifo.envs.returns import FILE_OF, Returns
from fastifo.utils.files import read_json

ORDER = (  # of algorithms in tables and figures
    "bc", "vfo_bin", "vfo_disc", "awr", "bco", "smodice", "dilo", "oril", "sqil", "tge",
    "tge-rebrac", "seabo", "seabo-rebrac", "otr", "otr-rebrac", "iql", "rebrac",
)  # fmt: skip
REQUIRED_KEYS = {"algorithm", "datasets", "env_id", "num_updates"}  # of config.json


@dataclass(frozen=True)
class RunSummary:
    """The members of one run folder that trained on one dataset: P members, E episodes each."""

    folder: Path  # the run folder
    config: dict[str, Any]  # config.json; `algorithm` includes the backbone, as in tge-rebrac
    dataset: dict[str, Any]  # the entry of config["datasets"]
    members: list[int]  # [P], indices into config["members"]
    returns: Returns | None  # of sampled actions, [P, E]; None before an evaluation
    deterministic: Returns | None  # of the policies' modes
    metrics: list[dict[str, Any]]  # rows of metrics.jsonl of these members
    label: str  # the algorithm, or the folder where several runs have the same algorithm

    @property
    def algorithm(self) -> str:
        """The algorithm with its backbone: tge, tge-rebrac."""
        name: str = self.config["algorithm"]
        return name

    @property
    def env_id(self) -> str | None:
        """EnvPool name of the task; None where the data name none."""
        name: str | None = self.config["env_id"]
        return name

    @property
    def reference_returns(self) -> tuple[float, float] | None:
        """Returns of scores 0 and 100 that the dataset states; None: D4RL's."""
        pair = self.config.get("reference_returns")
        return None if pair is None else (float(pair[0]), float(pair[1]))

    @property
    def set_name(self) -> str:
        """The number that distinguishes a benchmark's sets, such as d=5; empty for other data."""
        spec = self.dataset["info"].get("spec")
        fields = spec if isinstance(spec, dict) else {}  # of other data it is a text
        return next((f"{name}={fields[name]}" for name in ("d", "expert") if name in fields), "")

    @property
    def background_returns(self) -> list[float] | None:
        """Return of each background episode; None without rewards."""
        returns: list[float] | None = self.dataset.get("background_returns")
        return returns

    @property
    def background_mean(self) -> float:
        """Mean of `background_returns`, which must be known."""
        assert self.background_returns is not None
        return float(np.mean(self.background_returns))

    @property
    def background_success(self) -> float | None:
        """Share of background episodes in which the task succeeded; None where it is unknown."""
        rate: float | None = self.dataset.get("background_success")
        return rate

    @property
    def expert_success(self) -> float | None:
        """Share of the expert's episodes without noise that succeeded; None where unknown."""
        rate: float | None = self.dataset["info"].get("expert_success")
        return rate

    @property
    def expert_returns(self) -> list[float] | None:
        """Return of each of the expert's episodes without noise; None where they are unknown."""
        returns: list[float] | None = self.dataset["info"].get("expert_returns")
        return returns

    @property
    def train_s(self) -> float | None:
        """Seconds spent in updates, over all processes that trained the run."""
        return Checkpoints(self.folder / "checkpoint").train_s or None

    def member_config(self, member: int) -> dict[str, Any]:
        """The algorithm's fields of one member."""
        config: dict[str, Any] = self.config["members"][member].get("config", {})
        return config


def read_runs(folder: str | Path) -> list[RunSummary]:
    """Every run below a folder, ordered by algorithm and label.

    Raises FileNotFoundError where there is no run, ValueError naming a file that is damaged.
    """
    root = Path(folder)
    configs = _read_configs(root)
    algorithms = [config["algorithm"] for config in configs.values()]
    runs = []
    for path, config in configs.items():
        algorithm = config["algorithm"]
        unique = algorithms.count(algorithm) == 1
        label = algorithm if unique else str(path.relative_to(root))
        runs += _summarize(path, config, label)
    rank = {name: index for index, name in enumerate(ORDER)}
    return sorted(runs, key=lambda run: (rank.get(run.algorithm, len(ORDER)), run.label))


def _read_configs(root: Path) -> dict[Path, dict[str, Any]]:
    """The config of every run folder below `root`."""
    # Folders with a plan contain runs that are no results, such as the clones of a benchmark.
    planned = {path.parent for path in root.rglob("plan.json")}
    paths = sorted(
        path
        for path in (root.rglob("config.json") if root.is_dir() else ())
        if not planned & {*path.parents}
    )
    contents = {path.parent: read_json(path) for path in paths}
    configs = {
        path: content
        for path, content in contents.items()
        if isinstance(content, dict) and content.get("format") == "fastifo-run"
    }
    if not configs:
        raise FileNotFoundError(f"{root}: no run below this folder (no config.json of a run)")
    for path, config in configs.items():
        if missing := REQUIRED_KEYS - set(config):
            raise ValueError(f"{path}/config.json: lacks {', '.join(sorted(missing))}; train again")
        Checkpoints(path / "checkpoint").check_config()
        config["algorithm"] = algorithm_name(config)
    return configs


def _summarize(folder: Path, config: dict[str, Any], label: str) -> list[RunSummary]:
    """One summary for each dataset of a run."""
    metrics = checked_metrics(folder)
    summaries = []
    for index, dataset in enumerate(config["datasets"]):
        members = [i for i, m in enumerate(config["members"]) if m.get("dataset", 0) == index]
        summaries.append(
            RunSummary(
                folder=folder,
                config=config,
                dataset=dataset,
                members=members,
                returns=_read_returns(folder / FILE_OF[False], members),
                deterministic=_read_returns(folder / FILE_OF[True], members),
                metrics=[row for row in metrics if row.get("member", members[0]) in members],
                label=label,
            )
        )
    return summaries


def algorithm_name(config: dict[str, Any]) -> str:
    """A config's algorithm; the backbone is added unless it is the default: tge, tge-rebrac."""
    name: str = config["algorithm"]
    members = config.get("members") or [{}]
    backbone = members[0].get("config", {}).get("backbone")
    default = next(iter(BACKBONES.get(name, {})), None)
    return name if backbone in (None, default) else f"{name}-{backbone}"


def _read_returns(path: Path, members: list[int]) -> Returns | None:
    return Returns.load(path).part(members) if path.exists() else None


def by_dataset(runs: Sequence[RunSummary]) -> list[list[RunSummary]]:
    """Groups of runs on the same task and data, which share a background and an expert."""
    groups: dict[Any, list[RunSummary]] = defaultdict(list)
    for run in runs:
        groups[run.env_id, run.dataset["fingerprint"]].append(run)
    return list(groups.values())


def algorithms_of(runs: Sequence[RunSummary]) -> list[str]:
    """Names of the runs' algorithms, each once, in the order of tables and figures."""
    names = {run.algorithm for run in runs}
    return [name for name in ORDER if name in names] + sorted(names - set(ORDER))
