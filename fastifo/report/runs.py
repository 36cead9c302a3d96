"""Tables from run folders alone, and the figure of runs on one dataset."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from fastifo.algos import BACKBONES
from fastifo.engine.checkpoint import Checkpoints
from fastifo.engine.metrics import read_metrics
from fastifo.envs.returns import MEAN_OF, Returns, bootstrap_interval, normalized_score
from fastifo.utils.files import read_json, write_atomic

HEADER = ("policy", "return", "95 % interval", "by seed", "mode", "score", "updates", "time")
ORDER = (
    "bc", "vfo_bin", "vfo_disc", "awr", "bco", "smodice", "dilo", "oril", "sqil", "tge",
    "tge-rebrac", "seabo", "seabo-rebrac", "otr", "otr-rebrac", "iql", "rebrac",
)  # fmt: skip
COLORS = (
    "#4477aa", "#ee6677", "#228833", "#aa3377", "#ccbb44", "#66ccee", "#bbbbbb", "#000000",
    "#cc6633", "#882255", "#44aa99", "#999933", "#332288", "#ddaa33", "#117733", "#88ccee",
    "#bb5566",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """The members of one run folder that learned from one dataset."""

    folder: Path
    config: dict[str, Any]
    dataset: dict[str, Any]
    members: list[int]
    returns: Returns | None
    deterministic: Returns | None
    metrics: list[dict[str, Any]]
    label: str

    @property
    def set_name(self) -> str:
        """What the data's spec counts, such as d=5; empty for other data."""
        spec = self.dataset["info"].get("spec") or {}
        return next((f"{name}={spec[name]}" for name in ("d", "expert") if name in spec), "")

    @property
    def train_s(self) -> float | None:
        """Seconds spent in updates, over all processes that trained the run."""
        return Checkpoints(self.folder / "checkpoint").train_s or None


def read_runs(folder: str | Path) -> list[Entry]:
    """Every run below a folder.  Raises FileNotFoundError where there is none."""
    root = Path(folder)
    made = {path.parent for path in root.rglob("plan.json")}  # with runs that are no results
    configs = sorted(
        path
        for path in (root.rglob("config.json") if root.is_dir() else ())
        if not made & {*path.parents}
    )
    found = [(path.parent, read_json(path)) for path in configs]
    found = [(p, c) for p, c in found if isinstance(c, dict) and c.get("format") == "fastifo-run"]
    if not found:
        raise FileNotFoundError(f"{root}: no run below this folder (no config.json of a run)")
    for path, config in found:
        missing = {"algorithm", "datasets", "env_id", "num_updates"} - set(config)
        if missing:
            raise ValueError(f"{path}/config.json: lacks {', '.join(sorted(missing))}; train again")
    for _, config in found:
        config["algorithm"] = name_of(config)
    names = [config["algorithm"] for _, config in found]
    entries = []
    for path, config in found:
        name = config["algorithm"]
        label = name if names.count(name) == 1 else str(path.relative_to(root))
        metrics = read_metrics(path / "metrics.jsonl")
        for place, dataset in enumerate(config["datasets"]):
            members = [i for i, m in enumerate(config["members"]) if m.get("dataset", 0) == place]
            entries.append(
                Entry(
                    folder=path,
                    config=config,
                    dataset=dataset,
                    members=members,
                    returns=_returns(path / "returns.npz", members),
                    deterministic=_returns(path / "returns-deterministic.npz", members),
                    metrics=[row for row in metrics if row.get("member", members[0]) in members],
                    label=label,
                )
            )
    rank = {name: place for place, name in enumerate(ORDER)}
    return sorted(entries, key=lambda e: (rank.get(e.config["algorithm"], len(ORDER)), e.label))


def name_of(config: dict[str, Any]) -> str:
    """The algorithm, with its backbone where that is not the first: tge, or tge-rebrac."""
    name: str = config["algorithm"]
    members = config.get("members") or [{}]
    backbone = members[0].get("config", {}).get("backbone")
    first = next(iter(BACKBONES.get(name, {})), None)
    return name if backbone in (None, first) else f"{name}-{backbone}"


def _returns(path: Path, members: list[int]) -> Returns | None:
    return Returns.load(path).part(members) if path.exists() else None


def by_dataset(entries: list[Entry]) -> list[list[Entry]]:
    """Entries that trained on the same data; only those share a background and an expert."""
    groups: dict[Any, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.config["env_id"], entry.dataset["fingerprint"]].append(entry)
    return list(groups.values())


