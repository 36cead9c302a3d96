"""Measures the cost of TGE's pre-training stage: speed of the diffusion model and peak memory.

Measures updates of the diffusion model per second and windows embedded per second for the default
model and a small one, as the median of three rounds with the lowest and the highest. Then measures
the peak memory of this process while `fastifo.relabel` relabels a large background (17 observation
and 6 action dimensions, episodes of 1000 steps) with a model trained for one update. Writes
bench/results/embeddings-<machine>.csv.
Example: python -m bench.embeddings --seconds 2 --transitions 0
"""

import csv
import dataclasses
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import fastifo
from bench.arguments import make_parser
from bench.timing import current_commit, machine, results_name
from fastifo import Dataset
from fastifo.algos.learner import InputSpec
from fastifo.algos.rewards.diffusion import Diffusion, model_config
from fastifo.algos.rewards.tge import BATCH, TGEIQLConfig
from fastifo.data.sampler import Sampler
from fastifo.data.windows import Scale, first_rows, window_rows
from fastifo.engine.torch_engine import TorchEngine

OBS, ACTION, STEPS = 17, 6, 1000
SIZES: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {"unet_width": 16, "horizon": 16, "diffusion_batch_size": 64},
}
ROUNDS = 3
RESULTS = Path(__file__).parent / "results"


def random_dataset(transitions: int) -> Dataset:
    """A random background and one demonstration."""
    generator = torch.Generator().manual_seed(0)
    episodes = [
        {
            "obs": torch.randn(STEPS + 1, OBS, generator=generator),
            "action": 2 * torch.rand(STEPS, ACTION, generator=generator) - 1,
        }
        for _ in range(max(1, transitions // STEPS))
    ]
    return Dataset.from_episodes(episodes, [{"obs": episodes[0]["obs"]}])


def make_model(config: TGEIQLConfig) -> Diffusion:
    """An untrained diffusion model."""
    return Diffusion([model_config(config)], [0], InputSpec(OBS + ACTION, ACTION))


def updates_per_s(config: TGEIQLConfig, seconds: float) -> list[float]:
    """Updates of the diffusion model per second in each round of so many seconds."""
    dataset = random_dataset(100_000)
    scale = Scale.of(dataset.background, actions=True)
    rows = dataclasses.replace(
        dataset, background=window_rows(dataset.background, config.horizon, scale)
    )
    model = make_model(config)
    sampler = Sampler(
        rows, model.seeds, model.batch_rows(model.cfg), Diffusion.batch_needs(model.cfg), "bench",
        torch.device("cpu"), model.dtype, model.encoder, noise_width=model.noise_width,
        window=model.window, reuses=True,
    )  # fmt: skip
    engine = TorchEngine(model, sampler)
    engine.advance(1)
    rates = []
    for _ in range(ROUNDS):
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            count += engine.advance(1)
        rates.append(count / (time.perf_counter() - started))
    return rates


def windows_per_s(config: TGEIQLConfig, seconds: float) -> list[float]:
    """Windows embedded per second in each round of so many seconds."""
    dataset = random_dataset(100_000)
    scale = Scale.of(dataset.background, actions=True)
    rows = window_rows(dataset.background, config.horizon, scale).obs
    first = first_rows(dataset.background, config.horizon)
    model, rates = make_model(config), []
    for _ in range(ROUNDS):
        count, started = 0, time.perf_counter()
        for embeddings in model.embed(0, rows, first, BATCH):
            count += len(embeddings)
            if time.perf_counter() - started > seconds:
                break
        rates.append(count / (time.perf_counter() - started))
    return rates


def peak_gb(fields: dict[str, Any], transitions: int) -> float:
    """Peak memory of this process in GiB while it relabels; embeddings are stored in a file."""
    with tempfile.TemporaryDirectory() as name:
        dataset = random_dataset(transitions)
        fastifo.relabel("tge", dataset, out=Path(name) / "run", diffusion_updates=1, **fields)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def model_shape(config: TGEIQLConfig) -> str:
    """The model's size as results name it."""
    return f"width {config.unet_width}, {config.horizon} rows"


def measure_speed(name: str, seconds: float) -> list[list[Any]]:
    """Rows of the results file with the rates of a model of SIZES."""
    config = TGEIQLConfig(**SIZES[name])
    rates_of = {
        f"updates/s, batch {config.diffusion_batch_size}": updates_per_s(config, seconds),
        "windows/s": windows_per_s(config, seconds),
    }
    rows: list[list[Any]] = []
    for quantity, rates in rates_of.items():
        median, low, high = statistics.median(rates), min(rates), max(rates)
        print(f"{name} ({model_shape(config)}): {median:,.1f} {quantity}  "
              f"({low:,.1f} to {high:,.1f})", flush=True)  # fmt: skip
        rows.append([name, model_shape(config), quantity]
                    + [round(rate, 2) for rate in (median, low, high)])  # fmt: skip
    return rows


def save(rows: list[list[Any]]) -> Path:
    """Writes the rows to the machine's file."""
    machine_name = machine(torch.device("cpu"))
    path = RESULTS / f"embeddings-{results_name(machine_name)}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "shape", "what", "median", "low", "high", "machine", "commit"])
        writer.writerows([*row, machine_name, current_commit()] for row in rows)
    return path


def main() -> None:
    """Measures both models' speed and the peak memory, prints a line for each, writes the rows."""
    parser = make_parser("bench.embeddings", __doc__)
    add = parser.add_argument
    add("--seconds", type=float, default=10.0, help="time of each measurement in one round")
    add("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    add("--memory-of", choices=("small", "paper"), default="small", help="model of the memory test")
    add("--transitions", type=int, default=1_000_000, help="transitions of the memory test; 0 for "
        "none")  # fmt: skip
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    rows = [row for name in SIZES for row in measure_speed(name, args.seconds)]
    if args.transitions:
        fields = SIZES[args.memory_of]
        peak = peak_gb(fields, args.transitions)
        print(f"peak memory while relabelling {args.transitions:,} transitions: {peak:.2f} GB")
        quantity = f"GB, {args.transitions} transitions"
        shape = model_shape(TGEIQLConfig(**fields))
        rows.append([args.memory_of, shape, quantity, round(peak, 2), "", ""])
    print(f"written to {save(rows).name}")


if __name__ == "__main__":
    main()
