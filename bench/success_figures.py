"""Draws the figures of the studies that measure success, from the rows in bench/results.

Example: python -m bench.success_figures

Each study has two: success, and success minus the background's. They depend on the rows only, so
rows of several machines can be combined in one figure.
"""

from functools import partial
from typing import Any

import numpy as np

from bench.arguments import make_parser
from bench.study_tables import RESULTS, read_rows
from fastifo.report.plotting import color_of, draw_panels
from fastifo.utils.statistics import wilson_interval

STUDIES = ("clones", "clones-terminal", "robot-clones", "manipulation")
KINDS = (("success", "s"), ("success_mode", "D"))  # columns of a row, and their markers
GROUP_WIDTH = 0.8  # of the methods of one set

Sets = dict[str, dict[str, list[dict[str, str]]]]  # set -> method -> its rows, one per seed


def sets_by_task(name: str) -> dict[str, Sets]:
    """The rows of a study by task, and each task's sets from the worst background to the best."""
    tasks: dict[str, Sets] = {}
    for row in sorted(read_rows(f"{name}.csv"), key=lambda r: float(r["background_success"])):
        methods = tasks.setdefault(row["env_id"], {}).setdefault(row["set"], {})
        methods.setdefault(row["algorithm"], []).append(row)
    return dict(sorted(tasks.items()))


def draw_task(axis: Any, task: str, tasks: dict[str, Sets], *, relative: bool) -> None:
    """All sets of a task: of each method the rate over all episodes with its 95 % Wilson interval.

    relative: subtract the background's success.
    """
    sets = tasks[task]
    methods = list(dict.fromkeys(m for one in tasks.values() for s in one.values() for m in s))
    for group, by_method in enumerate(sets.values()):
        for method, rows in by_method.items():
            index, base = methods.index(method), float(rows[0]["background_success"])
            at = group + GROUP_WIDTH * ((index + 0.5) / len(methods) - 0.5)
            draw_rates(axis, at, rows, base if relative else 0.0, color_of(index))
    bases = [float(next(iter(s.values()))[0]["background_success"]) for s in sets.values()]
    if relative:
        axis.axhline(0.0, color="k", ls=":", lw=1.2)
    else:
        axis.plot(range(len(bases)), bases, "k:", lw=1.2, label="background")
    for index, method in enumerate(methods):
        axis.plot([], [], "s", color=color_of(index), label=method)
    axis.plot([], [], "D", mfc="none", color="0.3", ms=4, label="mode")
    labels = (f"{name}: {base:.0%}" for name, base in zip(sets, bases, strict=True))
    axis.set_xticks(range(len(sets)), labels)
    axis.set_xlabel("success of the background")
    measure = "success minus the background's" if relative else "success"
    axis.set_ylabel(f"{measure}\nbars: 95 % Wilson intervals, dots: seeds")


def draw_rates(axis: Any, at: float, rows: list[dict[str, str]], base: float, color: str) -> None:
    """Sampled actions and mode of one method on one set.  at: place on the x axis."""
    for (column, marker), shift in zip(KINDS, (-0.02, 0.02), strict=True):
        rates = np.array([float(row[column]) for row in rows])
        mean, count = float(rates.mean()), sum(int(row["episodes"]) for row in rows)
        low, high = wilson_interval(mean * count, count)
        axis.plot([at + shift] * len(rates), rates - base, ".", color=color, ms=3, alpha=0.6)
        axis.errorbar(
            at + shift, mean - base, [[mean - low], [high - mean]], fmt=marker, ms=4, lw=1,
            color=color, mfc=color if marker == "s" else "white",
        )  # fmt: skip


def main() -> None:
    """Draws all figures."""
    make_parser("bench.success_figures", __doc__).parse_args()
    for name in STUDIES:
        tasks = sets_by_task(name)
        for figure, relative in (("differences", True), ("success", False)):
            draw = partial(draw_task, tasks=tasks, relative=relative)
            draw_panels(list(tasks), draw, RESULTS / f"{name}-{figure}.png")


if __name__ == "__main__":
    main()
