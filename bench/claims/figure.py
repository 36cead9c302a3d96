"""The figure of a study: returns of every method beside the background's, a panel per set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.claims import sources
from bench.claims.sources import read
from fastifo.report.plotting import COLORS, png_figure
from fastifo.report.runs import ORDER


def draw(name: str) -> Path | None:
    """Draws the rows of a file next to it; nothing without rows.  name: such as main.csv."""
    panels: dict[str, list[dict[str, str]]] = {}
    for row in read(name):
        if row["iteration"] == "0":
            panels.setdefault(f"{row['task']} {row['set']}, {row['hidden']} x 2", []).append(row)
    if not panels:
        return None
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    path = sources.RESULTS / name.replace(".csv", ".png")
    with png_figure(path, lines, columns, (3.8 * columns, 3.2 * lines)) as (_, axes):
        for axis, (title, rows) in zip(axes, panels.items(), strict=False):
            draw_panel(axis, rows)
            axis.set_title(title, fontsize=9)
        for axis in axes[len(panels) :]:
            axis.axis("off")
    return path


def draw_panel(axis: Any, rows: list[dict[str, str]]) -> None:
    """The returns on one set over updates, with 95 % intervals."""
    for index, level in enumerate(dict.fromkeys(float(row["background"]) for row in rows)):
        label = "" if index else "background"  # one line for each machine that built the set
        axis.axhline(level, color="0.4", ls="--", lw=1, label=label)
    for method, variant in dict.fromkeys((row["method"], row["variant"]) for row in rows):
        points = sorted(
            [float(row[name]) for name in ("updates", "return", "low", "high")]
            for row in rows
            if (row["method"], row["variant"]) == (method, variant)
        )
        updates, means, lows, highs = np.array(points).T
        axis.errorbar(
            updates, means, [means - lows, highs - means], marker="o", ms=3, capsize=2,
            label=f"{method} {variant}".strip(), color=COLORS[ORDER.index(method)],
            ls=":" if variant else "-",
        )  # fmt: skip
    stages = sorted({int(row["updates"]) for row in rows})
    axis.set_xticks(stages, [f"{stage // 1000}k" for stage in stages])
    axis.set_xlabel("updates")
    axis.legend(fontsize=6)
