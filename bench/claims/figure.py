"""The figure of a study: returns of every method beside the background's, a panel per set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.claims import sources
from bench.claims.sources import method_name, read
from fastifo.report.plotting import COLORS, png_figure
from fastifo.report.runs import ORDER

Row = dict[str, str]


def draw(name: str) -> Path | None:
    """Draws the rows of a file next to it; nothing without rows.  name: such as main.csv."""
    panels: dict[str, list[Row]] = {}
    for row in read(name):
        if row["iteration"] == "0":
            panels.setdefault(f"{row['task']} {row['set']}, {row['hidden']} x 2", []).append(row)
    if not panels:
        return None
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    path = sources.RESULTS / name.replace(".csv", ".png")
    with png_figure(path, lines, columns, (3.8 * columns, 3.2 * lines)) as (figure, axes):
        handles: dict[str, Any] = {}
        for index, (axis, (title, rows)) in enumerate(zip(axes, panels.items(), strict=False)):
            handles |= draw_panel(axis, rows)
            axis.set_title(title, fontsize=9)
            if index % columns == 0:
                axis.set_ylabel("mean return")
        for axis in axes[len(panels) :]:
            axis.axis("off")
        labels = sorted(handles, key=order_of)
        drawn = [handles[label] for label in labels]
        figure.legend(drawn, labels, loc="outside lower center", ncols=2 * columns - 1)
    return path


def order_of(label: str) -> tuple[int, str]:
    """The place of a method among the others; its variants follow it."""
    method = label.split(maxsplit=1)[0]
    return (ORDER.index(method) if method in ORDER else -1, label)


def draw_panel(axis: Any, rows: list[Row]) -> dict[str, Any]:
    """The returns on one set, the methods of each number of updates side by side.

    Bars are 95 % intervals. A line joins one method's results at different numbers of updates.
    Returns what was drawn, by its label in the legend.
    """
    handles = {}
    for level in dict.fromkeys(float(row["background"]) for row in rows):
        line = axis.axhline(level, color="0.4", ls="--", lw=1)
        handles["background, of each machine's data"] = line
    stages = sorted({int(row["updates"]) for row in rows})
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(method_name(row), []).append(row)
    labels = sorted(found, key=order_of)
    for place, label in enumerate(labels):
        policies = sorted(found[label], key=lambda row: int(row["updates"]))
        offset = 0.7 * ((place + 0.5) / len(labels) - 0.5)
        x = [stages.index(int(row["updates"])) + offset for row in policies]
        means, lows, highs = (
            np.array([float(row[name]) for row in policies]) for name in ("return", "low", "high")
        )
        method, *variant = label.split(maxsplit=1)
        handles[label] = axis.errorbar(
            x, means, [means - lows, highs - means], marker="o", ms=4, capsize=2,
            color=COLORS[ORDER.index(method)], ls=":" if variant else "-", lw=1, elinewidth=1.5,
        )  # fmt: skip
    axis.set_xticks(range(len(stages)), [f"{stage // 1000}k" for stage in stages])
    axis.set_xlim(-0.5, len(stages) - 0.5)
    axis.set_xlabel("updates")
    return handles
