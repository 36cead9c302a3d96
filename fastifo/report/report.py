"""`fastifo report`: tables, figures, a CSV file and a page, from run folders alone."""

from collections.abc import Sequence
from pathlib import Path

from fastifo.engine.pictures import EPISODE_OF, SHEET
from fastifo.report import figures, html, tables
from fastifo.report.aggregates import aggregate_tables, improvement_table
from fastifo.report.card import write_card
from fastifo.report.csv import write_results
from fastifo.report.reward_figures import draw_rewards
from fastifo.report.run_figures import draw_runs
from fastifo.report.runs import as_folders, base_folder, by_dataset, name_below, read_runs
from fastifo.report.summary import RunSummary
from fastifo.report.sweep_table import sweep_table
from fastifo.studies.improvement import FILE, Improvement
from fastifo.studies.sweep_results import FILE as SWEEP_FILE
from fastifo.studies.sweep_results import Sweep

Images = list[tuple[str, Path]]  # title and PNG file of each figure


def report(
    folders: str | Path | Sequence[str | Path],
    figure: str | Path | None = None,
    out: str | Path | None = None,
) -> Path:
    """Prints tables, and writes figures, `results.csv`, `report.html` and cards of the runs.

    A card says of one run what its policies are, where they come from and how they do. It is
    `card.md`, or where there are several runs `cards/<run>.md`.

    folders: one folder, or several whose runs are compared.
    figure: file of the figure when all runs share one dataset; report.png unless given.
    out: folder of the files; the folder of the runs unless given, or `report` in the current
        folder where there are several.
    Returns the file of the first figure, or of the page where there is none.  Raises
    FileNotFoundError where there is no run, ValueError naming a file that is damaged.
    """
    roots = as_folders(folders)
    target = output_folder(roots, out)
    improvements = [each for root in roots for each in read_improvements(root)]
    sweeps = [each for root in roots for each in read_sweeps(root)]
    try:
        runs = read_runs(roots)
    except FileNotFoundError:
        if not improvements and not sweeps:
            raise
        runs = []
    target.mkdir(parents=True, exist_ok=True)
    parts = report_tables(runs, improvements)
    for sweep in sweeps:
        parts += _report_sweep(sweep)
    images = draw_run_figures(runs, target, figure)
    images += draw_detail_figures(runs, improvements, target)
    base = base_folder(roots)
    if runs and not (target / SWEEP_FILE).exists():  # a sweep's own file has all its members
        write_results(runs, base, target / "results.csv")
        write_cards(runs, base, target)
    pictures = [html.image(title, path) for title, path in images]
    configs = {run.folder: run.config for run in runs}
    details = [html.config(name_below(base, path), content) for path, content in configs.items()]
    title = ", ".join(root.resolve().name for root in roots)
    html.write_page(target / "report.html", title, [*pictures, *parts, *details])
    return images[0][1] if images else target / "report.html"


def read_sweeps(folder: Path) -> list[Sweep]:
    """Every sweep below a folder.  Raises ValueError naming a damaged file."""
    return [Sweep.load(path) for path in sorted(folder.rglob(SWEEP_FILE))]


def _report_sweep(sweep: Sweep) -> list[str]:
    """Prints a sweep's table and returns it as HTML."""
    table = sweep_table(sweep)
    table.print()
    return [html.table(table)]


def write_cards(runs: Sequence[RunSummary], base: Path, target: Path) -> None:
    """Writes `card.md` of a single run, or a file below `cards` for each of several.

    base: the folder that run folders are named relative to.
    """
    folders = list(dict.fromkeys(run.folder for run in runs))
    for folder in folders:
        name = "card.md" if len(folders) == 1 else f"cards/{name_below(base, folder)}.md"
        write_card([run for run in runs if run.folder == folder], target / name)


def output_folder(roots: Sequence[Path], out: str | Path | None) -> Path:
    """Where a report's files are written; see `report`."""
    if out is not None:
        return Path(out)
    return roots[0] if len(roots) == 1 else Path("report")


def read_improvements(folder: Path) -> list[Improvement]:
    """Every self-improvement below a folder.  Raises ValueError naming a damaged file."""
    found = map(Improvement.load, sorted(folder.rglob(FILE)))
    return [improvement for improvement in found if improvement is not None]


def report_tables(runs: Sequence[RunSummary], improvements: Sequence[Improvement]) -> list[str]:
    """Prints every table and returns them as HTML: all sets together, each set, improvements."""
    parts = []
    for group in by_dataset(runs):
        table = tables.run_table(group)
        table.print()
        parts.append(html.table(table))
    aggregates = aggregate_tables(runs) if figures.runs_by_task(runs) else []
    for table in aggregates:
        table.print()
    parts = [*map(html.table, aggregates), *parts]
    for improvement in improvements:
        print(improvement)
        parts.append(html.table(improvement_table(improvement)))
    return parts


def draw_run_figures(runs: Sequence[RunSummary], root: Path, figure: str | Path | None) -> Images:
    """The main figures: by background where a task has several, else one figure of the runs."""
    tasks = figures.runs_by_task(runs)
    if tasks:
        differences, returns = root / "differences.png", root / "returns.png"
        figures.draw_differences(tasks, differences)
        figures.draw_returns(tasks, returns)
        return [("Differences to the background", differences), ("By background", returns)]
    if not runs:
        return []
    path = Path(figure) if figure is not None else root / "report.png"
    draw_runs(runs, path)
    return [("Runs", path)]


def draw_detail_figures(
    runs: Sequence[RunSummary], improvements: Sequence[Improvement], root: Path
) -> Images:
    """Figures of sweeps, of TGE's rewards, of self-improvement, and frames of images."""
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
    return images + frames_of(runs)


def frames_of(runs: Sequence[RunSummary]) -> Images:
    """Frames of each dataset once, and of an episode of each run's policies, as training wrote."""
    images: dict[str, Path] = {}
    for run in runs:
        number = run.config["datasets"].index(run.dataset)
        sheet = run.folder / SHEET.format(number)
        if sheet.exists():
            name = f"{run.env_id} ({run.dataset['fingerprint'][:8]})"
            images.setdefault(f"Frames of the data of {name}: expert, then background", sheet)
    for run in {run.folder: run for run in runs}.values():
        for deterministic, file in EPISODE_OF.items():
            kind = "the mode" if deterministic else "sampled actions"
            if (run.folder / file).exists():
                title = f"An episode of each policy of {run.label}, {kind}"
                images[title] = run.folder / file
    return [*images.items()]
