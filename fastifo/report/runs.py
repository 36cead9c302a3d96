"""Reads the run folders that a report is about."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastifo.algos import BACKBONES
from fastifo.engine.checkpoint import Checkpoints, checked_metrics
from fastifo.envs.returns import FILE_OF, Returns
from fastifo.report.summary import RunSummary
from fastifo.utils.files import read_json

ORDER = (  # of algorithms in tables and figures
    "bc", "vfo_bin", "vfo_disc", "awr", "bco", "smodice", "lobsdice", "pw_dice", "dilo", "tailo",
    "oril", "sqil", "tge", "tge-rebrac", "seabo", "seabo-rebrac", "otr", "otr-rebrac", "iql",
    "rebrac",
)  # fmt: skip
REQUIRED_KEYS = {"algorithm", "datasets", "env_id", "num_updates"}  # of config.json


def read_runs(folders: str | Path | Sequence[str | Path]) -> list[RunSummary]:
    """Every run below one or several folders, ordered by algorithm and label.

    Raises FileNotFoundError where there is no run, ValueError naming a file that is damaged.
    """
    roots = as_folders(folders)
    configs: dict[Path, dict[str, Any]] = {}
    for root in roots:
        known = {path.resolve() for path in configs}
        found = _read_configs(root).items()
        configs |= {path: config for path, config in found if path.resolve() not in known}
    if not configs:
        names = ", ".join(map(str, roots))
        raise FileNotFoundError(f"{names}: no run below this folder (no config.json of a run)")
    algorithms = [config["algorithm"] for config in configs.values()]
    runs, base = [], base_folder(roots)
    for path, config in configs.items():
        algorithm = config["algorithm"]
        unique = algorithms.count(algorithm) == 1
        runs += _summarize(path, config, algorithm if unique else name_below(base, path))
    rank = {name: index for index, name in enumerate(ORDER)}
    return sorted(runs, key=lambda run: (rank.get(run.algorithm, len(ORDER)), run.label))


def as_folders(folders: str | Path | Sequence[str | Path]) -> list[Path]:
    """One or several folders as a list without repetition.  Raises ValueError for none."""
    names = [folders] if isinstance(folders, str | Path) else list(folders)
    given = [Path(os.path.expanduser(name)) for name in names]
    if not given:
        raise ValueError("folders: expected one or more, found none")
    return list({folder.resolve(): folder for folder in given}.values())


def base_folder(roots: Sequence[Path]) -> Path:
    """The folder that run folders are named relative to: the only root, or what all lie in."""
    parents = [root.resolve() if len(roots) == 1 else root.resolve().parent for root in roots]
    return Path(os.path.commonpath(parents))


def name_below(base: Path, folder: Path) -> str:
    """A run folder's name relative to `base`, with `?` for bytes that are no UTF-8."""
    name = folder.resolve().relative_to(base).as_posix()
    return name.encode(errors="replace").decode()


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


def series_of(runs: Sequence[RunSummary]) -> list[str]:
    """Names of algorithms and settings, each once, in the order of tables and figures."""
    rank = {name: index for index, name in enumerate(ORDER)}
    found = dict.fromkeys((run.algorithm, run.series) for run in runs)
    ordered = sorted(found, key=lambda pair: (rank.get(pair[0], len(ORDER)), pair[0]))
    return [series for _, series in ordered]
