"""A diffusion model of short windows of behaviour, whose net embeds them. The first stage of TGE.

Source: arXiv 2601.00452; net, schedule and optimiser as in Diffuser (Janner et al. 2022,
arXiv:2205.09991), which the paper builds on.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastifo.algos.config import Config, require, require_choice
from fastifo.algos.learner import Learner, Metrics
from fastifo.data.sampler import Batch
from fastifo.nn.heads import box_muller
from fastifo.nn.mlp import Init
from fastifo.nn.unet import GROUPS, UNet, level_lengths

EMA_PERIOD = 10  # updates between steps of the averaged weights
OFFSET, LARGEST_BETA = 0.008, 0.999  # of the cosine schedule


@dataclass(frozen=True)
class DiffusionConfig(Config):
    """Fields of every method whose rewards come from embedded windows."""

    horizon: int = 32  # H: rows of a window; 1, 2, 4 or a multiple of 8
    unet_width: int = 32  # channels of the first level
    unet_multipliers: tuple[int, ...] = (1, 2, 4, 8)  # of the width, one a level
    diffusion_steps: int = 20  # noise levels
    diffusion_updates: int = 200_000  # length of the model's training, before everything else
    diffusion_batch_size: int = 256  # windows in one of its updates
    diffusion_learning_rate: float = 2e-4  # Adam, of the model
    ema_decay: float = 0.995  # of the averaged weights that embed, every 10 updates
    ema_start: int = 2000  # until then the average is a copy
    mask_share: float = 0.5  # of windows that train without their actions, as embeddings are made
    pooling: str = "mean"  # mean | flatten: of the middle's steps, into an embedding
    states_only: bool = False  # a model of observations alone, without actions and mask

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = self.horizon
        require(
            self, "horizon", steps in (1, 2, 4) or (steps > 0 and steps % 8 == 0),
            "1, 2, 4 or a multiple of 8, which three halvings divide",
        )  # fmt: skip
        require(
            self, "unet_width", self.unet_width >= GROUPS and self.unet_width % GROUPS == 0,
            f"a multiple of {GROUPS}",
        )  # fmt: skip
        require(
            self, "unet_multipliers",
            len(self.unet_multipliers) > 1 and all(m >= 1 for m in self.unet_multipliers),
            "two or more factors of at least 1",
        )  # fmt: skip
        numbers = (steps * self.unet_width * m // GROUPS for steps, m in self.levels())
        require(
            self, "unet_width", min(numbers) > 1,
            f"{2 * GROUPS} or more with this horizon: a group norm needs more than one number",
        )  # fmt: skip
        require_choice(self, "pooling", ("mean", "flatten"))
        for name in ("diffusion_steps", "diffusion_batch_size"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("diffusion_updates", "ema_start"):
            require(self, name, getattr(self, name) >= 0, "at least 0")
        require(self, "diffusion_learning_rate", self.diffusion_learning_rate > 0, "above 0")
        require(self, "ema_decay", 0.0 <= self.ema_decay < 1.0, "in [0, 1)")
        require(self, "mask_share", 0.0 < self.mask_share <= 1.0, "in (0, 1]")

    def levels(self) -> list[tuple[int, int]]:
        """Steps of a window and the multiplier of the width, on every level of the net."""
        steps = level_lengths(self.horizon, len(self.unet_multipliers))
        return list(zip(steps, self.unet_multipliers, strict=True))

    @property
    def embedding_width(self) -> int:
        """Numbers of an embedding."""
        steps, multiplier = self.levels()[-1]
        return self.unet_width * multiplier * (steps if self.pooling == "flatten" else 1)


class Diffusion(Learner):
    """Not an algorithm of its own: it has no policy. Its rows are observation and action."""

    Config = DiffusionConfig
    name: ClassVar[str] = "diffusion"
    kept: Tensor

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        return frozenset({"windows", "noise"})

    @property
    def window(self) -> int:
        return int(self.cfg.horizon)

    @property
    def noise_width(self) -> int:
        """Noise level, mask, and two numbers for each one of the noise."""
        return 2 + 2 * self.window * self.spec.obs_dim

    def build(self) -> None:
        cfg, spec = self.cfg, self.spec
        init = Init(self.seeds, "unet", cfg.init, self.dtype)
        self.acts = spec.action_dim  # the last numbers of a row
        channels = spec.obs_dim + int(self.acts > 0)  # and whether the window is masked
        shape = cfg.unet_width, cfg.unet_multipliers, cfg.horizon
        self.net = UNet(init, channels, *shape)
        self.average = self.target_copy(self.net, every=EMA_PERIOD)
        self.targets_copy_until = cfg.ema_start
        self.register_buffer("kept", cosine_schedule(cfg.diffusion_steps).to(self.dtype))

    def update(self, batch: Batch) -> Metrics:
        assert batch.windows is not None
        assert batch.noise is not None
        clean = batch.windows.permute(1, 2, 3, 0)  # [P, B, C, H]
        choice, mask, *_ = batch.noise[..., :2].unbind(-1)
        step = (choice * self.cfg.diffusion_steps).floor()  # [P, B]
        masked = (mask < self.hp.mask_share).to(self.dtype)
        uniform = batch.noise[..., 2:].unflatten(-1, (2, *clean.shape[2:]))
        loss = self.loss(clean, box_muller(uniform[:, :, 0], uniform[:, :, 1]), step, masked)
        self.minimise(loss, self.net)
        return {"denoising_loss": loss.detach()}

    def loss(self, clean: Tensor, noise: Tensor, step: Tensor, masked: Tensor) -> Tensor:
        """Mean squared error of the noise that the net sees in noisy windows, [P].

        clean, noise: [P, B, C, H].  step: [P, B].  masked: [P, B], 1 where actions are hidden,
        whose noise nobody could see.
        """
        share = self.kept[step.long()][..., None, None]  # [P, B, 1, 1]
        noisy = share.sqrt() * clean + (1.0 - share).sqrt() * noise
        found = self.net(self._input(noisy, masked), step)[:, :, : clean.shape[2]]
        error = (found - noise).square()
        visible = torch.ones_like(error)
        if self.acts:
            visible[:, :, -self.acts :] -= masked[..., None, None]
        loss: Tensor = (error * visible).sum((1, 2, 3)) / visible.sum((1, 2, 3))
        return loss

    def _input(self, rows: Tensor, masked: Tensor) -> Tensor:
        """Channels as the net reads them: actions hidden where masked, and whether they are."""
        if self.acts == 0:
            return rows
        hide = masked[..., None, None]
        obs, action = rows[:, :, : -self.acts], rows[:, :, -self.acts :]
        flag = hide.expand(-1, -1, 1, rows.shape[-1])
        return torch.cat([obs, action * (1.0 - hide), flag], 2)

    def _embedder(self, member: int) -> "tuple[Diffusion, UNet]":
        """The member alone, so that its numbers do not feel the others, and its net that embeds."""
        alone = self.member(member)
        assert isinstance(alone, Diffusion)
        return alone, alone.average if self.num_updates >= EMA_PERIOD else alone.net

    def fingerprint(self, member: int) -> str:
        """Of the weights that embed."""
        _, net = self._embedder(member)
        found = hashlib.sha256()
        for weight in net.parameters():
            found.update(weight.detach().cpu().numpy().tobytes())
        return found.hexdigest()

    @torch.no_grad()
    def embed(self, member: int, rows: Tensor, first: Tensor, size: int) -> Iterator[Tensor]:
        """Embeddings of masked windows, [n, embedding_width] each, `size` windows at once.

        rows: [R, C] on the CPU.  first: the first row of each window.
        """
        alone, net = self._embedder(member)
        place = torch.arange(self.window)
        for part in first.split(size):
            windows = rows[part[:, None] + place].to(self.kept.device, self.dtype)
            clean = windows.transpose(1, 2).unsqueeze(0)  # [1, n, C, H]
            hidden = clean.new_ones(1, len(part))
            middle = net.bottleneck(alone._input(clean, hidden)).squeeze(0)  # [n, widest, steps]
            yield middle.mean(-1) if self.cfg.pooling == "mean" else middle.flatten(1)


def cosine_schedule(steps: int) -> Tensor:
    """Share of the clean signal's variance that is left at each noise level, [steps], float64.

    Source: Nichol & Dhariwal 2021, arXiv:2102.09672.
    """
    time = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    left = torch.cos((time + OFFSET) / (1 + OFFSET) * math.pi / 2).square()
    beta = (1.0 - left[1:] / left[:-1]).clamp(0.0, LARGEST_BETA)
    return (1.0 - beta).cumprod(0)
