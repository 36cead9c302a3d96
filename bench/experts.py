"""Success of the experts of manipulation tasks, without and with action noise.

Writes a row for each task and noise to a CSV file, and prints it: episodes, success with its 95 %
Wilson interval, and mean length in steps. Rows that are in the file are not played again.
Example: python -m bench.experts --envs robosuite/Lift metaworld/Reach --noise 0 0.5 --episodes 50
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from bench.arguments import make_parser
from fastifo.envs.backends.metaworld import MetaworldBackend
from fastifo.envs.evaluate import evaluate_policies
from fastifo.envs.experts import load_expert
from fastifo.utils.files import write_bytes

COLUMNS = (
    "env", "noise", "episodes", "success", "success_low", "success_high", "length_mean",
    "expert", "versions",
)  # fmt: skip


def measure(env_id: str, noise: float, episodes: int) -> dict[str, str]:
    """Plays an expert; returns a row of the table.  noise: standard deviation in action units."""
    expert = load_expert(env_id)
    expert.noise_scale = noise
    returns = evaluate_policies([expert], env_id, episodes, noise == 0.0, progress=False)
    low, high = returns.success_interval or (0.0, 0.0)
    versions = " ".join(f"{name}={version}" for name, version in returns.versions.items())
    values = (
        env_id, f"{noise:g}", str(episodes), f"{returns.success:.3f}", f"{low:.3f}", f"{high:.3f}",
        f"{returns.lengths.mean():.1f}", expert.provenance()["source"], versions,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def main() -> None:
    """Plays every expert that is not in the file yet."""
    parser = make_parser("bench.experts", __doc__)
    parser.add_argument(
        "--envs", nargs="+", default=["metaworld"], help="ids; metaworld: all 50 tasks"
    )
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.5, 1.0])
    parser.add_argument("--episodes", type=int, default=50, help="per task and noise")
    parser.add_argument("--out", type=Path, default=Path("bench/results/experts.csv"))
    options = parser.parse_args()
    envs = MetaworldBackend().ids() if options.envs == ["metaworld"] else options.envs
    rows = []
    if options.out.exists():
        with options.out.open() as file:
            rows = list(csv.DictReader(file))
    known = {(row["env"], row["noise"]) for row in rows}
    for env_id in envs:
        for noise in options.noise:
            if (env_id, f"{noise:g}") in known:
                continue
            rows.append(measure(env_id, noise, options.episodes))
            print(*rows[-1].values(), sep="  ", flush=True)
            table = io.StringIO()
            writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_bytes(options.out, table.getvalue().encode())


if __name__ == "__main__":
    main()
