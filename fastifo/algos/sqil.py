"""Offline SQIL with privileged expert actions: VfO-bin whose policy also clones the expert.

Source: baseline of the VfO study, arXiv 2507.06701. It shares only the 0/1 reward with the soft
Q-learning method that it is named after (Reddy et al. 2020, arXiv:1905.11108).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from fastifo.algos.config import require
from fastifo.algos.expert_actions import check_expert_actions
from fastifo.algos.learner import Learner, Metrics
from fastifo.algos.native import NativeLoss
from fastifo.algos.vfo import NATIVE_FLAGS, STATISTICS, AdvantageConfig
from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Batch


@dataclass(frozen=True)
class SQILConfig(AdvantageConfig):
    """Fields of `sqil`."""

    alpha: float = 0.9  # weight of the background in the value loss; 0.9 was the study's best
    policy_alpha: float = -1.0  # weight of the background in the policy loss; -1 uses alpha

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "alpha", 0.0 <= self.alpha <= 1.0, "in [0, 1]")
        require(self, "policy_alpha", self.policy_alpha == -1.0 or 0.0 <= self.policy_alpha <= 1.0,
                "in [0, 1], or -1")  # fmt: skip


class SQIL(Learner):
    """Cloning of background and expert actions, weighted by the advantage under a 0/1 reward."""

    Config = SQILConfig
    name: ClassVar[str] = "sqil"
    native_loss = NativeLoss("sqil", flags=NATIVE_FLAGS)
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        """Expert rows with their actions."""
        return cls.needs | {"expert_action"}

    @classmethod
    def check_data(
        cls, dataset: Dataset, config: Any, device: torch.device, *, relabel_only: bool = False
    ) -> None:
        """The expert's actions are required, in the format of the background's."""
        super().check_data(dataset, config, device, relabel_only=relabel_only)
        check_expert_actions(cls.name, dataset, "train vfo_bin, which needs none")

    def build(self) -> None:
        """Builds the policy, and the value with its target copy."""
        self.policy = self.make_policy()
        self.value = self.scalar_net("value")
        self.value_target = self.target_copy(self.value, every=self.cfg.target_period)

    def update(self, batch: Batch) -> Metrics:
        """Steps value and policy; returns losses, mean values, advantages and weights."""
        hp, cfg = self.hp, self.cfg
        expert, background = batch.expert, batch.background
        assert expert is not None
        assert expert.action is not None
        assert background.action is not None
        B = background.terminal.shape[1]
        obs = torch.cat([expert.obs, background.obs], 1)  # [P, 2B, width]
        next_obs = torch.cat([expert.next_obs, background.next_obs], 1)
        terminal = torch.cat([expert.terminal, background.terminal], 1)

        # Values: v(s), and vbar(s') of the target copy without gradient.
        v = self.value(obs)  # [P, 2B]
        with torch.no_grad():
            next_v = self.value_target(next_obs)
            policy_next_v = self.value(next_obs) if cfg.advantage_bootstrap == "online" else None

        # Value loss, as in VfO-bin: r = 1 on D_E, 0 on D_B;
        # L_v = (1 - alpha) E_{D_E}[(y - v(s))^2] + alpha E_{D_B}[(y - v(s))^2], with
        # y = r + gamma vbar(s'), at a terminal y = r / (1 - gamma).
        # Policy weight, on both sources: w = exp(A / temperature) up to max_weight, A = y - v(s),
        # both constant.
        value_loss, value_gradient, weight, statistics = self.ops.advantage(
            v=v.detach(), next_v=next_v, policy_next_v=policy_next_v, terminal=terminal,
            reward=torch.cat([torch.ones_like(hp.alpha), torch.zeros_like(hp.alpha)], 1),
            share=torch.cat([1.0 - hp.alpha, hp.alpha], 1), gamma=hp.gamma, expectile=None,
            temperature=hp.temperature, max_weight=hp.max_weight, absorbing=cfg.absorbing,
            policy_absorbing=cfg.absorbing and cfg.advantage_absorbing, policy_rows=2 * B,
        )  # fmt: skip

        # Policy loss: L_pi = -(1 - alpha) E_{D_E}[w log pi(a|s)] - alpha E_{D_B}[w log pi(a|s)];
        # the mean below is over 2B rows, hence the factor 2.
        alpha = torch.where(hp.policy_alpha < 0.0, hp.alpha, hp.policy_alpha)
        share = torch.cat([1.0 - alpha, alpha], 1).repeat_interleave(B, 1)  # [P, 2B]
        logits = self.policy.outputs(obs)
        action = torch.cat([expert.action, background.action], 1)
        policy_loss, policy_gradient = self.policy.loss(logits, action, 2.0 * share * weight)

        self.apply_gradients(
            [(v, value_gradient), (logits, policy_gradient)], self.value, self.policy
        )
        return {
            "value_loss": value_loss,
            "policy_loss": policy_loss,
            "value_mean_expert": v.detach()[:, :B].mean(1),
            "value_mean_background": v.detach()[:, B:].mean(1),
            **dict(zip(STATISTICS, statistics.unbind(1), strict=True)),
        }
