"""What all figures of a report share: colors, and files that are complete or absent."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fastifo.utils.files import write_atomic

COLORS = (
    "#4477aa", "#ee6677", "#228833", "#aa3377", "#ccbb44", "#66ccee", "#bbbbbb", "#000000",
    "#cc6633", "#882255", "#44aa99", "#999933", "#332288", "#ddaa33", "#117733", "#88ccee",
    "#bb5566",
)  # fmt: skip


def color_of(index: int) -> str:
    """A color for the index-th algorithm or run; they repeat after the last."""
    return COLORS[index % len(COLORS)]


@contextlib.contextmanager
def png_figure(
    path: Path, rows: int, columns: int, size: tuple[float, float]
) -> Iterator[tuple[Any, Any]]:
    """A matplotlib figure and its array of axes; written to `path` at the end of the block.

    size: width and height in inches.  Raises OSError naming the file where it cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=size, constrained_layout=True, squeeze=False)
    try:
        yield figure, axes.ravel()
        write_atomic(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))
    finally:
        plt.close(figure)


def draw_panels(titles: Sequence[str], draw: Callable[[Any, str], None], path: Path) -> None:
    """Writes a figure with a panel for each title, two in a row.  draw: called as (axis, title)."""
    columns = min(2, len(titles))
    rows = -(-len(titles) // columns)
    with png_figure(path, rows, columns, (7 * columns, 4.6 * rows)) as (_, axes):
        for axis, title in zip(axes, titles, strict=False):
            draw(axis, title)
            axis.set_title(title)
            axis.legend(fontsize=8)
        for axis in axes[len(titles) :]:
            axis.set_visible(False)
