"""Markdown tables of the documents, generated from the files in bench/results.

`python -m bench.tables` rewrites every table between `<!-- name -->` and `<!-- end -->`;
`--check` fails if a document differs from what the files give.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # finds `bench` when this file is run by its path

from bench.arguments import make_parser
from bench.claims.page import TABLES as CLAIMS
from bench.study_tables import (
    ablation_table,
    advantages_table,
    horizon_table,
    improve_table,
    iterations_table,
    markdown,
    precision_table,
    read_rows,
    seeds_table,
    study_tables,
    success_tables,
)

ROOT = Path(__file__).parents[1]
MACHINE = "amd-epyc-avx2"  # the machine of the ops and of both widths
BF16_MACHINE = "amd-epyc-avx512-bf16"  # of the limits, the methods and the top-level README
AMX_MACHINE = "intel-xeon-avx512-amx"

OPS = {  # label of the row: (bench, size) in the file
    "`binned_nll`, loss and gradient": ("binned_nll", "1 x 256 x 6 x 101"),
    "`advantage`, loss, gradient, weights": ("advantage", "1 x (256 + 256)"),
    "`smodice`, the same": ("smodice", "1 x 256"),
    "`dilo`, the same": ("dilo", "1 x 512"),
    "`gather` of five columns, encoded": ("gather", "1 x 256 x 17, encoded"),
    "`gather` of five columns, plain": ("gather", "1 x 256 x 17"),
    "`adam` and target, 925 k parameters": ("adam", "1 x 924767 parameters"),
    "`binned_sample`": ("binned_sample", "1 x 256 x 6 x 101"),
    "`binned_mode`": ("binned_mode", "1 x 256 x 6 x 101"),
}

ENGINES = (  # the rows written by bench.train that the long table shows
    "fastifo native fp32 P=1",
    "fastifo native fp32 P=4",
    "fastifo native fp32 P=16",
    "fastifo torch fp32 P=1",
    "fastifo torch fp32 P=4",
    "CORL-style eager torch fp32",
    "torch, fused Adam fp32",
    "torch.compile, fused Adam fp32",
    "torch baddbmm fp32 P=4",
    "JAX scan fp32",
    "JAX vmap fp32 P=4",
    "fastifo native bf16 P=4",
    "torch baddbmm bf16 P=4",
)

README_ENGINES = (
    "fastifo native fp32 P=1",
    "fastifo native fp32 P=16",
    "fastifo native bf16 P=1",
    "fastifo native bf16 P=16",
    "fastifo torch fp32 P=1",
    "CORL-style eager torch fp32",
    "torch.compile, fused Adam bf16",
    "JAX scan fp32",
    "JAX scan bf16",
)

PARTS = ("sampling", "target", "scalar", "policy", "head", "backward", "weights")  # of an update


def ops_table() -> str:
    """One line per op: fastifo's time, and the times and ratios of torch."""
    rows = read_rows(f"{MACHINE}-1-threads.csv")
    times = {(r["bench"], r["size"], r["variant"]): float(r["median_us"]) for r in rows}
    lines = []
    for label, case in OPS.items():
        ours = times[*case, "ours"]
        eager = times.get((*case, "eager"), times.get((*case, "torch fused and lerp")))
        others = [
            "" if other is None else f"{other:.0f} us ({other / ours:.1f}x)"
            for other in (eager, times.get((*case, "torch.compile")))
        ]
        lines.append([label, f"{ours:.0f} us", *others])
    return markdown("op | ours | eager torch | `torch.compile`", lines)


def _engine_rows(machine: str) -> dict[tuple[str, str], dict[str, str]]:
    """Rows of bench.train by (engine, width of the hidden layers)."""
    return {(r["engine"], r["hidden"]): r for r in read_rows(f"train-{machine}-2-threads.csv")}


