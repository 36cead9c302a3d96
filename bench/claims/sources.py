"""The committed rows as sources of evidence: those of the study, and those of small studies."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from bench.claims.evidence import Cell, Sample, Source, mean_sample
from fastifo.utils.statistics import stratified_interval

RESULTS = Path(__file__).parents[1] / "results"
STUDY_SIZE = (256, 200_000)  # width and updates from which rows answer a claim
PAPER_SIZE = (512, 1_000_000)
RETURN = ("return", "low", "high")  # columns of a mean with its interval
COLUMNS = {  # of a row of a study, for each kind of action: RETURN's, and the seeds' means
    "sampled": (RETURN, "per_seed"),
    "mode": (("mode", "mode_low", "mode_high"), "mode_per_seed"),
}


def read(name: str) -> list[dict[str, str]]:
    """The rows of a file; none if there is no such file."""
    path = RESULTS / name
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def method_name(row: dict[str, str]) -> str:
    """The method of a row, and its variant."""
    return f"{row['method']} {row['variant']}".strip()


def sample_of(row: dict[str, str], names: tuple[str, str, str], seeds: str = "") -> Sample:
    """A mean with its interval.  names: of these columns.  seeds: column of the seeds' means."""
    mean, low, high = (float(row[name]) for name in names)
    return Sample(mean, low, high, tuple(float(x) for x in row[seeds].split()) if seeds else ())


def exact(value: float) -> Sample:
    """A number whose interval is not known."""
    return Sample(value, value, value)


def study_source(
    name: str,
    at_least: tuple[int, int] = STUDY_SIZE,
    *,
    is_small: bool = False,
    actions: str = "sampled",
) -> Source:
    """The rows of a study, of each cell those of the largest size.

    at_least: width and updates; rows with less are left out.
    is_small: see `Source`; then rows with more are left out, too.
    actions: sampled, or mode; rows without returns of it are left out.
    """
    policies: dict[Cell, Sample] = {}
    backgrounds: dict[tuple[str, str], Sample] = {}
    experts: dict[tuple[str, str], float] = {}
    builds: dict[Cell, Sample] = {}
    sizes: dict[Cell, tuple[int, int]] = {}
    for row in read(name):
        size = int(row["hidden"]), int(row["updates"])
        which = f"{row['set']} {row['iteration']}" if row["iteration"] != "0" else row["set"]
        cell = (row["task"], which, method_name(row))
        too_small = size[0] < at_least[0] or size[1] < at_least[1]
        if too_small or (is_small and size != at_least) or size < sizes.get(cell, (0, 0)):
            continue
        names, seeds = COLUMNS[actions]
        if not row[names[0]]:
            continue
        sizes[cell] = size
        policies[cell] = sample_of(row, names, seeds)
        builds[cell] = sample_of(row, ("background", "background_low", "background_high"))
        backgrounds[cell[:2]] = builds[cell]
        if row["expert"]:
            experts[cell[:2]] = float(row["expert"])
    width, updates = min(sizes.values(), default=at_least)
    size_text = f"{width} x 2, {updates:,} updates"
    figure = name.replace(".csv", ".png")
    return Source(
        name, size_text, is_small, figure if (RESULTS / figure).exists() else "", "", policies,
        backgrounds, experts, builds,
    )  # fmt: skip


def small_source(
    name: str, size: str, document: str, column: str = "return", figure: str = ""
) -> Source:
    """The rows of a small study: one per policy.

    column: return (sampled actions), or mode, which has no interval but that of the seeds.
    """
    groups: dict[Cell, list[dict[str, str]]] = {}
    backgrounds: dict[tuple[str, str], Sample] = {}
    for row in read(name):
        method = f"{row['algorithm']} {row['swept']}".strip()
        groups.setdefault((row["env_id"], row["set"], method), []).append(row)
        backgrounds[row["env_id"], row["set"]] = exact(float(row["background"]))
    policies = {
        cell: mean_sample(
            [float(row[column]) for row in rows],
            [float(row["std"]) for row in rows] if column == "return" else [],
            int(rows[0]["episodes"]),
        )
        for cell, rows in groups.items()
    }
    return Source(name, size, True, figure, document, policies, backgrounds)


def horizon_source() -> Source:
    """The last evaluations of long training."""
    last: dict[tuple[str, str], dict[str, str]] = {}
    for row in read("horizon.csv"):
        key = row["env_id"], row["algorithm"]
        if key not in last or int(row["num_updates"]) > int(last[key]["num_updates"]):
            last[key] = row
    policies = {
        (task, "", method): sample_of(row, RETURN, "per_seed")
        for (task, method), row in last.items()
    }
    backgrounds = {(task, ""): exact(float(row["background"])) for (task, _), row in last.items()}
    size = "128 x 2, 200,000 updates, HalfCheetah-v4 1,000,000"
    return Source(
        "horizon.csv", size, True, "horizon.png", "long-training.md", policies, backgrounds
    )


