"""Tables of a report: one per dataset, and one over all datasets.

Rows are lists of text, which `print_table` prints and `fastifo.report.html` writes.
"""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from fastifo.envs.scores import normalized_score
from fastifo.report.runs import RunSummary, algorithms_of
from fastifo.utils.statistics import bootstrap_interval, interquartile_mean, stratified_interval

RUN_HEADER = (
    "policy", "return", "95 % interval", "by seed", "mode", "score", "updates", "time",
)  # fmt: skip
SUCCESS_HEADER = ("success", "95 %")  # after the policy, where the environment measures it
AGGREGATE_HEADER = ("algorithm", "interquartile mean of the score", "95 % interval", "sets")
AGGREGATE_TITLE = "all sets together: D4RL scores, stratified bootstrap"


def run_title(runs: Sequence[RunSummary]) -> str:
    """Title of the table of one dataset: task and set."""
    task, set_name = runs[0].env_id or "no environment", runs[0].set_name
    return f"{task}{', ' if set_name else ''}{set_name}: returns with 95 % intervals"


def run_table(runs: Sequence[RunSummary]) -> tuple[list[str], list[list[str]]]:
    """Header, and rows for the background, each run, and the expert.  runs: of one dataset."""
    cells = _run_cells(runs)
    header = list(RUN_HEADER)
    if any(name in row for row in cells for name in SUCCESS_HEADER):
        header[1:1] = SUCCESS_HEADER
    return header, [[row.get(name, "") for name in header] for row in cells]


def _run_cells(runs: Sequence[RunSummary]) -> list[dict[str, str]]:
    """The cells of each row, by the names of their columns."""
    first, rows = runs[0], []
    if first.background_returns:
        rows.append(_data_row("background", first.background_returns, first))
        if first.background_success is not None:
            rows[-1]["success"] = f"{first.background_success:.0%}"
    algorithms = [run.algorithm for run in runs]
    for run in runs:
        unique = algorithms.count(run.algorithm) == 1
        rows.append(_run_row(run, run.algorithm if unique else run.label))
    if first.expert_returns:
        rows.append(_data_row("expert", first.expert_returns, first))
        if first.expert_success is not None:
            rows[-1]["success"] = f"{first.expert_success:.0%}"
    return rows


def _run_row(run: RunSummary, label: str) -> dict[str, str]:
    returns = run.returns or run.deterministic
    if returns is None:
        return {"policy": label, "return": "not evaluated"}
    cells = {"policy": label}
    if run.returns is not None:
        cells |= _return_cells(returns.mean, returns.interval, returns.score)
        if returns.success is not None and returns.success_interval is not None:
            low, high = returns.success_interval
            cells |= {"success": f"{returns.success:.0%}", "95 %": f"{low:.0%} to {high:.0%}"}
        cells["by seed"] = " ".join(f"{value:.0f}" for value in returns.per_member)
    if run.deterministic is not None:
        cells["mode"] = f"{run.deterministic.mean:.0f}"
    cells["updates"] = f"{returns.num_updates:,}"
    if run.train_s is not None:
        cells["time"] = f"{run.train_s:.0f} s"
    return cells


def _data_row(label: str, returns: Sequence[float], run: RunSummary) -> dict[str, str]:
    """A row for episodes of the dataset that the run learned from."""
    mean, interval = float(np.mean(returns)), bootstrap_interval(np.array([returns]))
    score = normalized_score(run.env_id or "", mean, run.reference_returns)
    return {"policy": label} | _return_cells(mean, interval, score)


def _return_cells(
    mean: float, interval: tuple[float, float], score: float | None
) -> dict[str, str]:
    low, high = interval
    return {
        "return": f"{mean:.0f}",
        "95 % interval": f"{low:.0f} to {high:.0f}",
        "score": "" if score is None else f"{score:.1f}",
    }


def aggregate_rows(runs: Sequence[RunSummary]) -> list[list[str]]:
    """One row per algorithm: its interquartile mean score over datasets, and the interval."""
    return [
        [name, f"{mean:.1f}", f"{low:.1f} to {high:.1f}", str(num_sets)]
        for name, mean, (low, high), num_sets in aggregate(runs)
    ]


def aggregate(runs: Sequence[RunSummary]) -> list[tuple[str, float, tuple[float, float], int]]:
    """(algorithm, interquartile mean of the D4RL score, its 95 % interval, number of sets).

    Uses the sets that every algorithm was evaluated on.  An algorithm whose sets differ in their
    number of members has no row.
    """
    scores: dict[str, dict[str, list[float]]] = {}  # algorithm -> dataset -> members' scores
    for run in runs:
        if run.returns is None or run.returns.score_of(0.0) is None:
            continue
        by_set = scores.setdefault(run.algorithm, {})
        members = [run.returns.score_of(mean) for mean in run.returns.per_member]
        by_set.setdefault(run.dataset["fingerprint"], []).extend(
            score for score in members if score is not None and np.isfinite(score)
        )
    shared = set.intersection(*map(set, scores.values())) if scores else set()
    rows = []
    for name in algorithms_of(runs):
        columns = [scores[name][key] for key in sorted(shared)] if name in scores else []
        if not columns or len({len(column) for column in columns}) > 1 or not columns[0]:
            continue
        matrix = np.array(columns).T  # [members, sets]
        interval = stratified_interval(matrix)
        rows.append((name, interquartile_mean(matrix), interval, len(columns)))
    return rows


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; it is as wide as its longest row, so that nothing is cut off."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    Console(width=max(console.width, needed)).print(table)  # a log file has no terminal's width
