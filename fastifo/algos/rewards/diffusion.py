"""The diffusion model of TGE's first stage: it learns windows of behaviour; its net embeds them.

Source: arXiv 2601.00452; net, schedule and optimiser follow Diffuser (Janner et al. 2022,
arXiv:2205.09991), on which the paper builds, since the paper gives no sizes. Differs from Diffuser:
the averaged weights follow after updates 10, 20, ... (there 1, 11, 21, ...), as copies before
update `ema_start` (there up to it).

Notation of the comments: tau_0 is a clean window, eps standard normal noise, k the noise level,
abar_k the share of the clean signal's variance at level k (DDPM, Ho et al. 2020,
arXiv:2006.11239).
"""

import dataclasses
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

EMA_PERIOD = 10  # updates between refreshes of the averaged weights; Diffuser's
OFFSET, MAX_BETA = 0.008, 0.999  # of the cosine schedule; Diffuser's


@dataclass(frozen=True)
class DiffusionConfig(Config):
    """Fields of every method that embeds windows: the model and its training."""

    horizon: int = 32  # H: rows of a window; 1, 2, 4 or a multiple of 8
    unet_width: int = 32  # channels of the net's first level
    unet_multipliers: tuple[int, ...] = (1, 2, 4, 8)  # channels of each level, in unet_width
    diffusion_steps: int = 20  # noise levels
    diffusion_updates: int = 200_000  # updates of the model, before those of the policy
    diffusion_batch_size: int = 256  # windows drawn in one update of the model
    diffusion_learning_rate: float = 2e-4  # learning rate of Adam, model
    ema_decay: float = 0.995  # decay of the averaged weights that embed, every 10 updates
    ema_start: int = 2000  # until this update the averaged weights are copies
    mask_share: float = 0.5  # share of training windows whose actions are masked, as in embedding
    pooling: str = "mean"  # mean | flatten: how the bottleneck's time steps become an embedding
    states_only: bool = False  # model observations only: no actions, no mask

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = self.horizon
        require(
            self, "horizon", steps in (1, 2, 4) or (steps > 0 and steps % 8 == 0),
            "1, 2, 4 or a multiple of 8, so that the net can halve it",
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
        group_sizes = [length * self.unet_width * m // GROUPS for length, m in self.levels()]
        require(
            self, "unet_width", min(group_sizes) > 1,
            f"{2 * GROUPS} or more with this horizon, because a group norm needs two values",
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
        """Time steps and channel multiplier of every level of the net."""
        lengths = level_lengths(self.horizon, len(self.unet_multipliers))
        return list(zip(lengths, self.unet_multipliers, strict=True))

    @property
    def embedding_width(self) -> int:
        """Values of one embedding."""
        steps, multiplier = self.levels()[-1]
        return self.unet_width * multiplier * (steps if self.pooling == "flatten" else 1)


def model_config(config: Any) -> Any:
    """The config that `Diffusion` trains with, from a method's: its `diffusion_*` fields."""
    return dataclasses.replace(
        config,
        learning_rate=config.diffusion_learning_rate,
        batch_size=config.diffusion_batch_size,
        polyak=1.0 - config.ema_decay,
        weight_decay=0.0,
        encoder_scales=(),
        standardize_obs=False,
    )


class Diffusion(Learner):
    """A denoising model of windows, [H, C] each: a helper stage without a policy.

    A row has C = `spec.obs_dim` values; the last `spec.action_dim` of them are the action.
    """

    Config = DiffusionConfig
    name: ClassVar[str] = "diffusion"
    kept: Tensor

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        """Windows of the background, and noise for levels, masks and diffusion."""
        return frozenset({"windows", "noise"})

    @property
    def window(self) -> int:
        """H, the rows of a window."""
        return int(self.cfg.horizon)

    @property
    def noise_width(self) -> int:
        """Random numbers per window: noise level, mask, and two for each normal number."""
        return 2 + 2 * self.window * self.spec.obs_dim

    def build(self) -> None:
        """Builds the U-Net, its averaged copy and the noise schedule."""
        cfg, spec = self.cfg, self.spec
        init = Init(self.seeds, "unet", cfg.init, self.dtype)
        self.masked_width = spec.action_dim  # the last values of a row
        channels = spec.obs_dim + int(self.masked_width > 0)  # one more says if a window is masked
        self.net = UNet(init, channels, cfg.unet_width, cfg.unet_multipliers, cfg.horizon)
        self.average = self.target_copy(self.net, every=EMA_PERIOD)
        self.targets_copy_until = cfg.ema_start
        # abar, [diffusion_steps], under the name that it has in checkpoints.
        self.register_buffer("kept", cosine_schedule(cfg.diffusion_steps).to(self.dtype))

    def update(self, batch: Batch) -> Metrics:
        """Steps the U-Net on masked and unmasked windows; returns the denoising loss."""
        assert batch.windows is not None
        assert batch.noise is not None
        clean = batch.windows.permute(1, 2, 3, 0)  # [P, B, C, H]
        choice, mask, *_ = batch.noise[..., :2].unbind(-1)
        step = (choice * self.cfg.diffusion_steps).floor()  # k, [P, B], uniform
        masked = (mask < self.hp.mask_share).to(self.dtype)  # [P, B]
        uniform = batch.noise[..., 2:].unflatten(-1, (2, *clean.shape[2:]))
        loss = self.loss(clean, box_muller(uniform[:, :, 0], uniform[:, :, 1]), step, masked)
        # The averaged weights follow: average += (1 - ema_decay) (net - average).
        self.minimise(loss, self.net)
        return {"denoising_loss": loss.detach()}

    def loss(self, clean: Tensor, noise: Tensor, step: Tensor, masked: Tensor) -> Tensor:
        """L = E[|eps - eps_theta(tau_k, k)|^2], tau_k = sqrt(abar_k) tau_0 + sqrt(1 - abar_k) eps.

        The mean is over the values that the net can see: masked actions do not count.
        clean, noise: tau_0 and eps, [P, B, C, H].  step: k, [P, B].  masked: 1 where a window's
        actions are masked, [P, B].  Returns [P].
        Source: Ho et al. 2020, arXiv:2006.11239, Eq. 14.
        """
        abar = self.kept[step.long()][..., None, None]  # [P, B, 1, 1]
        noisy = abar.sqrt() * clean + (1.0 - abar).sqrt() * noise
        predicted = self.net(self._inputs(noisy, masked), step)[:, :, : clean.shape[2]]
        error = (predicted - noise).square()
        visible = torch.ones_like(error)
        if self.masked_width:
            visible[:, :, -self.masked_width :] -= masked[..., None, None]
        loss: Tensor = (error * visible).sum((1, 2, 3)) / visible.sum((1, 2, 3))
        return loss

    def _inputs(self, rows: Tensor, masked: Tensor) -> Tensor:
        """The net's input channels: actions are 0 where masked, and the last channel is the mask.

        rows: [P, B, C, H].  masked: [P, B].  Returns [P, B, C + 1, H], or `rows` without actions.
        """
        if self.masked_width == 0:
            return rows
        mask = masked[..., None, None]
        obs, action = rows[:, :, : -self.masked_width], rows[:, :, -self.masked_width :]
        mask_channel = mask.expand(-1, -1, 1, rows.shape[-1])
        return torch.cat([obs, action * (1.0 - mask), mask_channel], 2)

    def _embedder(self, member: int) -> "tuple[Diffusion, UNet]":
        """A population of this member only, so that rounding does not depend on the others, and
        its net that embeds: the averaged weights, or the net before the first refresh of those.
        """
        single = self.member(member)
        assert isinstance(single, Diffusion)
        return single, single.average if self.num_updates >= EMA_PERIOD else single.net

    def fingerprint(self, member: int) -> str:
        """SHA-256 of the weights that embed, hexadecimal."""
        _, net = self._embedder(member)
        digest = hashlib.sha256()
        for weight in net.parameters():
            digest.update(weight.detach().cpu().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def embed(self, member: int, rows: Tensor, first: Tensor, size: int) -> Iterator[Tensor]:
        """Yields phi_theta(tau_0, 0) of masked windows: the bottleneck at noise level 0, pooled.

        rows: [R, C] on the CPU.  first: the first row of each window, [n].  size: windows embedded
        together.  Yields [up to size, embedding_width] on the model's device.
        """
        single, net = self._embedder(member)
        offset = torch.arange(self.window)
        for part in first.split(size):
            windows = rows[part[:, None] + offset].to(self.kept.device, self.dtype)
            clean = windows.transpose(1, 2).unsqueeze(0)  # [1, n, C, H]
            masked = clean.new_ones(1, len(part))
            bottleneck = net.bottleneck(single._inputs(clean, masked)).squeeze(0)  # [n, width, T]
            yield bottleneck.mean(-1) if self.cfg.pooling == "mean" else bottleneck.flatten(1)


def cosine_schedule(steps: int) -> Tensor:
    """abar_k, the share of the clean signal's variance at each noise level, [steps], float64.

        f(t) = cos^2((t + 0.008) / 1.008 * pi / 2),  beta_k = 1 - f(t_{k+1}) / f(t_k), at most 0.999
        abar_k = prod_{i <= k} (1 - beta_i),  t_k = k / steps

    Source: Nichol & Dhariwal 2021, arXiv:2102.09672, Eq. 17.
    """
    time = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    f = torch.cos((time + OFFSET) / (1 + OFFSET) * math.pi / 2).square()
    beta = (1.0 - f[1:] / f[:-1]).clamp(0.0, MAX_BETA)
    return (1.0 - beta).cumprod(0)