def bimodal_source() -> Source:
    """The small study of bimodal data; its expert's return follows from the mixtures'."""
    source = small_source(
        "bimodal.csv", "128 x 2, 10,000 updates", "bimodal.md", figure="bimodal-differences.png"
    )
    experts = {}
    for task, which in source.backgrounds:
        share = int(which.partition("=")[2]) / 200
        start = source.backgrounds[task, "expert=0"].mean
        if share:
            mixed = source.backgrounds[task, which].mean
            experts[task, which] = (mixed - (1 - share) * start) / share
    return Source(**vars(source) | {"experts": experts})


def success_gains(file: str, size: str) -> Source:
    """Gains of success over the background in points, the mean over all sets, sampled actions."""
    gains: dict[str, dict[tuple[str, str], list[float]]] = {}
    for row in read(file):
        success, background = float(row["success"]), float(row["background_success"])
        sets = gains.setdefault(row["algorithm"], {})
        sets.setdefault((row["env_id"], row["set"]), []).append(100 * (success - background))
    policies = {}
    for method, values in gains.items():
        by_seed = np.array(list(values.values())).T  # [seeds, sets]
        interval = stratified_interval(by_seed, statistic=lambda x: float(x.mean()))
        policies["gain", "", method] = Sample(
            float(by_seed.mean()), *interval, tuple(by_seed.mean(1).tolist())
        )
    figure = file.replace(".csv", "-differences.png")
    return Source(file, size, True, figure, "manipulation.md", policies)


def clones_source() -> Source:
    """Backgrounds of clones, as in the paper."""
    return success_gains("clones.csv", "128 x 2, 5,000 updates, no robomimic data")


def manipulation_source() -> Source:
    """Backgrounds of noisy experts."""
    return success_gains("manipulation.csv", "128 x 2, 3,000 to 5,000 updates, noisy experts")


def lift_source() -> Source:
    """Rates of success on Lift from images, each method's after most updates."""
    seen = [row for row in read("lift-images.csv") if row["sees"] == "images"]
    latest = {row["method"]: row for row in sorted(seen, key=lambda r: int(r["num_updates"]))}
    rows = latest.values()
    policies: dict[Cell, Sample] = {
        ("Lift", "", row["method"]): sample_of(row, ("success", "low", "high"), "by_seed")
        for row in rows
    }
    backgrounds: dict[tuple[str, str], Sample] = {}
    for row in rows:  # all have the same background
        backgrounds["Lift", ""] = exact(float(row["background_success"]))
    updates = sorted({int(row["num_updates"]) for row in rows if row["method"] != "bc"})
    size = f"256 x 2, {' to '.join(f'{n:,}' for n in updates)} updates"
    return Source("lift-images.csv", size, True, "", "images.md", policies, backgrounds, digits=2)


def improve_source() -> Source:
    """The last iteration of the small run of self-improvement, and the one before."""
    result = json.loads((RESULTS / "improve.json").read_text())
    returns = np.array(result["returns"], float)
    task, method = result["env_id"], result["algorithm"]
    policies = {
        (task, f"improve {iteration}", method): mean_sample(returns[:, iteration].tolist(), (), 1)
        for iteration in range(1, returns.shape[1])
    }
    start = exact(float(returns[:, 0].mean()))
    backgrounds = {(task, which): start for _, which, _ in policies}
    return Source(
        "improve.json", "256 x 2, 5 iterations of 30,000 updates", True, "improve-sawteeth.png",
        "improve.md", policies, backgrounds,
    )  # fmt: skip


def ablation_source() -> Source:
    """TGE with one setting changed: returns of the mode."""
    groups: dict[str, list[float]] = {}
    for row in read("ablation.csv"):
        changed = row["swept"] or row["run"].replace("-", "=")
        if row["run"] in ("sigma", "neighbours") and row["swept"] in ("sigma=1.0", "neighbours=5"):
            continue  # the same members as in the sweep of kernels
        groups.setdefault(changed, []).append(float(row["mode"]))
    policies = {
        ("Walker2d-v4", "", name): mean_sample(seeds, (), 1) for name, seeds in groups.items()
    }
    return Source(
        "ablation.csv", "128 x 2, 15,000 updates, a model of 600 updates", True, "", "tge.md",
        policies,
    )  # fmt: skip


def health_source() -> Source:
    """How well TGE's rewards separate hidden expert transitions from others: the AUC."""
    policies = {
        (row["env"], "AUC", f"{row['kernel']}, {row['horizon']} rows"): sample_of(
            row, ("auc", "low", "high")
        )
        for row in read("health.csv")
        if row["clone"] == "0"
    }
    return Source(
        "health.csv", "rewards only, a model of 600 updates", True, "", "tge.md", policies, digits=3
    )  # fmt: skip
