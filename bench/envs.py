"""Measures steps per CPU-second of every environment library, with state observations.

    python -m bench.envs [--steps 20000] [--envs Hopper-v5 gymnasium/Hopper-v5 ...]

A linear policy plays the environments as in an evaluation. The time includes the policy, the
interface and the creation of the environments, which matters in short runs. CPU time is that of
this process and its workers. Rows are added to `bench/results/envs-<machine>.csv`; workers `none`
means this process.
"""

import contextlib
import csv
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.arguments import make_parser
from bench.timing import current_commit, machine, results_name
from fastifo.envs.registry import describe
from fastifo.envs.rollout import rollout
from fastifo.envs.spec import as_spec
from fastifo.utils.parallel import one_thread

RESULTS = Path(__file__).parent / "results"
ENVS = (
    "HalfCheetah-v4", "gymnasium/HalfCheetah-v4", "Hopper-v5", "gymnasium/Hopper-v5",
    "Pendulum-v1", "gymnasium/Pendulum-v1", "FetchReach-v4", "gymnasium/FetchReach-v4",
    "metaworld/Reach", "robosuite/Lift",
)  # fmt: skip
COLUMNS = (
    "env", "workers", "episodes", "steps", "repeats", "steps_per_cpu_s", "steps_per_s", "versions",
    "machine", "commit",
)  # fmt: skip


class Linear:
    """Small actions that are linear in the observation."""

    def __init__(self, obs_dim: int, action_dim: int) -> None:
        self.seed = torch.zeros(1, dtype=torch.int64)
        generator = torch.Generator().manual_seed(0)
        self.weight = 0.1 * torch.randn(obs_dim, action_dim, generator=generator)

    def noise(self, stream: int, step: int, rows: int) -> Tensor | None:
        """None: deterministic."""
        return None

    def act_rows(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions [B, A] of observations [B, D]."""
        return (obs @ self.weight).clamp(-1.0, 1.0)


def cpu_s() -> float:
    """Processor time of this process and of all that it has started, directly or not."""
    ticks, parents = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it may have ended
            fields = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            parents[pid] = int(fields[1])
            ticks[pid] = sum(map(int, fields[11:15]))  # its own, and of ended children
    ours = {os.getpid()}
    while new := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= new
    return sum(ticks[pid] for pid in ours) / os.sysconf("SC_CLK_TCK")


def measure(env_id: str, steps: int, workers: int, repeats: int) -> dict[str, object]:
    """The row of one environment: medians over repeats, the first of which is not counted."""
    info = describe(as_spec(env_id))
    policy = Linear(info.obs_dim, info.action_dim)
    limit = min(info.max_episode_steps, 200)
    spec = as_spec(env_id, kwargs={"max_episode_steps": limit})
    episodes = max(8, steps // limit)
    rates = []
    for repeat in range(repeats + 1):
        began, cpu = time.perf_counter(), cpu_s()
        played = rollout(
            [policy], spec, episodes, True, seed=repeat, record=False, num_workers=workers,
            progress=False,
        )  # fmt: skip
        count = int(played.episodes[0].lengths.sum())
        rates.append((count, count / (cpu_s() - cpu), count / (time.perf_counter() - began)))
    counts, per_cpu, per_wall = (np.median(column) for column in zip(*rates[1:], strict=True))
    return {
        "env": env_id,
        "workers": workers or "none",
        "episodes": episodes,
        "steps": int(counts),
        "repeats": repeats,
        "steps_per_cpu_s": round(float(per_cpu)),
        "steps_per_s": round(float(per_wall)),
        "versions": " ".join(f"{name}={version}" for name, version in info.versions.items()),
    }


def main() -> None:
    """Measures, prints and writes the rows."""
    parser = make_parser("bench.envs", __doc__)
    parser.add_argument("--envs", nargs="+", default=list(ENVS))
    parser.add_argument("--steps", type=int, default=20_000, help="of each repeat, about")
    parser.add_argument("--workers", type=int, default=0, help="processes, where EnvPool is not")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file of the rows; default: as above")
    options = parser.parse_args()
    name = machine(torch.device("cpu"))
    options.out = options.out or RESULTS / f"envs-{results_name(name)}.csv"
    is_new = not options.out.exists()
    with one_thread(), open(options.out, "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        for env_id in options.envs:
            try:
                row = measure(env_id, options.steps, options.workers, options.repeats)
            except ImportError as error:
                print(f"{env_id}: left out: {error}")
                continue
            writer.writerow(row | {"machine": name, "commit": current_commit()})
            file.flush()
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
