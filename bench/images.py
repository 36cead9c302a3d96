"""Measures the speed of sampling, training and rendering images, and memory.

    python -m bench.images [--batch 64] [--seconds 3] [--env HalfCheetah-v4] [--memory]
                           [--precision bf16] [--only training]

Speeds are per CPU-second of all threads, which depends little on other load; opening a pack is
measured in wall time. The data is random frames of 84 x 84 x 3. A training step is one update of
BC; its parts are measured one by one, in the number format of `--precision`. `--memory` adds the
measurements of `bench.image_memory` on a pack of 21 GB. Rendering uses `--env`, if given. Rows are
added to `bench/results/images-<machine>.csv`. `bench.image_toy` shows that methods learn from
pixels.
"""

import csv
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from bench.arguments import make_parser
from bench.image_memory import SIZE, Measured, memory
from bench.pack import random_dataset
from bench.timing import current_commit, machine, results_name
from fastifo import Dataset, Episodes, load
from fastifo.algos import find
from fastifo.algos.learner import InputSpec
from fastifo.data.frames import as_frames
from fastifo.data.sampler import Sampler
from fastifo.envs.registry import find_backend
from fastifo.envs.render import Render
from fastifo.envs.spec import as_spec
from fastifo.nn.encoder import Encoder

RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    "part",
    "setting",
    "frames_per_cpu_s",
    "value",
    "unit",
    "threads",
    "load",
    "machine",
    "commit",
)


def make_dataset(count: int) -> Dataset:
    """Random transitions with random frames of one camera.  count: a multiple of 1000."""
    episodes = random_dataset(count, 9).background
    frames = torch.randint(0, 256, (len(episodes.obs), *SIZE), dtype=torch.uint8)
    return Dataset(Episodes(**episodes.columns(), images={"front": as_frames(frames)}))


