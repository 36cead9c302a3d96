"""The layouts of other projects and of tables that `layouts.py` writes and reads."""

from __future__ import annotations

from data.layout_files import make
from data.layout_table import FALLS, NO_FALLS, Layout
from data.table_files import (
    csv_file,
    d3rlpy,
    imitation,
    imitation_npz,
    lerobot,
    maniskill,
    minari_arrow,
    ogbench_file,
    parquet_file,
)

WIDE = make(low=-2.0, high=2.0)
BOUNDS = {"action_low": -2, "action_high": 2}
KEYS = ",keys=position+angle,action_key=torque"

OTHER_LAYOUTS = (
    Layout("LeRobot 3, no ends but episodes", "lerobot", lerobot(), timeouts=True),
    Layout("LeRobot 3, without a kind", "", lerobot(ends="next")),
    Layout("LeRobot 2", "lerobot", lerobot(2, ends="next", cameras=2)),
    Layout(
        "LeRobot 3, next.done", "lerobot", lerobot(ends="done"), truth=FALLS,
        options=",dones=terminal", refused="whether the task or the time limit",
    ),
    Layout(
        "LeRobot 3, joints of a robot", "lerobot", lerobot(), truth=WIDE, arguments=BOUNDS,
        refused="Pass their bounds", timeouts=True,
    ),
    Layout("Minari, Arrow", "minari", minari_arrow("arrow"), kept="all"),
    Layout("Minari, Parquet, without a kind", "", minari_arrow("parquet"), kept="all"),
    Layout(
        "Minari, Arrow, dictionary", "minari", minari_arrow("arrow", keyed=True), kept="all",
        options=",keys=a+b", refused="observations are a dictionary of a, b",
    ),
    Layout(
        "Minari, Parquet, nested dictionary", "minari",
        minari_arrow("parquet", keyed=True, nested=True), kept="all", options=",keys=a+b",
        refused="observations are a dictionary of a/x, b; choose some with ,keys=a/x",
    ),
    Layout(
        "Minari, Arrow, a cut file", "minari", minari_arrow("arrow", damage=2), kept="all",
        episodes=(0, 1, 3, 4),
    ),
    Layout("OGBench by its name", "ogbench", ogbench_file, kept="all", timeouts=True),
    Layout("d3rlpy 2", "d3rlpy", d3rlpy()),
    Layout("d3rlpy 2, without a kind and flags", "", d3rlpy(flags=False), timeouts=True),
    Layout("ManiSkill", "maniskill", maniskill(), kept="all"),
    Layout("ManiSkill, a success inside", "", maniskill(goes_on=True), kept="all"),
    Layout(
        "ManiSkill, dictionary", "maniskill", maniskill(keyed=True), kept="all",
        options=",keys=agent/qpos+extra/goal", refused="expected some of agent/qpos, extra/goal",
    ),
    Layout("imitation, folder", "imitation", imitation(), kept="all"),
    Layout("imitation, folder in parts, without a kind", "", imitation(shards=3), kept="all"),
    Layout(
        "imitation, infos that say nothing", "imitation", imitation(stated=False), kept="all",
        truth=NO_FALLS, options=",dones=timeout", refused="no info says whether the task or",
    ),
    Layout(
        "imitation, npz", "", imitation_npz, kept="all",
        truth=make((80, 40, 80, 7, 80), (False, True, False, True, False)),
        options=",max_steps=80", refused="5 complete trajectories, and no info says",
    ),
    Layout("CSV", "csv", csv_file()),
    Layout("CSV, semicolons, names of its own", "", csv_file(";", grouped=False), options=KEYS,
           file="a.csv", refused="name the columns of the observation"),
    Layout("Parquet", "", parquet_file()),
    Layout("Parquet, names of its own", "parquet", parquet_file(grouped=False), options=KEYS,
           refused="name the columns of the observation"),
    Layout("Parquet, lists", "parquet", parquet_file(nested=True)),
)  # fmt: skip