def _speeds(row: dict[str, str]) -> list[str]:
    ratios = [f"{float(row[x]):.2f}" if row[x] else "" for x in ("times_corl", "times_jax")]
    return [f"{float(row['steps_per_s']):.0f}", *ratios]


def _percent(share: str) -> str:
    return f"{float(share):.0%}" if share else ""


def speed_table(engines: Sequence[str] = (), machine: str = BF16_MACHINE) -> str:
    """One line per engine at width 512 on a CPU with bfloat16 units.  engines: default all."""
    rows = _engine_rows(machine)
    names = engines or [name for name, hidden in rows if hidden == "512"]
    header = "engine | 512 x 2: steps/s | x CORL-style | x JAX scan | of the limit"
    lines = [
        [name, *_speeds(rows[name, "512"]), _percent(rows[name, "512"]["of_limit"])]
        for name in names
    ]
    return markdown(header, lines)


def parts_table(machine: str = BF16_MACHINE) -> str:
    """One line per part of a native update at width 512: its time and share of the limit."""
    rows = read_rows(f"parts-{machine}-1-threads.csv")
    rows = [row for row in rows if row["hidden"] == "512"]
    precisions = list(dict.fromkeys(row["precision"] for row in rows))
    cells = {
        (row["part"], row["precision"]): f"{float(row['ms']):.2f} ms"
        + (f" ({_percent(row['of_limit'])})" if row["of_limit"] else "")
        for row in rows
    }
    parts = dict.fromkeys(row["part"] for row in rows)
    lines = [[part, *(cells[part, name] for name in precisions)] for part in parts]
    return markdown(" | ".join(["part", *precisions]), lines)


def train_table() -> str:
    """One line per engine at both widths."""
    rows, lines = _engine_rows(MACHINE), []
    for engine in ENGINES:
        small, wide = rows[engine, "512"], rows[engine, "1024"]
        wide_speeds = [f"{float(wide['steps_per_s']):.1f}", f"{float(wide['times_jax']):.2f}"]
        lines.append([engine, *_speeds(small), *wide_speeds])
    header = (
        "engine | 512 x 2: steps/s | x CORL-style | x JAX scan | 1024 x 2: steps/s | x JAX scan"
    )
    return markdown(header, lines)


def methods_table() -> str:
    """One line per method: its speed, and the share of each part of an update with four members."""
    rows = {(r["method"], r["kind"]): r for r in read_rows(f"methods-{BF16_MACHINE}-2-threads.csv")}
    kinds = list(dict.fromkeys(kind for _, kind in rows))
    lines = []
    for method in dict.fromkeys(method for method, _ in rows):
        known = {kind: rows[method, kind] for kind in kinds if (method, kind) in rows}
        speeds = [f"{float(known[k]['steps_per_s']):.0f}" if k in known else "" for k in kinds]
        shares = [known["native P=4"][p] if "native P=4" in known else "" for p in PARTS]
        lines.append([method, *speeds, *shares])
    return markdown(" | ".join(["method", *kinds, *PARTS]), lines)


def experts_table(library: str) -> str:
    """One line per task of a library: success and mean length, for each action noise."""
    rows = [row for row in read_rows("experts.csv") if row["env"].startswith(f"{library}/")]
    noises = list(dict.fromkeys(row["noise"] for row in rows))
    cells = {
        (row["env"], row["noise"]): f"{float(row['success']):.2f}, {float(row['length_mean']):.0f}"
        for row in rows
    }
    envs = dict.fromkeys(row["env"] for row in rows)
    lines = [[f"`{env}`", *(cells.get((env, noise), "") for noise in noises)] for env in envs]
    return markdown(" | ".join(["task", *(f"noise {noise}" for noise in noises)]), lines)


