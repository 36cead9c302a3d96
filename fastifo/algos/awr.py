"""AWR, advantage-weighted regression on the true rewards: the oracle of the VfO study.

Source: Peng et al. 2019, arXiv:1910.00177, as run in arXiv 2507.06701: the nets, policy head,
one-step targets and temperature of VfO, on background data only. Differs from the original: no
TD(lambda) returns, no standardised advantages, Adam instead of momentum.
"""

from typing import ClassVar

import torch

from fastifo.algos.learner import Learner, Metrics
from fastifo.algos.native import NativeLoss
from fastifo.algos.vfo import NATIVE_FLAGS, STATISTICS, AdvantageConfig
from fastifo.data.sampler import Batch


class AWR(Learner):
    """Cloning of the background's actions, weighted by their advantage."""

    Config = AdvantageConfig
    name: ClassVar[str] = "awr"
    native_loss = NativeLoss("awr", flags=NATIVE_FLAGS)
    needs: ClassVar[frozenset[str]] = frozenset({"reward"})

    def build(self) -> None:
        """Builds the policy, and the value with its target copy."""
        self.policy = self.make_policy()
        self.value = self.scalar_net("value")
        self.value_target = self.target_copy(self.value, every=self.cfg.target_period)

    def update(self, batch: Batch) -> Metrics:
        """Steps the value and the policy; returns losses, mean value, advantages and weights."""
        hp, cfg, b = self.hp, self.cfg, batch.background
        assert b.action is not None
        assert b.reward is not None

        # Values: v(s), and vbar(s') of the target copy without gradient.
        v = self.value(b.obs)  # [P, B]
        with torch.no_grad():
            next_v = self.value_target(b.next_obs)
            online = cfg.advantage_bootstrap == "online"
            policy_next_v = self.value(b.next_obs) if online else None

        # Value loss: L_v = E[(y - v(s))^2], y = r + gamma vbar(s'), at a terminal r / (1 - gamma).
        # Policy weight: w = exp(A / temperature) up to max_weight, A = y - v(s), both constant.
        value_loss, value_gradient, weight, statistics = self.ops.advantage(
            v=v.detach(), next_v=next_v, policy_next_v=policy_next_v, reward=b.reward,
            terminal=b.terminal, share=torch.ones_like(hp.gamma), gamma=hp.gamma, expectile=None,
            temperature=hp.temperature, max_weight=hp.max_weight, absorbing=cfg.absorbing,
            policy_absorbing=cfg.absorbing and cfg.advantage_absorbing, policy_rows=v.shape[1],
        )  # fmt: skip

        # Policy loss: L_pi = -E[w log pi(a | s)].
        logits = self.policy.outputs(b.obs)
        policy_loss, policy_gradient = self.policy.loss(logits, b.action, weight)

        self.apply_gradients(
            [(v, value_gradient), (logits, policy_gradient)], self.value, self.policy
        )
        return {
            "value_loss": value_loss,
            "policy_loss": policy_loss,
            "value_mean_background": v.detach().mean(1),
            **dict(zip(STATISTICS, statistics.unbind(1), strict=True)),
        }
