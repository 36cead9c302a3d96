"""Layouts of files, built from known episodes and read back: `python tests/data/layouts.py`.

For each layout the script writes a file, reads it, and compares the result with the episodes in it:
their number and lengths, pairs of observations across episodes (none), terminals, and actions in
the environment's bounds. Layouts that leave something open have to be refused without an option.

`layout_table.py` and `other_layouts.py` list the layouts, `layout_files.py` and `table_files.py`
write them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # where pytest imports tests from

from data.layout_table import LAYOUTS, Layout
from data.other_layouts import OTHER_LAYOUTS


def check(layout: Layout, folder: Path) -> list[str]:
    """What is wrong with reading a layout; empty if it is right."""
    import fastifo

    path = folder / layout.file
    path.parent.mkdir(parents=True, exist_ok=True)
    layout.write(path, layout.truth)
    spec = f"{layout.kind}:{path}" if layout.kind else str(path)
    faults = []
    if layout.refused:
        try:
            fastifo.load(spec)
            faults.append("read although it leaves something open")
        except ValueError as error:
            if layout.refused not in str(error) or path.name not in str(error):
                faults.append(f"refused with other words: {error}")
    dataset = fastifo.load(spec + layout.options, **layout.arguments)
    return faults + compare(layout, dataset)


def compare(layout: Layout, dataset: Any) -> list[str]:
    """What differs between a dataset and the episodes of a layout."""
    part, truth, faults = dataset.background, layout.truth, []
    index = layout.episodes or tuple(range(len(truth.obs)))
    terminal = [truth.terminal[e] and not layout.timeouts for e in index]
    # Without a next observation, the last transition before a time limit cannot be kept.
    lengths = [
        len(truth.reward[e]) - (layout.kept == "known" and not ended)
        for e, ended in zip(index, terminal, strict=True)
    ]
    obs, action = part.obs.numpy(), part.action.numpy()
    row = part.rows().numpy()
    across = int((obs[row][:, 0] != obs[row + 1][:, 0]).sum())
    if part.lengths.tolist() != lengths:
        return [f"lengths {part.lengths.tolist()}, expected {lengths}"]
    if across:
        faults.append(f"{across} pairs across episodes")
    if part.terminal[part.start[1:] - 1].tolist() != terminal:
        faults.append(f"terminals {part.terminal[part.start[1:] - 1].tolist()} expected {terminal}")
    if int(part.terminal.sum()) != sum(terminal):
        faults.append("terminals inside an episode")
    if dataset.action_low is not None:
        low, high = dataset.action_low.numpy(), dataset.action_high.numpy()
        action = low + 0.5 * (action + 1) * (high - low)
    first, first_row = part.start.tolist(), 0
    for i, (e, count) in enumerate(zip(index, lengths, strict=True)):
        if not np.allclose(action[first[i] : first[i] + count], truth.action[e][:count], atol=1e-6):
            faults.append(f"actions of episode {e}")
        expected = truth.obs[e][: count + 1].copy()
        if layout.kept == "known" and terminal[i]:
            expected[-1] = expected[-2]  # which nothing bootstraps from
        if not np.array_equal(obs[first_row : first_row + count + 1, :2], expected):
            faults.append(f"observations of episode {e}")
        first_row += count + 1
    return faults


def main() -> None:
    failed, layouts = 0, LAYOUTS + OTHER_LAYOUTS
    for layout in layouts:
        with tempfile.TemporaryDirectory() as folder:
            try:
                faults = check(layout, Path(folder))
            except Exception as error:
                faults = [f"{type(error).__name__}: {error}"]
        failed += bool(faults)
        print("FAILS" if faults else "ok   ", layout.name, *faults)
    print(f"{len(layouts) - failed} of {len(layouts)} layouts are right")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
