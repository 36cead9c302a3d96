"""Batches drawn by counter: what update t sees is a function of the seed and t alone."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastifo.data.dataset import Dataset, Episodes
from fastifo.ops.draw import draw


@dataclass(frozen=True)
class Transitions:
    """B transitions for each of P members."""

    obs: Tensor  # [P, B, D]
    next_obs: Tensor  # [P, B, D]
    terminal: Tensor  # [P, B] 0 or 1
    action: Tensor | None = None  # [P, B, A]
    reward: Tensor | None = None  # [P, B]


@dataclass(frozen=True)
class Batch:
    """What one update sees."""

    background: Transitions
    expert: Transitions | None = None
    policy: Transitions | None = None  # background rows for the policy alone, where asked for
    uniform: Tensor | None = None  # [P, B] in [0, 1), where asked for


def purpose(stage: str, what: str) -> int:
    """The stream of random numbers for one use, so that uses never share draws."""
    return zlib.crc32(f"{stage}/{what}".encode())


def uniform(seed: Tensor, counter: Tensor, stream: int, size: int, dtype: torch.dtype) -> Tensor:
    """Numbers in [0, 1) with 24 random bits, [P, size]."""
    return draw(seed, counter, stream, 1 << 24, size).to(dtype) * 2.0**-24


class Columns:
    """One source's columns on the training device, gathered by transition index."""

    def __init__(
        self,
        episodes: Episodes,
        device: torch.device,
        dtype: torch.dtype,
        *,
        action: bool,
        reward: bool,
    ) -> None:
        self.obs = episodes.obs.to(device)
        self.row = episodes.rows().to(device)
        self.terminal = episodes.terminal.to(device)
        self.action = None
        if action and episodes.action is not None:
            self.action = episodes.action.to(device)
        self.reward = None
        if reward and episodes.reward is not None:
            self.reward = episodes.reward.to(device)
        self.num_transitions = episodes.num_transitions
        self.dtype = dtype

    def gather(self, index: Tensor) -> Transitions:
        """index: [P, B] transitions.  Returns their columns, floats in the training dtype."""
        flat = index.view(-1)
        row = self.row.index_select(0, flat)

        def pick(column: Tensor, at: Tensor) -> Tensor:
            picked = column.index_select(0, at).to(self.dtype)
            return picked.view(*index.shape, *column.shape[1:])

        reward = None
        if self.reward is not None and self.reward.ndim == 2:
            reward = self.reward.gather(1, index).to(self.dtype)
        elif self.reward is not None:
            reward = pick(self.reward, flat)
        return Transitions(
            obs=pick(self.obs, row),
            next_obs=pick(self.obs, row + 1),
            terminal=pick(self.terminal, flat),
            action=None if self.action is None else pick(self.action, flat),
            reward=reward,
        )


class Sampler:
    """Draws the batch of an update for every member from its own seed."""

    def __init__(
        self,
        dataset: Dataset,
        seeds: Sequence[int],
        batch_size: int,
        needs: frozenset[str],
        stage: str,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.seed = torch.tensor(seeds, dtype=torch.int64, device=device)
        self.batch_size = batch_size
        self.needs = needs
        self.stage = stage
        self.dtype = dtype
        reward = "reward" in needs
        self.background = Columns(dataset.background, device, dtype, action=True, reward=reward)
        self.expert = None
        if "expert" in needs and dataset.expert is not None:
            self.expert = Columns(dataset.expert, device, dtype, action=False, reward=reward)

    def draw(self, counter: Tensor) -> Batch:
        """counter: [1] int64 on the device, the number of updates made."""
        expert = policy = mix = None
        if self.expert is not None:
            expert = self._transitions("expert", self.expert, counter)
        if "policy" in self.needs:
            policy = self._transitions("policy", self.background, counter)
        if "uniform" in self.needs:
            stream = purpose(self.stage, "mix")
            mix = uniform(self.seed, counter, stream, self.batch_size, self.dtype)
        background = self._transitions("background", self.background, counter)
        return Batch(background, expert, policy, mix)

    def _transitions(self, what: str, columns: Columns, counter: Tensor) -> Transitions:
        stream = purpose(self.stage, what)
        index = draw(self.seed, counter, stream, columns.num_transitions, self.batch_size)
        return columns.gather(index)
