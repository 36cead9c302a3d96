"""Small datasets with frames that tell which episode and step they belong to."""

import zlib
from typing import Any

import torch
from torch import Tensor

from fastifo.data.dataset import Dataset

HEIGHT, WIDTH = 16, 17
CHANNELS = {"front": 3, "wrist": 1}


def stamp(camera: str, part: str, number: int, step: int) -> Tensor:
    """The frame of a step, uint8 [H, W, C]: random, a function of the arguments."""
    seed = zlib.crc32(f"{camera}/{part}/{number}/{step}".encode())
    generator = torch.Generator().manual_seed(seed)
    shape = (HEIGHT, WIDTH, CHANNELS[camera])
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def episode(part: str, number: int, length: int, cameras: Any = tuple(CHANNELS)) -> dict[str, Any]:
    """One episode for `Dataset.from_episodes`; observations are episode and step."""
    generator = torch.Generator().manual_seed(number)
    steps = torch.arange(length + 1.0)
    images = {
        camera: torch.stack([stamp(camera, part, number, t) for t in range(length + 1)])
        for camera in cameras
    }
    values = {
        "obs": torch.stack([torch.full_like(steps, number), steps], 1) / 10,
        "action": 2 * torch.rand(length, 2, generator=generator) - 1,
        "reward": torch.randn(length, generator=generator),
        "terminal": number % 2 == 0,
        "image": images,
    }
    return {k: v for k, v in values.items() if part == "background" or k not in ("reward",)}


def image_dataset(cameras: Any = tuple(CHANNELS)) -> Dataset:
    """Three background episodes of 4, 5 and 6 transitions and two demonstrations."""
    background = [episode("background", i, 4 + i, cameras) for i in range(3)]
    return Dataset.from_episodes(background, [episode("expert", i, 5, cameras) for i in range(2)])


def signal_dataset(wrong_share: float) -> Dataset:
    """Episodes of one decision, of which only pixels tell what is right.

    The first frame has a bright block on its left or right. After the action towards the block
    the frame turns green, after the other one red, and stays so for a step. The expert's frames
    turn green; the background acts wrongly in `wrong_share` of its episodes. Observations are 0.
    """
    generator = torch.Generator().manual_seed(1)

    def played(index: int, acts_wrongly: bool) -> dict[str, Any]:
        side = index % 2
        frames = torch.randint(0, 40, (3, HEIGHT, HEIGHT, 3), generator=generator)
        row, column = torch.randint(0, 3, (2,), generator=generator).tolist()
        frames[0, row : 14 + row, 8 * side + column : 8 * side + column + 6] += 200
        frames[1:, :, :, 0 if acts_wrongly else 1] += 150
        sign = 2 * side - 1 if not acts_wrongly else 1 - 2 * side
        action = torch.tensor([[0.5 * sign], [0.0]])
        return {
            "obs": torch.zeros(3, 1),
            "action": action,
            "image": {"front": frames.to(torch.uint8)},
        }

    wrong = [index < 64 * wrong_share for index in range(64)]
    background = [played(index, wrong[index // 2 * 2]) for index in range(64)]
    expert = [played(index, False) for index in range(16)]
    for demonstration in expert:
        del demonstration["action"]
    return Dataset.from_episodes(background, expert)


def share_right(policy: Any, dataset: Dataset) -> float:
    """Share of the background's first frames in which a policy's mode goes towards the block."""
    first = dataset.background.start[:-1] + torch.arange(len(dataset))
    side = torch.arange(len(dataset)) % 2
    frames = dataset.images["front"].read(first)
    action = policy.act(torch.zeros(len(first), 1), images={"front": frames})[:, 0]
    return float(((action > 0) == (side == 1)).double().mean())
