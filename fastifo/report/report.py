"""`fastifo report`: tables, the papers' figures, a CSV file and a page, from folders alone."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fastifo.report import figures, html
from fastifo.report.csv import write_results
from fastifo.report.reward_figures import draw_rewards
from fastifo.report.runs import (
    HEADER,
    Entry,
    by_dataset,
    draw_figure,
    print_table,
    read_runs,
    table_rows,
    title_of,
)
from fastifo.studies.improve import FORMAT, Improvement
from fastifo.utils.files import read_json

AGGREGATE = ("algorithm", "interquartile mean of the score", "95 % interval", "sets")


def read_improvements(folder: Path) -> list[Improvement]:
    """Every self-improvement below a folder."""
    found = []
    for path in sorted(folder.rglob("improve.json")):
        content = read_json(path)
        try:
            if content.pop("format") != FORMAT:
                continue
            found.append(Improvement(**content | {"seeds": tuple(content["seeds"])}))
        except (AttributeError, KeyError, TypeError):
            raise ValueError(
                f"{path}: expected a self-improvement's results; run it again"
            ) from None
    return found


def report(folder: str | Path, figure: str | Path | None = None) -> Path:
    """Prints a table for each dataset; writes figures, `results.csv` and `report.html` into the
    folder.

    figure: of runs on one dataset; report.png unless named.  Returns what was drawn first.
    Raises FileNotFoundError where there is no run.
    """
    root = Path(folder)
    improvements = read_improvements(root)
    try:
        entries = read_runs(root)
    except FileNotFoundError:
        if not improvements:
            raise
        entries = []
    parts, drawn = [], []
    for group in by_dataset(entries):
        print_table(group)
        parts.append(html.table(title_of(group), HEADER, table_rows(group)))
    tasks = figures.compared(entries)
    if tasks:
        rows = aggregate_rows(entries)
        if rows:
            print_aggregate(rows)
            parts.insert(0, html.table("All sets together", AGGREGATE, rows))
        for name, title, draw in (
            ("differences", "Return less the background's", figures.draw_differences),
            ("returns", "Returns", figures.draw_returns),
        ):
            drawn.append((title, root / f"{name}.png"))
            draw(tasks, drawn[-1][1])
    elif entries:
        drawn.append(("Runs", Path(figure) if figure is not None else root / "report.png"))
        draw_figure(entries, drawn[-1][1])
    sweeps = figures.swept(entries)
    if sweeps:
        drawn.append(("Sensitivity", root / "sweeps.png"))
        figures.draw_sweeps(sweeps, drawn[-1][1])
    for path in sorted({path for e in entries for path in e.folder.glob("tge-*.npz")}):
        drawn.append((f"Rewards of {path.parent.name}, {path.stem}", path.with_suffix(".png")))
        draw_rewards(path, drawn[-1][1])
    if improvements:
        for each in improvements:
            print(each)
            header = ["iteration", *(f"seed {seed}" for seed in each.seeds)]
            lines = [
                [str(i), *(f"{value:.1f}" for value in row)]
                for i, row in enumerate(zip(*each.returns, strict=True))
            ]
            parts.append(html.table(f"{each.env_id}: {each.algorithm}, improving", header, lines))
        drawn.append(("Self-improvement", root / "sawteeth.png"))
        figures.draw_sawteeth(improvements, drawn[-1][1])
    if entries:
        write_results(entries, root, root / "results.csv")
    pictures = [html.picture(title, path) for title, path in drawn]
    configs = {entry.folder: entry.config for entry in entries}
    details = [
        html.config(str(path.relative_to(root)), content) for path, content in configs.items()
    ]
    html.write_page(root / "report.html", root.resolve().name, [*pictures, *parts, *details])
    return drawn[0][1]


def aggregate_rows(entries: Sequence[Entry]) -> list[list[str]]:
    return [
        [name, f"{mean:.1f}", f"{low:.1f} to {high:.1f}", str(sets)]
        for name, mean, (low, high), sets in figures.aggregate(entries)
    ]


def print_aggregate(rows: Sequence[Sequence[str]]) -> None:
    table = Table(
        title="all sets together: D4RL scores, stratified bootstrap", title_justify="left"
    )
    for place, name in enumerate(AGGREGATE):
        table.add_column(name, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
