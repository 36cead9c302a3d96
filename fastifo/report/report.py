"""`fastifo report`: tables, figures, a CSV file and a page, from run folders alone."""

from collections.abc import Sequence
from pathlib import Path

from fastifo.report import figures, html, tables
from fastifo.report.csv import write_results
from fastifo.report.reward_figures import draw_rewards
from fastifo.report.run_figures import draw_runs
from fastifo.report.runs import RunSummary, by_dataset, read_runs
from fastifo.studies.improve import FORMAT, Improvement
from fastifo.utils.files import read_json

Images = list[tuple[str, Path]]  # title and PNG file of each figure


def report(folder: str | Path, figure: str | Path | None = None) -> Path:
    """Prints tables, and writes figures, `results.csv` and `report.html` into the folder.

    figure: file of the figure when all runs share one dataset; FOLDER/report.png unless given.
    Returns the file of the first figure.  Raises FileNotFoundError where there is no run,
    ValueError naming a file that is damaged.
    """
    root = Path(folder)
    improvements = read_improvements(root)
    try:
        runs = read_runs(root)
    except FileNotFoundError:
        if not improvements:
            raise
        runs = []
    parts = report_tables(runs, improvements)
    images = draw_run_figures(runs, root, figure) + draw_detail_figures(runs, improvements, root)
    if runs:
        write_results(runs, root, root / "results.csv")
    pictures = [html.image(title, path) for title, path in images]
    configs = {run.folder: run.config for run in runs}
    details = [
        html.config(str(path.relative_to(root)), content) for path, content in configs.items()
    ]
    html.write_page(root / "report.html", root.resolve().name, [*pictures, *parts, *details])
    return images[0][1]


def read_improvements(folder: Path) -> list[Improvement]:
    """Every self-improvement below a folder.  Raises ValueError naming a damaged file."""
    improvements = []
    for path in sorted(folder.rglob("improve.json")):
        content = read_json(path)
        try:
            if content.pop("format") != FORMAT:
                continue
            improvements.append(Improvement(**content | {"seeds": tuple(content["seeds"])}))
        except (AttributeError, KeyError, TypeError):
            raise ValueError(
                f"{path}: expected a self-improvement's results; run it again"
            ) from None
    return improvements


def report_tables(runs: Sequence[RunSummary], improvements: Sequence[Improvement]) -> list[str]:
    """Prints every table and returns them as HTML: all sets together, each set, improvements."""
    parts = []
    for group in by_dataset(runs):
        title, (columns, rows) = tables.run_title(group), tables.run_table(group)
        tables.print_table(title, columns, rows)
        parts.append(html.table(title, columns, rows))
    aggregate = tables.aggregate_rows(runs) if figures.runs_by_task(runs) else []
    if aggregate:
        tables.print_table(tables.AGGREGATE_TITLE, tables.AGGREGATE_HEADER, aggregate)
        parts.insert(0, html.table("All sets together", tables.AGGREGATE_HEADER, aggregate))
    for improvement in improvements:
        print(improvement)
        header = ["iteration", *(f"seed {seed}" for seed in improvement.seeds)]
        rows = [
            [str(iteration), *(f"{value:.1f}" for value in row)]
            for iteration, row in enumerate(zip(*improvement.returns, strict=True))
        ]
        title = f"{improvement.env_id}: {improvement.algorithm}, improving"
        parts.append(html.table(title, header, rows))
    return parts


def draw_run_figures(runs: Sequence[RunSummary], root: Path, figure: str | Path | None) -> Images:
    """The main figures: by background where a task has several, else one figure of the runs."""
    tasks = figures.runs_by_task(runs)
    if tasks:
        differences, returns = root / "differences.png", root / "returns.png"
        figures.draw_differences(tasks, differences)
        figures.draw_returns(tasks, returns)
        return [("Return minus the background's", differences), ("Returns", returns)]
    if not runs:
        return []
    path = Path(figure) if figure is not None else root / "report.png"
    draw_runs(runs, path)
    return [("Runs", path)]


def draw_detail_figures(
    runs: Sequence[RunSummary], improvements: Sequence[Improvement], root: Path
) -> Images:
    """Figures of sweeps, of TGE's rewards, and of self-improvement."""
    images = []
    if sweeps := figures.find_sweeps(runs):
        images.append(("Sensitivity", root / "sweeps.png"))
        figures.draw_sweeps(sweeps, root / "sweeps.png")
    for summary in sorted({path for run in runs for path in run.folder.glob("tge-*.npz")}):
        path = summary.with_suffix(".png")
        images.append((f"Rewards of {summary.parent.name}, {summary.stem}", path))
        draw_rewards(summary, path)
    if improvements:
        images.append(("Self-improvement", root / "sawteeth.png"))
        figures.draw_sawteeth(improvements, root / "sawteeth.png")
    return images
