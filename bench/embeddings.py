"""What TGE's first stage costs: python -m bench.embeddings

Updates of the diffusion model per second, windows embedded per second, and the peak memory of
`fastifo.relabel` on a background of a million transitions (17 observation and 6 action numbers,
episodes of 1000) with a model of one update. Writes bench/results/embeddings-<machine>.csv.
"""

import argparse
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
RESULTS = Path(__file__).parent / "results"


def background(transitions: int) -> Dataset:
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
    return Diffusion([model_config(config)], [0], InputSpec(OBS + ACTION, ACTION))


def updates_per_s(config: TGEIQLConfig, seconds: float, rounds: int = 3) -> list[float]:
    dataset = background(100_000)
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
    for _ in range(rounds):
        made, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            made += engine.advance(1)
        rates.append(made / (time.perf_counter() - started))
    return rates


def windows_per_s(config: TGEIQLConfig, seconds: float, rounds: int = 3) -> list[float]:
    dataset = background(100_000)
    scale = Scale.of(dataset.background, actions=True)
    rows = window_rows(dataset.background, config.horizon, scale).obs
    first = first_rows(dataset.background, config.horizon)
    model, rates = make_model(config), []
    for _ in range(rounds):
        made, started = 0, time.perf_counter()
        for found in model.embed(0, rows, first, BATCH):
            made += len(found)
            if time.perf_counter() - started > seconds:
                break
        rates.append(made / (time.perf_counter() - started))
    return rates


def peak_gb(fields: dict[str, Any], transitions: int) -> float:
    """Of this process, while it gives so many transitions their rewards, embeddings in a file."""
    with tempfile.TemporaryDirectory() as name:
        fastifo.relabel(
            "tge", background(transitions), out=Path(name) / "run", diffusion_updates=1, **fields
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory-of", choices=("small", "paper"), default="small", help="model")
    parser.add_argument("--transitions", type=int, default=1_000_000, help="0 leaves memory out")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    rows = []
    for name, fields in SIZES.items():
        config = TGEIQLConfig(**fields)
        shape = f"width {config.unet_width}, {config.horizon} rows"
        for what, rates in (
            (
                f"updates/s, batch {config.diffusion_batch_size}",
                updates_per_s(config, args.seconds),
            ),
            ("windows/s", windows_per_s(config, args.seconds)),
        ):
            middle = statistics.median(rates)
            print(f"{name} ({shape}): {middle:,.1f} {what}  "
                  f"({min(rates):,.1f} to {max(rates):,.1f})", flush=True)  # fmt: skip
            rows.append([name, shape, what, round(middle, 2), round(min(rates), 2),
                         round(max(rates), 2)])  # fmt: skip
    if args.transitions:
        fields = SIZES[args.memory_of]
        config, peak = TGEIQLConfig(**fields), peak_gb(fields, args.transitions)
        print(f"peak memory while {args.transitions:,} transitions get rewards: {peak:.2f} GB")
        what = f"GB, {args.transitions} transitions"
        shape = f"width {config.unet_width}, {config.horizon} rows"
        rows.append([args.memory_of, shape, what, round(peak, 2), "", ""])
    name_of = machine(torch.device("cpu"))
    path = RESULTS / f"embeddings-{results_name(name_of)}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "shape", "what", "median", "low", "high", "machine", "commit"])
        writer.writerows([*row, name_of, current_commit()] for row in rows)
    print(f"written to {path.name}")


if __name__ == "__main__":
    main()