def print_table(entries: list[Entry]) -> None:
    """One row for the background, each run, and the expert.  entries: of one dataset."""
    table = Table(title=title_of(entries), title_justify="left")
    table.add_column(HEADER[0], no_wrap=True)
    for name in HEADER[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in table_rows(entries):
        table.add_row(*row)
    console = Console()
    needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    Console(width=max(console.width, needed)).print(table)  # a log file is no reason to cut numbers


def title_of(entries: list[Entry]) -> str:
    """Task and set."""
    task, name = entries[0].config["env_id"] or "no environment", entries[0].set_name
    return f"{task}{', ' if name else ''}{name}: returns with 95 % intervals"


def table_rows(entries: list[Entry]) -> list[list[str]]:
    """One row for the background, each run, and the expert.  entries: of one dataset."""
    config, rows = entries[0].config, []
    background = entries[0].dataset.get("background_returns")
    if background:
        interval = bootstrap_interval(np.array([background]))
        rows.append(_row("background", float(np.mean(background)), interval, config["env_id"]))
    names = [entry.config["algorithm"] for entry in entries]
    for entry, name in zip(entries, names, strict=True):
        label = name if names.count(name) == 1 else entry.label
        r = entry.returns or entry.deterministic
        if r is None:
            rows.append([label, "not evaluated", *[""] * (len(HEADER) - 2)])
            continue
        row = [label, *[""] * (len(HEADER) - 1)]
        if entry.returns is not None:
            row = _row(label, r.mean, r.interval, r.env_id)
            row[3] = " ".join(f"{value:.0f}" for value in r.per_member)
        row[4] = "" if entry.deterministic is None else f"{entry.deterministic.mean:.0f}"
        row[6] = f"{r.num_updates:,}"
        row[7] = "" if entry.train_s is None else f"{entry.train_s:.0f} s"
        rows.append(row)
    expert = entries[0].dataset["info"].get("expert_returns")
    if expert:
        interval = bootstrap_interval(np.array([expert]))
        rows.append(_row("expert", float(np.mean(expert)), interval, config["env_id"]))
    return rows


def _row(
    label: str, mean: float, interval: tuple[float, float] | None, env_id: str | None
) -> list[str]:
    score = normalized_score(env_id or "", mean)
    return [
        label,
        f"{mean:.0f}",
        "" if interval is None else f"{interval[0]:.0f} to {interval[1]:.0f}",
        "",
        "",
        "" if score is None else f"{score:.1f}",
        "",
        "",
    ]


def draw_figure(entries: list[Entry], path: Path) -> None:
    """Returns, return over updates, and values over updates, as one PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6), constrained_layout=True)
    groups = by_dataset(entries)
    data = entries[0].dataset if len(groups) == 1 else {"info": {}}
    background = data.get("background_returns")
    lines = [
        (label, np.mean(returns), "0.35", style)
        for label, returns, style in (
            ("background", background, ":"),
            ("expert", data["info"].get("expert_returns"), "--"),
        )
        if returns
    ]
    _returns_panel(axes[0], entries)
    _curve_panel(axes[1], entries)
    for label, level, color, style in lines:
        for axis in axes[:2]:
            axis.axhline(level, color=color, ls=style, lw=1.2, label=label)
    _value_panel(axes[2], entries)
    for axis in axes:
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
    names = dict.fromkeys(group[0].config["env_id"] or "no environment" for group in groups)
    figure.suptitle(", ".join(names))
    write_atomic(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))
    plt.close(figure)


def _returns_panel(axis: Any, entries: list[Entry]) -> None:
    """Mean return of each run with its interval; a dot for each member."""
    shown = [(i, e) for i, e in enumerate(entries) if e.returns is not None]
    for place, (i, entry) in enumerate(shown):
        assert entry.returns is not None
        low, high = entry.returns.interval
        mean, color = entry.returns.mean, COLORS[i % len(COLORS)]
        axis.errorbar(
            place, mean, [[mean - low], [high - mean]], fmt="o", ms=8, capsize=6, color=color
        )
        members = entry.returns.per_member
        axis.plot(np.full(len(members), place + 0.18), members, ".", color=color, alpha=0.6)
    axis.set_xticks(range(len(shown)), [entry.label for _, entry in shown], rotation=15)
    axis.set_xlim(-0.6, len(shown) - 0.4)
    axis.set_ylabel("return, 95 % interval; dots: seeds")
    axis.set_title("final policies, sampled actions")


def _curve_panel(axis: Any, entries: list[Entry]) -> None:
    """Mean return over updates, from evaluations during training."""
    for i, entry in enumerate(entries):
        for deterministic, style in ((False, "-o"), (True, "--o")):
            updates, mean = _curve(entry, MEAN_OF[deterministic])
            if updates:
                label = f"{entry.label}, mode" if deterministic else entry.label
                axis.plot(updates, mean, style, ms=3, color=COLORS[i % len(COLORS)], label=label)
    axis.set_xlabel("updates")
    axis.set_ylabel("return")
    axis.set_title("while training")


def _value_panel(axis: Any, entries: list[Entry]) -> None:
    """Mean value of background and expert states over updates, where both were learned."""
    for i, entry in enumerate(entries):
        if not _curve(entry, "value_mean_expert")[0]:
            continue
        for name, style in (("value_mean_background", "-"), ("value_mean_expert", "--")):
            updates, mean = _curve(entry, name)
            if updates:
                where = name.rpartition("_")[2]
                label = f"{entry.label}, {where} states"
                axis.plot(updates, mean, style, color=COLORS[i % len(COLORS)], label=label)
    axis.set_xlabel("updates")
    axis.set_ylabel("learned value")
    axis.set_title("values")


def _curve(entry: Entry, name: str) -> tuple[list[int], list[float]]:
    """Updates and the mean over members of one metric."""
    rows: dict[int, list[float]] = defaultdict(list)
    for row in entry.metrics:
        if row.get(name) is not None:
            rows[row["update"]].append(row[name])
    updates = sorted(rows)
    return updates, [float(np.mean(rows[update])) for update in updates]
