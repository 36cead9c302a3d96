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
