"""Batches drawn by counter: what update t sees is a function of the seed and t alone."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastifo.data.dataset import Dataset, Episodes
from fastifo.data.stack import member_ranges
from fastifo.nets import Encoder
from fastifo.ops.draw import draw
from fastifo.ops.gather import Gatherer, gather_reference


@dataclass(frozen=True)
class Transitions:
    """B transitions for each of P members."""

    obs: Tensor  # [P, B, width], encoded: what a net reads
    next_obs: Tensor  # [P, B, width]
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
        encoder: Encoder | None,
        *,
        action: bool,
        reward: bool,
        fused: bool,
    ) -> None:
        def place(column: Tensor) -> Tensor:
            return column.to(device, dtype).contiguous()

        named = {"terminal": place(episodes.terminal)}
        if action and episodes.action is not None:
            named["action"] = place(episodes.action)
        own: dict[str, Tensor] = {}
        if reward and episodes.reward is not None:
            (own if episodes.reward.ndim == 2 else named)["reward"] = place(episodes.reward)
        self.names = ["obs", *named, *own]
        self.episodes = episodes
        scale, mean, deviation = torch.empty(0, dtype=dtype, device=device), None, None
        if encoder is not None:
            scale = encoder.scale
            if encoder.standardizes:
                mean, deviation = encoder.mean, encoder.deviation
        fixed = (
            episodes.rows().to(device), place(episodes.obs), scale, mean, deviation, 2,
            list(named.values()), list(own.values()),
        )  # fmt: skip
        self.take: Callable[[Tensor], list[Tensor]] = (
            Gatherer(*fixed) if fused else lambda index: gather_reference(index, *fixed)
        )

    def gather(self, index: Tensor) -> Transitions:
        """index: [P, B] transitions.  Returns their columns in the training dtype."""
        found = dict(zip(self.names, self.take(index), strict=True))
        obs, next_obs = found.pop("obs").unbind(0)
        return Transitions(obs=obs, next_obs=next_obs, **found)


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
        encoder: Encoder | None = None,
        *,
        fused: bool = True,
    ) -> None:
        """encoder: what observations pass on the way; None leaves them as they are."""
        self.seed = torch.tensor(seeds, dtype=torch.int64, device=device)
        self.batch_size = batch_size
        self.needs = needs
        self.stage = stage
        self.dtype = dtype
        reward = "reward" in needs
        self.background = Columns(
            dataset.background, device, dtype, encoder, action=True, reward=reward, fused=fused
        )
        self.expert = None
        if "expert" in needs and dataset.expert is not None:
            self.expert = Columns(
                dataset.expert, device, dtype, encoder, action=False, reward=reward, fused=fused
            )

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
        parts = [
            draw(self.seed[members], counter, stream, count, self.batch_size) + first
            for members, first, count in member_ranges(columns.episodes, len(self.seed))
        ]
        return columns.gather(parts[0] if len(parts) == 1 else torch.cat(parts))