def quickstart_table(prefix: str) -> str:
    """One line per dataset: rates of success with 95 % intervals.

    prefix: empty for sampled actions, `mode_` for the policy's mode.
    """
    rows = read_rows("quickstart.csv")
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        sampled = row["policy"] == "background"  # data have no mode
        names = ("success", "low", "high")
        if prefix and not sampled:
            names = ("mode", "mode_low", "mode_high")
        if row[names[0]]:
            rate, low, high = (f"{100 * float(row[name]):.0f}" for name in names)
            text = f"{rate} % ({low} to {high})"
            cells.setdefault(row["data_seed"], {})[row["policy"]] = text
    titles = [name if name == "background" else f"`{name}`" for name in policies]
    return markdown(
        " | ".join(["data seed", *titles]),
        [[seed, *(known.get(name, "") for name in policies)] for seed, known in cells.items()],
    )


TABLES: dict[str, dict[str, Callable[[], str]]] = {  # document: {name of the marker: table}
    "README.md": {
        "speed": partial(speed_table, README_ENGINES),
        "quickstart": partial(quickstart_table, ""),
    },
    "bench/results/quickstart.md": {
        "sampled": partial(quickstart_table, ""),
        "mode": partial(quickstart_table, "mode_"),
    },
    "bench/results/README.md": {
        "ops": ops_table,
        "speed": speed_table,
        "parts": parts_table,
        "speed amx": partial(speed_table, machine=AMX_MACHINE),
        "parts amx": partial(parts_table, AMX_MACHINE),
        "train": train_table,
        "methods": methods_table,
    },
    "bench/results/experts.md": {
        f"experts {library}": partial(experts_table, library)
        for library in ("metaworld", "robosuite")
    },
    "bench/results/manipulation.md": {
        **success_tables("clones"),
        **success_tables("clones-terminal"),
        **success_tables("robot-clones", gains=False),
        **success_tables("manipulation"),
        **success_tables("misjudged", gains=False),
        "advantages": advantages_table,
        "drawer": partial(
            iterations_table, "drawer-improve", "algorithm", "method", "success", "background"
        ),
    },
    "bench/results/sibench.md": {**study_tables("sibench"), **study_tables("sibench-all")},
    "bench/results/bimodal.md": study_tables("bimodal"),
    "bench/results/long-training.md": {"horizon": horizon_table},
    "bench/results/improve.md": {
        "improve": improve_table,
        "dagger": partial(
            iterations_table, "dagger", "played_by", "data played by", "return", "expert"
        ),
    },
    "bench/results/tge.md": {
        **study_tables("tge", "mode"),
        **study_tables("tge-medium", "mode"),
        **study_tables("door", "mode", scores=False),
        "ablation": ablation_table,
    },
    "bench/results/true-rewards.md": {"true-rewards": partial(seeds_table, "true-rewards", "mode")},
    "bench/results/precision.md": {"precision": precision_table},
    "bench/results/studies.md": CLAIMS,
}


def fill(text: str, tables: dict[str, Callable[[], str]], document: str) -> str:
    """The text with every marked table generated anew.

    Raises ValueError if a marker is missing from the document.
    """
    for name, table in tables.items():
        marked = re.search(rf"<!-- {name} -->\n.*?<!-- end -->", text, re.DOTALL)
        if marked is None:
            raise ValueError(
                f"{document}: expected a table between <!-- {name} --> and <!-- end -->, found none"
            )
        replacement = f"<!-- {name} -->\n{table()}\n<!-- end -->"
        text = text[: marked.start()] + replacement + text[marked.end() :]
    return text


def main() -> None:
    """Rewrites the tables of every document, or with --check compares them."""
    parser = make_parser("bench.tables", __doc__)
    parser.add_argument("--check", action="store_true", help="fail if a table is out of date")
    options = parser.parse_args()
    for document, tables in TABLES.items():
        path = ROOT / document
        before = path.read_text()
        after = fill(before, tables, document)
        if after == before:
            continue
        if options.check:
            sys.exit(
                f"{document}: expected the tables of bench/results; run python -m bench.tables"
            )
        path.write_text(after)


if __name__ == "__main__":
    main()
