"""Writes bench/results/studies.md anew: verdicts, evidence, rows and figures, from committed rows.

Example: python -m bench.claims
"""

from bench.claims.figure import draw
from bench.tables import ROOT, TABLES, fill

DOCUMENT = "bench/results/studies.md"


def main() -> None:
    """Draws the figures of the studies, then fills the tables of the page."""
    for name in ("main.csv", "tge-study.csv"):
        draw(name)
    path = ROOT / DOCUMENT
    path.write_text(fill(path.read_text(), TABLES[DOCUMENT], DOCUMENT))


if __name__ == "__main__":
    main()
