"""Policies, files and limits that several tests share."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fastifo.data.streams import uniform

needs_rendering = pytest.mark.usefixtures("rendering")  # skips where nothing can render


class LinearPolicy:
    """A fixed linear map plus noise, computed per row, so that rows do not affect each other."""

    def __init__(self, seed: int = 0, gain: float = 0.5, obs_dim: int = 11, action_dim: int = 3):
        self.seed = torch.tensor([seed])
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(obs_dim, action_dim, generator=generator, dtype=torch.float64)
        self.gain = gain
        self.action_dim = action_dim

    def noise(self, stream: int, step: int, rows: int) -> Tensor:
        numbers = uniform(
            self.seed, torch.tensor([step]), stream, rows * self.action_dim, torch.float64
        )
        return numbers.view(rows, self.action_dim)

    def act_rows(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        action = (obs.double().unsqueeze(-1) * self.weight).sum(1)
        if noise is not None:
            action = action + 2 * noise - 1
        return (self.gain * action).float()


def write_expert(path: Path, obs_dim: int = 11, action_dim: int = 3, seed: int = 0) -> Path:
    """A random expert in the shipped file format; it falls within some tens of steps."""
    rng = np.random.default_rng(seed)
    np.savez(
        path,
        obs_mean=np.zeros(obs_dim),
        obs_std=np.ones(obs_dim),
        obs_clip=np.array(10.0),
        n_layers=np.array(2),
        W0=rng.normal(size=(obs_dim, 4)),
        b0=np.zeros(4),
        W1=rng.normal(size=(4, action_dim)),
        b1=np.zeros(action_dim),
        hidden_activation=np.array("tanh"),
        output_activation=np.array("none"),
        out_scale=np.ones(action_dim),
        out_shift=np.zeros(action_dim),
    )
    return path


@contextlib.contextmanager
def full_disk(size_bytes: int = 100) -> Iterator[None]:
    """Limits the size of every file, so that writes fail as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
