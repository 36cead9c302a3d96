"""Advantage-weighted regression on the true rewards: the oracle of the VfO study.

Source: Peng et al. 2019, arXiv:1910.00177, as arXiv 2507.06701 runs it: one-step targets, the
same nets, head and temperature as VfO, background data only. Differs from the original: no
TD(lambda), no standardised advantages, Adam instead of momentum.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fastifo import losses
from fastifo.config import Config, require, require_choice
from fastifo.data.sampler import Batch
from fastifo.learner import Learner, Metrics


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


class AdvantageLearner(Learner):
    """A value net with its target copy, and a policy weighted by what the value says."""

    def build(self) -> None:
        self.policy = self.binned_policy()
        self.value = self.scalar_net("value")
        self.value_target = self.target_of(self.value, "value")

    @torch.no_grad()
    def weigh(
        self, reward: Tensor, next_obs: Tensor, next_v: Tensor, terminal: Tensor, v: Tensor
    ) -> tuple[Tensor, Metrics]:
        """The policy's weights, [P, B], and what a log should say of them.

        reward, terminal, next_v (the target copy's), v (the online net's): [P, B].
        next_obs: encoded, [P, B, width].
        """
        hp, cfg = self.hp, self.cfg
        if cfg.advantage_bootstrap == "online":
            next_v = self.value(next_obs)
        absorbing = cfg.absorbing and cfg.advantage_absorbing
        y = losses.td_target(reward, next_v, terminal, hp.gamma, absorbing=absorbing)
        advantage = y - v
        weight, clipped = losses.advantage_weight(advantage, hp.temperature, hp.max_weight)
        return weight, {
            "advantage_mean": advantage.mean(1),
            "advantage_std": advantage.std(1, correction=0),
            "weight_mean": weight.mean(1),
            "clip_fraction": clipped,
        }


class AWR(AdvantageLearner):
    Config = AdvantageConfig
    name: ClassVar[str] = "awr"
    needs: ClassVar[frozenset[str]] = frozenset({"reward"})

    def update(self, batch: Batch) -> Metrics:
        hp, cfg, b = self.hp, self.cfg, batch.background
        assert b.action is not None
        assert b.reward is not None
        obs, next_obs = self.encoder(b.obs), self.encoder(b.next_obs)

        # Value: squared one-step error towards the target copy.
        v = self.value(obs)  # [P, B]
        with torch.no_grad():
            next_v = self.value_target(next_obs)
            y = losses.td_target(b.reward, next_v, b.terminal, hp.gamma, absorbing=cfg.absorbing)
        value_loss = (y - v).square().mean(1)  # [P]

        # Policy: log-likelihood weighted by exp(advantage / temperature).
        weight, weight_metrics = self.weigh(b.reward, next_obs, next_v, b.terminal, v)
        policy_loss = (weight * self.policy.nll(obs, b.action)).mean(1)

        self.minimise(value_loss + policy_loss, self.value, self.policy)
        self.track(self.value_target, self.value, every=cfg.target_period)
        return {
            "value_loss": value_loss,
            "policy_loss": policy_loss,
            "value_mean_background": v.mean(1),
            **weight_metrics,
        }
