"""Tables of a report: one per dataset.

Every table of runs shows sampled actions and the mode side by side, with a line for each setting
of a sweep.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable

from fastifo.engine.train import NO_EVALUATION
from fastifo.envs.returns import Returns
from fastifo.envs.scores import normalized_score, score_remark
from fastifo.report.summary import RunSummary
from fastifo.utils.statistics import bootstrap_interval
from fastifo.utils.text import decimals_for

SAMPLED, MODE = "sampled actions", "mode"
COLUMNS = (
    "policy", SAMPLED, "95 % interval", "by seed", "success", "score",
    MODE, "mode, 95 % interval", "mode, by seed", "mode, success", "mode, score",
    "updates", "time",
)  # fmt: skip

Cells = dict[str, str]  # column -> text


@dataclass(frozen=True)
class Table:
    """A table of text, and remarks below it."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())

    def print(self) -> None:
        """Prints the table as wide as its longest row, so that nothing is cut off."""
        table = RichTable()
        for index, name in enumerate(self.header):
            table.add_column(name, justify="right" if index else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        console = Console()
        needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
        print(self.title)
        Console(width=max(console.width, needed)).print(table)  # a log has no terminal's width
        for note in self.notes:
            print(f"  {note}")


def run_table(runs: Sequence[RunSummary]) -> Table:
    """The background, each run or each setting of a sweep, and the expert.  runs: of one dataset.

    Names the best member of a sweep.
    """
    first = runs[0]
    task, set_name = first.env_id or "no environment", first.set_name
    title = f"{task}{', ' if set_name else ''}{set_name}: returns with 95 % intervals"
    lines = [line for run in runs for line in run.by_setting()]
    digits = _digits(lines, first)
    algorithms = [run.algorithm for run in runs]
    rows: list[Cells] = []
    if first.background_returns:
        rows.append(_data_cells("background", first.background_returns, first, digits))
        rows[-1]["success"] = _rate_text(first.background_success)
    for run in runs:
        label = run.algorithm if algorithms.count(run.algorithm) == 1 else run.label
        for index, line in enumerate(run.by_setting()):
            cells = _run_cells(line, digits)
            cells["policy"] = f"{label}, {line.setting}" if line.setting else label
            if index == 0 and run.train_s is not None:
                cells["time"] = f"{run.train_s:.0f} s"
            rows.append(cells)
    if first.expert_returns:
        rows.append(_data_cells("expert", first.expert_returns, first, digits, column=MODE))
        rows[-1]["mode, success"] = _rate_text(first.expert_success)
    columns = [name for name in COLUMNS if any(cells.get(name) for cells in rows)]
    return Table(
        title, _headings(columns, lines), [[c.get(n, "") for n in columns] for c in rows],
        _notes(runs),
    )  # fmt: skip


def _headings(columns: Sequence[str], lines: Sequence[RunSummary]) -> list[str]:
    """Column titles; where all lines have the same seeds, they name them."""
    seeds = {tuple(line.seeds) for line in lines}
    known = f" {' '.join(map(str, seeds.pop()))}" if len(seeds) == 1 else ""
    return [name + known if name.endswith("by seed") else name for name in columns]


def _notes(runs: Sequence[RunSummary]) -> list[str]:
    """Remarks below a table: best members of sweeps, missing evaluations and scores."""
    notes = [
        f"best of {run.label}: {run.best()}"
        for run in runs
        if len(run.by_setting()) > 1 and run.best()
    ]
    missing = [run for run in runs if not run.is_evaluated and not run.has_diverged]
    if missing and runs[0].env_id is None:
        notes.append(NO_EVALUATION)
    elif missing:
        notes.append(f"not evaluated yet: fastifo evaluate {missing[0].folder} --play both")
    elif any((run.returns is None) != (run.deterministic is None) for run in runs):
        notes.append("fastifo evaluate RUN --play both fills the empty cells")
    if remark := score_remark(runs[0].env_id or "", runs[0].reference_returns):
        notes.append(remark)
    return notes


def _digits(lines: Sequence[RunSummary], first: RunSummary) -> int:
    """Decimals of all returns in a table."""
    found = [r for line in lines for r in (line.returns, line.deterministic) if _is_known(r)]
    data = [float(np.mean(r)) for r in (first.background_returns, first.expert_returns) if r]
    spreads = [high - low for low, high in (returns.interval for returns in found if returns)]
    values = [value for returns in found if returns for value in returns.per_member]
    return decimals_for([*data, *values], [float(np.median(spreads))] if spreads else [])


def _is_known(returns: Returns | None) -> bool:
    return returns is not None and not np.isnan(returns.returns).all()


def _run_cells(line: RunSummary, digits: int) -> Cells:
    """The cells of one setting."""
    cells: Cells = {}
    for column, prefix, returns in (
        (SAMPLED, "", line.returns),
        (MODE, "mode, ", line.deterministic),
    ):
        if returns is None:
            continue
        cells["updates"] = f"{returns.num_updates:,}"
        if not _is_known(returns):
            cells[column] = "diverged"
            continue
        low, high = returns.interval
        cells[column] = f"{returns.mean:.{digits}f}"
        cells[f"{prefix}95 % interval"] = f"{low:.{digits}f} to {high:.{digits}f}"
        cells[f"{prefix}by seed"] = " ".join(f"{mean:.{digits}f}" for mean in returns.per_member)
        cells[f"{prefix}score"] = _score_text(returns.score)
        if returns.success is not None and returns.success_interval is not None:
            low, high = returns.success_interval
            cells[f"{prefix}success"] = f"{returns.success:.0%} ({low:.0%} to {high:.0%})"
    return cells or {SAMPLED: "diverged" if line.has_diverged else "not evaluated"}


def _rate_text(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.0%}"


def _score_text(score: float | None) -> str:
    return "" if score is None else f"{score:.1f}"


def _data_cells(
    label: str, returns: Sequence[float], run: RunSummary, digits: int, column: str = SAMPLED
) -> Cells:
    """A row for episodes of the dataset that the run learned from."""
    mean, (low, high) = float(np.mean(returns)), bootstrap_interval(np.array([returns]))
    prefix = "mode, " if column == MODE else ""
    return {
        "policy": label,
        column: f"{mean:.{digits}f}",
        f"{prefix}95 % interval": f"{low:.{digits}f} to {high:.{digits}f}",
        f"{prefix}score": _score_text(
            normalized_score(run.env_id or "", mean, run.reference_returns)
        ),
    }
