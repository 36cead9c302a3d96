"""`fastifo report`."""

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Report:
    """Make tables, figures, a CSV file and an HTML page from the runs below a folder.

    Needs     a folder with runs of `fastifo train`, `study` or `improve`
    Writes    report.html, results.csv and figures (*.png) in that folder
    Example   fastifo report runs
    """

    folder: tyro.conf.Positional[Path]
    """Folder that contains the run folders."""
    figure: Path | None = None
    """File of the figure when all runs share one dataset. Default: FOLDER/report.png."""

    def main(self) -> None:
        """Prints the tables and the paths of the main figure and the page."""
        from fastifo.report.report import report

        print(f"figure  {report(self.folder, self.figure)}")
        print(f"page    {self.folder / 'report.html'}")
