"""SQIL offline, with privileged expert actions: VfO-bin whose policy learns from the expert too.

Source: baseline of the VfO study, arXiv 2507.06701. The soft-Q method of Reddy et al. 2020
(arXiv:1905.11108), which gave the name, is another.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from fastifo.algos.awr import NATIVE_FLAGS, AdvantageConfig, AdvantageLearner
from fastifo.algos.config import require
from fastifo.algos.learner import Metrics
from fastifo.algos.native import NativeLoss
from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Batch


@dataclass(frozen=True)
class SQILConfig(AdvantageConfig):
    alpha: float = 0.9  # weight of the background in the value loss; 0.9 was the study's best
    policy_alpha: float = -1.0  # the same in the policy loss; -1 is alpha

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "alpha", 0.0 <= self.alpha <= 1.0, "in [0, 1]")
        require(self, "policy_alpha", self.policy_alpha == -1.0 or 0.0 <= self.policy_alpha <= 1.0,
                "in [0, 1], or -1")  # fmt: skip


class SQIL(AdvantageLearner):
    Config = SQILConfig
    name: ClassVar[str] = "sqil"
    native_loss = NativeLoss("sqil", flags=NATIVE_FLAGS)
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        return cls.needs | {"expert_action"}

    @classmethod
    def check(cls, dataset: Dataset) -> None:
        super().check(dataset)
        assert dataset.expert is not None
        action = dataset.expert.action
        if action is None:
            raise ValueError(
                "sqil needs the expert's actions; the dataset has none. Pass 'action' in every "
                "expert episode, or train vfo_bin, which needs none"
            )
        if action.shape[1] != dataset.action_dim or not bool((action.abs() <= 1.0 + 1e-5).all()):
            raise ValueError(
                f"sqil learns from the expert's actions; expected {dataset.action_dim} numbers in "
                f"[-1, 1] each, found {action.shape[1]}, from {float(action.min()):.4g} to "
                f"{float(action.max()):.4g}"
            )

    def update(self, batch: Batch) -> Metrics:
        hp = self.hp
        e, b = batch.expert, batch.background
        assert e is not None
        assert e.action is not None
        assert b.action is not None
        size = b.terminal.shape[1]
        obs = torch.cat([e.obs, b.obs], 1)
        next_obs = torch.cat([e.next_obs, b.next_obs], 1)
        terminal = torch.cat([e.terminal, b.terminal], 1)

        # Value: as VfO-bin, 1 for expert rows and 0 for background rows.
        v = self.value(obs)  # [P, 2B]
        reward = torch.cat([torch.ones_like(hp.alpha), torch.zeros_like(hp.alpha)], 1)
        share = torch.cat([1.0 - hp.alpha, hp.alpha], 1)
        value_loss, value_gradient, weight, weight_metrics = self.judge(
            v, reward, next_obs, terminal, share, 2 * size
        )

        # Policy: both sources' actions, weighted by exp(advantage / temperature).
        alpha = torch.where(hp.policy_alpha < 0.0, hp.alpha, hp.policy_alpha)
        mix = torch.cat([1.0 - alpha, alpha], 1).repeat_interleave(size, 1)
        outputs = self.policy.outputs(obs)
        policy_loss, policy_gradient = self.policy.loss(
            outputs, torch.cat([e.action, b.action], 1), 2.0 * mix * weight
        )

        self.apply_gradients(
            [(v, value_gradient), (outputs, policy_gradient)], self.value, self.policy
        )
        return {
            "value_loss": value_loss,
            "policy_loss": policy_loss,
            "value_mean_expert": v.detach()[:, :size].mean(1),
            "value_mean_background": v.detach()[:, size:].mean(1),
            **weight_metrics,
        }
