"""`fastifo report`."""

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Report:
    """Make tables, figures, a CSV file and an HTML page from runs.

    Needs     folders with runs of `fastifo train`, `study` or `improve`; several are compared
    Writes    report.html, results.csv and figures (*.png) in --out, and a card of each run:
              card.md, or cards/<run>.md where there are several
    Example   fastifo report runs
    Example   fastifo report runs/bc old/runs/vfo_bin --out comparison
    """

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, or folders that contain them."""
    out: Path | None = None
    """Folder of the files. Default: the folder of the runs, or `report` if there are several."""
    figure: Path | None = None
    """File of the figure when all runs share one dataset. Default: report.png in --out."""

    def main(self) -> None:
        """Prints the tables and the paths of the main figure and the page."""
        from fastifo.report.report import output_folder, report
        from fastifo.report.runs import as_folders

        print(f"figure  {report(self.folders, self.figure, self.out)}")
        print(f"page    {output_folder(as_folders(self.folders), self.out) / 'report.html'}")
