"""Tables over several sets or iterations: scores, success, and self-improvement."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fastifo.envs.returns import Returns
from fastifo.report.runs import series_of
from fastifo.report.summary import RunSummary
from fastifo.report.tables import MODE, SAMPLED, Table
from fastifo.studies.improvement import Improvement
from fastifo.utils.statistics import interquartile_mean, stratified_interval

AGGREGATE_HEADER = (
    "algorithm", SAMPLED, "95 % interval", MODE, "mode, 95 % interval", "sets",
)  # fmt: skip
AGGREGATE_TITLE = (
    "All sets together: interquartile mean of D4RL scores, stratified bootstrap over seeds"
)
GAIN_TITLE = (
    "All sets together: mean success minus the background's, stratified bootstrap over seeds"
)

Row = tuple[str, float, tuple[float, float], int]  # algorithm, mean, 95 % interval, number of sets
Values = Callable[[RunSummary, Returns], Sequence[float | None] | None]


def aggregate_tables(runs: Sequence[RunSummary]) -> list[Table]:
    """The tables that the runs have values for: scores, and success against the background's.

    They have a row per algorithm and setting.
    """
    score, gain = ((lambda x: f"{x:.1f}"), (lambda x: f"{x:+.1%}"))
    found = [
        _table(AGGREGATE_TITLE, runs, aggregate, score),
        _table(GAIN_TITLE, runs, aggregate_gains, gain),
    ]
    return [table for table in found if table is not None]


def _table(
    title: str,
    runs: Sequence[RunSummary],
    rows_of: Callable[..., list[Row]],
    text: Callable[[float], str],
) -> Table | None:
    """The rows of samples and of the mode side by side; None where there are none."""
    cells: dict[str, dict[str, str]] = {}
    for kind, prefix, deterministic in ((SAMPLED, "", False), (MODE, "mode, ", True)):
        for name, mean, (low, high), num_sets in rows_of(runs, deterministic=deterministic):
            cells.setdefault(name, {"algorithm": name, "sets": str(num_sets)})
            cells[name] |= {
                kind: text(mean),
                f"{prefix}95 % interval": f"{text(low)} to {text(high)}",
            }
    rows = [[row.get(column, "") for column in AGGREGATE_HEADER] for row in cells.values()]
    return Table(title, AGGREGATE_HEADER, rows) if rows else None


def aggregate(runs: Sequence[RunSummary], *, deterministic: bool = False) -> list[Row]:
    """Interquartile means of the D4RL score.

    deterministic: of the policies' modes; False: of sampled actions.
    The settings of a sweep have rows of their own. Uses the sets that every algorithm was evaluated
    on. An algorithm whose sets differ in their number of members has no row.
    """
    return _aggregate(runs, _scores, interquartile_mean, deterministic)


def aggregate_gains(runs: Sequence[RunSummary], *, deterministic: bool = False) -> list[Row]:
    """Means of the rate of success minus the background's; otherwise as `aggregate`."""
    return _aggregate(runs, _gains, lambda values: float(values.mean()), deterministic)


def _scores(line: RunSummary, returns: Returns) -> list[float | None] | None:
    if returns.score_of(0.0) is None:
        return None
    return [returns.score_of(mean) for mean in returns.per_member]


def _gains(line: RunSummary, returns: Returns) -> list[float] | None:
    rates, background = returns.success_per_member, line.background_success
    if rates is None or background is None:
        return None
    return [float(rate) - background for rate in rates]


def _aggregate(
    runs: Sequence[RunSummary],
    values_of: Values,
    statistic: Callable[[NDArray[np.float64]], float],
    deterministic: bool,
) -> list[Row]:
    lines = [line for run in runs for line in run.by_setting()]
    values: dict[str, dict[str, list[float]]] = {}  # series -> dataset -> members' values
    for line in lines:
        returns = line.deterministic if deterministic else line.returns
        members = None if returns is None else values_of(line, returns)
        if members is None:
            continue
        by_set = values.setdefault(line.series, {})
        by_set.setdefault(line.dataset["fingerprint"], []).extend(
            value for value in members if value is not None and np.isfinite(value)
        )
    shared = set.intersection(*map(set, values.values())) if values else set()
    rows = []
    for name in series_of(lines):
        columns = [values[name][key] for key in sorted(shared)] if name in values else []
        if not columns or len({len(column) for column in columns}) > 1 or not columns[0]:
            continue
        matrix = np.array(columns).T  # [members, sets]
        interval = stratified_interval(matrix, statistic=statistic)
        rows.append((name, statistic(matrix), interval, len(columns)))
    return rows


def improvement_table(improvement: Improvement) -> Table:
    """A line for each iteration, with the success or return of each seed and their mean."""
    return Table(
        f"{improvement.env_id}: {improvement.algorithm}, {improvement.measure} after each "
        "iteration, sampled actions",
        improvement.columns,
        improvement.rows,
    )
