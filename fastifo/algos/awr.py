"""Advantage-weighted regression on the true rewards: the oracle of the VfO study.

Source: Peng et al. 2019, arXiv:1910.00177, as arXiv 2507.06701 runs it: one-step targets, the
same nets, head and temperature as VfO, background data only. Differs from the original: no
TD(lambda), no standardised advantages, Adam instead of momentum.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fastifo.algos.config import Config, require, require_choice
from fastifo.algos.learner import Learner, Metrics
from fastifo.algos.native import NativeLoss
from fastifo.data.sampler import Batch


@dataclass(frozen=True)
class AdvantageConfig(Config):
    """What every advantage-weighted method of the study shares."""

    gamma: float = 0.99  # discount
    temperature: float = 1.0  # lambda: divides the advantage in the weight; 0.1 on Robomimic
    max_weight: float = 100.0  # cap on the policy weight; inf is the paper, which has none
    target_period: int = 200  # updates between hard copies into the target value
    absorbing: bool = True  # a terminal is worth reward / (1 - gamma); False: its reward alone
    advantage_bootstrap: str = "target"  # target | online: the value of the next observation
    advantage_absorbing: bool = True  # the policy's advantage ends as the value does; as absorbing

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "gamma", 0.0 <= self.gamma < 1.0, "in [0, 1)")
        require(self, "temperature", self.temperature > 0, "above 0")
        require(self, "max_weight", self.max_weight > 0, "above 0")
        require(self, "target_period", self.target_period >= 1, "at least 1")
        require_choice(self, "advantage_bootstrap", ("target", "online"))


NATIVE_FLAGS = {"own_next_value": ("advantage_bootstrap", "online")}


class AdvantageLearner(Learner):
    """A value net with its target copy, and a policy weighted by what the value says."""

    def build(self) -> None:
        self.policy = self.make_policy()
        self.value = self.scalar_net("value")
        self.value_target = self.target_of(self.value, every=self.cfg.target_period)

    def judge(
        self,
        v: Tensor,
        reward: Tensor,
        next_obs: Tensor,
        terminal: Tensor,
        share: Tensor,
        policy_rows: int,
    ) -> tuple[Tensor, Tensor, Tensor, Metrics]:
        """The value's loss [P], its gradient in v [P, R], the weights of the last `policy_rows`
        rows, [P, B], and what a log should say of them.

        v: the online value, [P, R].  reward, share: [P, G], one per group of rows or per row.
        next_obs: [P, R, width].  terminal: [P, R].
        """
        hp, cfg = self.hp, self.cfg
        with torch.no_grad():
            next_v = self.value_target(next_obs)
            online = cfg.advantage_bootstrap == "online"
            own_next_v = self.value(next_obs[:, -policy_rows:]) if online else None
        loss, gradient, weight, statistics = self.ops.advantage(
            v.detach(), next_v, own_next_v, reward, terminal, share, hp.gamma, hp.temperature,
            hp.max_weight, None, cfg.absorbing, cfg.absorbing and cfg.advantage_absorbing,
            policy_rows,
        )  # fmt: skip
        names = ("advantage_mean", "advantage_std", "weight_mean", "clip_fraction")
        return loss, gradient, weight, dict(zip(names, statistics.unbind(1), strict=True))


class AWR(AdvantageLearner):
    Config = AdvantageConfig
    name: ClassVar[str] = "awr"
    native_loss = NativeLoss("awr", flags=NATIVE_FLAGS)
    needs: ClassVar[frozenset[str]] = frozenset({"reward"})

    def update(self, batch: Batch) -> Metrics:
        b = batch.background
        assert b.action is not None
        assert b.reward is not None

        # Value: squared one-step error towards the target copy.
        v = self.value(b.obs)  # [P, B]
        everything = torch.ones_like(self.hp.gamma)  # [P, 1]
        value_loss, value_gradient, weight, weight_metrics = self.judge(
            v, b.reward, b.next_obs, b.terminal, everything, v.shape[1]
        )

        # Policy: log-likelihood weighted by exp(advantage / temperature).
        logits = self.policy.outputs(b.obs)
        policy_loss, policy_gradient = self.policy.loss(logits, b.action, weight)

        self.apply_gradients(
            [(v, value_gradient), (logits, policy_gradient)], self.value, self.policy
        )
        return {
            "value_loss": value_loss,
            "policy_loss": policy_loss,
            "value_mean_background": v.detach().mean(1),
            **weight_metrics,
        }