def seconds_of(call: Callable[[], object], budget_s: float) -> float:
    """Median CPU-seconds of a call, after two that are not counted."""
    call(), call()
    times: list[float] = []
    while sum(times) < budget_s or len(times) < 3:
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return sorted(times)[len(times) // 2]


def make_sampler(
    dataset: Dataset, batch: int, shift: int, encoder: Encoder | None = None
) -> Sampler:
    """A sampler of background transitions."""
    return Sampler(
        dataset, (0,), batch, frozenset(), "bench", torch.device("cpu"), torch.float32,
        encoder, cameras=("front",), shift=shift, reuses=True,
    )  # fmt: skip


def sampling(dataset: Dataset, folder: Path, batch: int, budget_s: float) -> Iterator[Measured]:
    """Batches of frames and their successors, from memory and from a pack."""
    dataset.save(folder / "frames.fastifo")
    packed = load(folder / "frames.fastifo")
    counter = torch.zeros(1, dtype=torch.int64)
    for source, data in (("memory", dataset), ("pack", packed)):
        for shift in (0, 4):
            sampler = make_sampler(data, batch, shift)

            def draw(sampler: Sampler = sampler) -> None:
                sampler.draw(counter)
                counter.add_(1)

            seconds = seconds_of(draw, budget_s)
            setting = f"{source}, {'shifted' if shift else 'as stored'}, B={batch}"
            yield "sampling", setting, 2 * batch / seconds, 1e3 * seconds, "ms"


def training(dataset: Dataset, batch: int, budget_s: float, precision: str) -> Iterator[Measured]:
    """The parts of an update of BC, with each encoder."""
    for encoder in ("drqv2", "spatial_softmax"):
        setting = f"bc, {encoder}, B={batch}" + ("" if precision == "fp32" else f", {precision}")
        parts = update_parts(dataset, encoder, batch, budget_s, precision)
        for part, seconds in parts.items():
            yield f"training: {part}", setting, batch / seconds, 1e3 * seconds, "ms"


def update_parts(
    dataset: Dataset, encoder: str, batch: int, budget_s: float, precision: str
) -> dict[str, float]:
    """Seconds of each part of an update of BC."""
    learner_class = find("bc")
    config = learner_class.Config(image_encoder=encoder, batch_size=batch)
    spec = InputSpec(dataset.obs_dim, dataset.action_dim, images=dataset.cameras)
    learner: Any = learner_class([config], [0], spec, precision)
    sampler = make_sampler(dataset, batch, 4, learner.encoder)
    counter = torch.zeros(1, dtype=torch.int64)
    sample, frames = sampler.draw(counter), sampler.background.frames
    assert frames is not None
    indices = torch.randint(0, len(frames.row), (50, 1, batch))  # fresh ones in every call
    rows = itertools.cycle((frames.row[indices].unsqueeze(1) + frames.step).unbind(0))
    parameters, obs = list(learner.policy.parameters()), sample.background.obs

    def gradients() -> Any:
        outputs = learner.policy.outputs(obs)
        return torch.autograd.grad([outputs], parameters, [torch.ones_like(outputs)])

    fixed = gradients()
    seconds = {
        "gather of frames and their successors": seconds_of(
            lambda: frames._gather("front", frames.frames["front"], next(rows)), budget_s
        ),
        "draw, with gather, shift and float": seconds_of(lambda: sampler.draw(counter), budget_s),
        "forward": seconds_of(lambda: learner.policy.outputs(obs), budget_s),
        "forward and backward": seconds_of(gradients, budget_s),
        "optimizer": seconds_of(lambda: learner.optimizer_step(parameters, fixed), budget_s),
    }
    return seconds | {
        "whole step": seconds_of(lambda: learner.update(sampler.draw(counter)), budget_s)
    }


def rendering(env: str, budget_s: float) -> Iterator[Measured]:
    """Steps of an environment with one camera, by its own settings."""
    plain = as_spec(env)
    for setting, render in (
        ("no camera", None),
        ("defaults", Render(("free",))),
        ("shadows, reflections, 4 samples", Render(("free",), 84, 84, True, True, 4)),
    ):
        spec = plain.rendered(render)
        vector = find_backend(spec).make(spec, 1, threads=1, workers=0)
        vector.start([0])
        step, count, started = vector.recv(), 0, time.process_time()
        while step.active.any() and time.process_time() - started < budget_s:
            low, high = vector.info.action_low, vector.info.action_high
            vector.send(step.slots, (0.5 * (low + high))[None])
            step, count = vector.recv(), count + 1
        seconds = (time.process_time() - started) / max(1, count)
        vector.close()
        yield "rendering", f"{env}, {setting}", 1 / seconds, 1e3 * seconds, "ms"


def main() -> None:
    """Measures, prints a table and adds its rows to the results."""
    parser = make_parser("bench.images", __doc__)
    parser.add_argument("--batch", type=int, default=64, help="transitions of a batch")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--precision", default="fp32", help="of training: fp32 or bf16")
    parser.add_argument(
        "--only", nargs="*", default=["sampling", "training"], help="parts to measure"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--env", default="", help="environment to render; nothing if not given")
    parser.add_argument("--memory", action="store_true", help="also a pack of 21 GB")
    parser.add_argument("--updates", type=int, default=300, help="of the training from it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = make_dataset(2000)
    rows: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder:
        if "sampling" in options.only:
            rows += sampling(dataset, Path(folder), options.batch, options.seconds)
        if "training" in options.only:
            rows += training(dataset, options.batch, options.seconds, options.precision)
        if options.env:
            rows += rendering(options.env, options.seconds)
        if options.memory:
            rows += memory(Path(folder), options.batch, 10 * options.seconds, options.updates)
    print("| part | setting | frames/CPU-s | |\n| --- | --- | ---: | ---: |")
    for part, setting, rate, value, unit in rows:
        print(f"| {part} | {setting} | {rate:.0f} | {value:.3g} {unit} |")
    _save(rows, options.threads)


def _save(rows: list[Measured], threads: int) -> None:
    name = machine(torch.device("cpu"))
    path = RESULTS / f"images-{results_name(name)}.csv"
    load_average = round(os.getloadavg()[0], 1)  # of the machine: others may use it too
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(COLUMNS)
        for part, setting, rate, value, unit in rows:
            writer.writerow(
                [part, setting, round(rate, 1), f"{value:.4g}", unit, threads, load_average, name,
                 current_commit()]
            )  # fmt: skip
    print(f"added to {path.name}")


if __name__ == "__main__":
    main()
