"""A toy task that can only be solved from images: BC and VfO-bin move a dot to a target.

    python -m bench.image_toy [--updates 2400] [--threads 2] [--precision bf16]

A red dot moves on a canvas of 24 x 24 pixels; the action is its velocity, and a green dot is its
target. The low-dimensional observation is always 0. BC clones a noisy expert. VfO-bin learns from
the expert's frames and a background in which 3 of 10 actions are the expert's and the others
random; BC on the same background is the baseline. An episode succeeds if the dot is within a tenth
of the canvas of the target after 15 steps. "Other frames": policies see another episode's frames.
Rows are added to `bench/results/image-toy.csv`.
"""

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fastifo
from bench.arguments import make_parser
from bench.timing import current_commit, machine
from fastifo import Dataset

RESULTS = Path(__file__).parent / "results" / "image-toy.csv"
COLUMNS = (
    "method", "background", "precision", "updates", "seeds", "success", "other_frames", "wall_s",
    "cpu_s", "machine", "commit",
)  # fmt: skip
SIZE, STEPS, SPEED, NEAR = 24, 15, 0.1, 0.1
FIELDS: dict[str, Any] = {
    "batch_size": 32, "hidden_sizes": (128,), "image_encoder": "spatial_softmax", "image_shift": 0,
    "learning_rate": 1e-3, "policy_head": "deterministic", "progress": False,
}  # fmt: skip


def render(position: Tensor, target: Tensor) -> Tensor:
    """Frames, uint8 [n, SIZE, SIZE, 3].  position, target: within the unit square, [n, 2]."""
    pixels = torch.arange(SIZE) / (SIZE - 1)
    frames = torch.full((len(position), SIZE, SIZE, 3), 30, dtype=torch.uint8)
    for channel, point in ((0, position), (1, target)):
        inside = (pixels - point.unsqueeze(2)).abs() < 0.08  # [n, 2, SIZE]
        frames[..., channel] += 200 * (inside[:, 0, :, None] & inside[:, 1, None, :]).byte()
    return frames


def expert(position: Tensor, target: Tensor) -> Tensor:
    """The action that goes straight to the target.  [n, 2] each."""
    return ((target - position) / SPEED).clamp(-1.0, 1.0)


Actor = Callable[[Tensor, Tensor, Tensor], Tensor]  # position, target, frames -> action


def play(actor: Actor, count: int, generator: torch.Generator) -> tuple[list[Any], Tensor]:
    """Episodes for `Dataset.from_episodes`, and the final distance to the target, [count]."""
    position, target = torch.rand(2, count, 2, generator=generator)
    frames, actions = [render(position, target)], []
    for _ in range(STEPS):
        actions.append(actor(position, target, frames[-1]))
        position = (position + SPEED * actions[-1]).clamp(0.0, 1.0)
        frames.append(render(position, target))
    images, action = torch.stack(frames, 1), torch.stack(actions, 1)
    obs = torch.zeros(STEPS + 1, 1)
    episodes = [
        {"obs": obs, "action": action[i], "image": {"top": images[i]}} for i in range(count)
    ]
    return episodes, (position - target).norm(dim=1)


def make_dataset(share: float, noise: float) -> Dataset:
    """200 background episodes and 50 of the expert.

    share: of the background's actions that are the expert's, the others are random.
    noise: deviation of Gaussian noise on the expert's actions.
    """
    generator = torch.Generator().manual_seed(0)

    def wavering(position: Tensor, target: Tensor, frames: Tensor) -> Tensor:
        right = expert(position, target) + noise * torch.randn(position.shape, generator=generator)
        anywhere = 2 * torch.rand(position.shape, generator=generator) - 1
        chosen = torch.rand(len(position), 1, generator=generator) < share
        return torch.where(chosen, right, anywhere).clamp(-1.0, 1.0)

    background, _ = play(wavering, 200, generator)
    demonstrations, _ = play(lambda position, target, _: expert(position, target), 50, generator)
    for each in demonstrations:
        del each["action"]
    return Dataset.from_episodes(background, demonstrations)


def success(policy: fastifo.Policy, *, shuffled: bool = False) -> float:
    """Share of 200 new episodes that end near the target.

    shuffled: the policy gets another episode's frames.
    """

    def actor(position: Tensor, target: Tensor, frames: Tensor) -> Tensor:
        images = {"top": frames.roll(1, 0) if shuffled else frames}
        action: Tensor = policy.act(torch.zeros(len(frames), 1), images=images)
        return action

    _, distance = play(actor, 200, torch.Generator().manual_seed(1))
    return float((distance < NEAR).double().mean())


def main() -> None:
    """Trains each method and prints a row for it."""
    parser = make_parser("bench.image_toy", __doc__)
    parser.add_argument("--updates", type=int, default=2400, help="of each method")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--precision", default="fp32", help="fp32 or bf16")
    parser.add_argument("--seeds", type=int, default=1, help="policies of each method")
    parser.add_argument("--rows", nargs="+", type=int, default=[0, 1, 2], help="rows to measure")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| method | background | success | with other frames | wall s | CPU s |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    clean, wavering = make_dataset(1.0, 0.3), make_dataset(0.3, 0.0)
    value: dict[str, Any] = {"gamma": 0.9, "target_period": 50, "temperature": 0.2}
    methods = (
        ("bc", clean, "noisy expert"),
        ("vfo_bin", wavering, "3 of 10 actions"),
        ("bc", wavering, "3 of 10 actions"),
    )
    for name, data, label in [methods[row] for row in options.rows]:
        fields = FIELDS | (value if name == "vfo_bin" else {})
        fields |= {"seeds": range(options.seeds), "precision": options.precision}
        started, used = time.perf_counter(), time.process_time()
        run = fastifo.train(name, data, num_updates=options.updates, **fields)
        times = (time.perf_counter() - started, time.process_time() - used)
        rates = [
            " ".join(f"{success(run[m], shuffled=each):.3f}" for m in range(options.seeds))
            for each in (False, True)
        ]
        cells = [*rates, *(f"{seconds:.0f}" for seconds in times)]
        print(f"| {name} | {label} | {' | '.join(cells)} |", flush=True)
        settings = (options.precision, options.updates, options.seeds)
        save([name, label, *settings, *cells, machine(torch.device("cpu")), current_commit()])


def save(row: list[Any]) -> None:
    """Adds a row to the results; rates have a number for each seed."""
    is_new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(COLUMNS)
        writer.writerow(row)


if __name__ == "__main__":
    main()
