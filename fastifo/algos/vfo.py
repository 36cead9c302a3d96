"""Value from Observations: learn where expert data leads, weight the background's actions by it.

Source: arXiv 2507.06701. `vfo_bin`: the reward is 1 on expert transitions and 0 on background
ones. `vfo_disc`: it is a frozen discriminator's probability of "expert" at the arrival state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastifo.algos.awr import NATIVE_FLAGS, AdvantageConfig, AdvantageLearner
from fastifo.algos.config import require, require_choice
from fastifo.algos.discriminator import DiscriminatorConfig, with_rewards
from fastifo.algos.learner import Metrics, StageTrainer
from fastifo.algos.native import NativeLoss
from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Batch, Transitions


@dataclass(frozen=True)
class VfOConfig(AdvantageConfig):
    alpha: float = 0.5  # weight of the background in the value loss; 1 ignores the expert
    batch_mode: str = "halves"  # halves | bernoulli: two full batches mixed by alpha, or one drawn
    policy_batch: str = "shared"  # shared | separate: the value's background rows, or fresh ones

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "alpha", 0.0 <= self.alpha <= 1.0, "in [0, 1]")
        require_choice(self, "batch_mode", ("halves", "bernoulli"))
        require_choice(self, "policy_batch", ("shared", "separate"))


@dataclass(frozen=True)
class VfODiscConfig(DiscriminatorConfig, VfOConfig):
    disc_reward_at: str = "next"  # next | current: the paper's algorithm box, or its one equation

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "disc_reward_at", ("next", "current"))


class VfOBin(AdvantageLearner):
    Config = VfOConfig
    name: ClassVar[str] = "vfo_bin"
    native_loss = NativeLoss("vfo", flags=NATIVE_FLAGS)
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        extra = {"uniform"} if config.batch_mode == "bernoulli" else set()
        return cls.needs | extra | ({"policy"} if config.policy_batch == "separate" else set())

    def reward(self, sources: Sequence[Transitions]) -> Tensor:
        """One per source, [P, G]: 1 for expert rows, 0 for background rows."""
        reward = sources[0].terminal.new_zeros(len(self.seeds), len(sources))
        reward[:, 0] = 1.0
        return reward

    def update(self, batch: Batch) -> Metrics:
        hp = self.hp
        e, b, p = batch.expert, batch.background, batch.policy or batch.background
        assert e is not None
        assert p.action is not None
        size = b.terminal.shape[1]
        sources = [e, b] if p is b else [e, b, p]
        obs = torch.cat([s.obs for s in sources], 1)
        next_obs = torch.cat([s.next_obs for s in sources], 1)
        terminal = torch.cat([s.terminal for s in sources], 1)

        # How much each source counts: alpha mixes their means, or picks rows one by one.
        share = [1 - hp.alpha, hp.alpha]  # [P, 1] each
        picked = torch.ones_like(b.terminal)
        if batch.uniform is not None:
            picked = (batch.uniform < hp.alpha).to(self.dtype)  # [P, B]
            share = [(1 - picked) / size, picked / size]
        if p is not b:
            share.append(torch.zeros_like(share[0]))
            picked = torch.ones_like(b.terminal)

        # Value: squared one-step error towards the target copy, on both sources.
        v = self.value(obs)  # [P, 2B], or [P, 3B] with policy rows of their own
        value_loss, value_gradient, weight, weight_metrics = self.judge(
            v, self.reward(sources), next_obs, terminal, torch.cat(share, 1), size
        )

        # Policy: the background's actions, weighted by exp(advantage / temperature).
        if batch.uniform is not None:  # of the policy's rows only the picked ones count
            weight = weight * picked * (size / picked.sum(1, True).clamp(min=1.0))
        logits = self.policy.outputs(obs[:, -size:])
        policy_loss, policy_gradient = self.policy.loss(logits, p.action, weight)

        self.apply_gradients(
            [(v, value_gradient), (logits, policy_gradient)], self.value, self.policy
        )
        return {
            "value_loss": value_loss,
            "policy_loss": policy_loss,
            "value_mean_expert": v.detach()[:, :size].mean(1),
            "value_mean_background": v.detach()[:, size : 2 * size].mean(1),
            **weight_metrics,
        }


class VfODisc(VfOBin):
    Config = VfODiscConfig
    name: ClassVar[str] = "vfo_disc"

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        return super().batch_needs(config) | {"reward"}

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """The discriminator's probability becomes the reward of both sources."""
        after = configs[0].disc_reward_at == "next"
        return with_rewards(dataset, configs, trainer, torch.sigmoid, next_obs=after)

    def reward(self, sources: Sequence[Transitions]) -> Tensor:
        """The discriminator's word on each row, [P, R]."""
        rewards = [rows.reward for rows in sources if rows.reward is not None]
        assert len(rewards) == len(sources)
        return torch.cat(rewards, 1)
