"""A trained policy that acts."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastifo.algos.learner import Learner
from fastifo.data.sampler import purpose, uniform


class Policy:
    """Acts for one member. Sampling starts afresh with each Policy object."""

    def __init__(
        self, learner: Learner, place: int, low: Tensor | None, high: Tensor | None
    ) -> None:
        self.learner = learner.member(place)
        self.low = low
        self.high = high
        self.device = learner.encoder.mean.device
        self.seed = torch.tensor([learner.seeds[place]], dtype=torch.int64, device=self.device)
        self.counter = torch.zeros(1, dtype=torch.int64, device=self.device)

    def act(self, obs: Any, deterministic: bool = True) -> Any:
        """Actions in the environment's bounds, float32, of the kind (torch or numpy) of `obs`.

        obs: [D] or [B, D].  Returns [A] or [B, A].  deterministic: the mode; else a sample.
        Raises TypeError or ValueError for another kind, another width, or nan.
        """
        tensor = obs if isinstance(obs, Tensor) else torch.from_numpy(_numbers(obs))
        width = self.learner.spec.obs_dim
        if tensor.ndim not in (1, 2) or tensor.shape[-1] != width:
            raise ValueError(
                f"obs: expected shape ({width},) or (B, {width}), found {tuple(tensor.shape)}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError("obs: expected finite numbers, found nan or infinity")
        batch = tensor.reshape(-1, width)
        noise = None
        if not deterministic:
            noise = self.noise(purpose("act", "sample"), int(self.counter), len(batch))
            self.counter += 1
        action = self.act_rows(batch, noise)
        action = action[0] if tensor.ndim == 1 else action
        return action if isinstance(obs, Tensor) else action.numpy()

    def to(self, device: torch.device) -> "Policy":
        """Itself, moved there."""
        self.learner.to_device(device)
        self.seed, self.counter = self.seed.to(device), self.counter.to(device)
        self.device = device
        return self

    def noise(self, stream: int, step: int, rows: int) -> Tensor:
        """The sampling numbers of one step, [rows, 2A]: a function of seed, stream and step."""
        width = 2 * self.learner.spec.action_dim
        counter = torch.tensor([step], dtype=torch.int64, device=self.device)
        numbers = uniform(self.seed, counter, stream, rows * width, self.learner.dtype)
        return numbers.view(rows, width)

    def act_rows(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """[B, D] -> [B, A] float32 on the device of `obs`; with `noise` [B, 2A] a sample."""
        own = None if noise is None else noise[None]
        action = self.learner.act(obs[None].to(self.device), own)[0].float().to(obs.device)
        if self.low is None or self.high is None:
            return action
        low, high = self.low.to(action.device), self.high.to(action.device)
        return low + 0.5 * (action + 1.0) * (high - low)


def _numbers(obs: Any) -> NDArray[Any]:
    """Anything array-like as numbers that torch takes."""
    array = np.array(obs)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"obs: expected an array of numbers, found {type(obs).__name__}")
    return array.astype(np.float64) if array.dtype.kind != "f" else array
