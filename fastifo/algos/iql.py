"""Implicit Q-learning: offline RL that never judges an action outside the data.

Source: Kostrikov et al. 2021, arXiv:2110.06169; what the paper leaves open as in the authors' code.
Differs: a deterministic policy's squared error is the mean over action dimensions, in CORL's code
the sum, which Adam's steps do not tell apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastifo.algos.config import require
from fastifo.algos.learner import Learner, Metrics, StageTrainer
from fastifo.algos.native import NativeLoss
from fastifo.algos.relabel import ScaledConfig, check_reward_scaling, scale_rewards
from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Batch


@dataclass(frozen=True)
class IQLConfig(ScaledConfig):
    hidden_sizes: tuple[int, ...] = (256, 256)  # of every net; () is linear
    encoder_scales: tuple[float, ...] = ()  # tanh(scale * obs); none is the authors' code
    standardize_obs: bool = True  # background mean and deviation before the nets
    policy_head: str = "normal"  # binned | deterministic | gaussian (squashed) | normal (IQL's)
    gamma: float = 0.99  # discount
    expectile: float = 0.7  # tau in Eq. 5; 0.5 is the mean, 1.0 the maximum over data actions
    inverse_temperature: float = 3.0  # beta in Eq. 7; 0 is cloning
    max_weight: float = 100.0  # cap on the policy weight; authors' code, not in the paper
    polyak: float = 0.005  # share by which the target critics follow in each update
    absorbing: bool = False  # a terminal is worth reward / (1 - gamma); False: its reward alone
    policy_dropout: float = 0.0  # share of hidden numbers left out in training; 0.1 on Adroit
    policy_decay_updates: int = 1_000_000  # the policy's rate is 0 by then (theirs); 0 keeps it

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "gamma", 0.0 <= self.gamma < 1.0, "in [0, 1)")
        require(self, "expectile", 0.0 < self.expectile < 1.0, "between 0 and 1")
        require(self, "inverse_temperature", self.inverse_temperature >= 0, "at least 0")
        require(self, "max_weight", self.max_weight > 0, "above 0")
        require(self, "polyak", 0.0 < self.polyak <= 1.0, "in (0, 1]")
        require(self, "policy_dropout", 0.0 <= self.policy_dropout < 1.0, "in [0, 1)")
        require(self, "policy_decay_updates", self.policy_decay_updates >= 0, "at least 0")


class IQL(Learner):
    Config: ClassVar[type[IQLConfig]] = IQLConfig
    name: ClassVar[str] = "iql"
    native_loss = NativeLoss(
        "iql",
        heads=("binned", "normal"),
        precisions=("fp32", "fp64"),
        unsupported=("policy_dropout",),
    )
    needs: ClassVar[frozenset[str]] = frozenset({"reward"})
    deviation_epsilon: ClassVar[float] = 1e-3  # CORL's

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        return frozenset({"reward"} | ({"noise"} if config.policy_dropout else set()))

    @property
    def noise_width(self) -> int:
        return sum(self.cfg.hidden_sizes)

    @classmethod
    def check_training(cls, dataset: Dataset, config: Any) -> None:
        check_reward_scaling(dataset, config)

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        return scale_rewards(dataset, configs, trainer)

    def build(self) -> None:
        self.policy = self.make_policy()
        self.param_group(self.policy, cosine_updates=self.cfg.policy_decay_updates)
        self.value = self.scalar_net("value")
        self.critic, self.twin = self.critic_net("critic"), self.critic_net("twin")
        self.critic_target = self.target_of(self.critic, every=1)
        self.twin_target = self.target_of(self.twin, every=1)

    def update(self, batch: Batch) -> Metrics:
        hp, b = self.hp, batch.background
        assert b.action is not None
        assert b.reward is not None
        pair = torch.cat([b.obs, b.action], -1)
        with torch.no_grad():
            q = torch.minimum(self.critic_target(pair), self.twin_target(pair))  # [P, B]
            next_v = self.value(b.next_obs)

        # Value: expectile regression towards the smaller target critic (Eq. 5), and the policy's
        # weights exp(beta (q - v)) (Eq. 7).
        v = self.value(b.obs)
        nothing, one = torch.zeros_like(q), torch.ones_like(hp.gamma)
        value_loss, value_gradient, weight, statistics = self.ops.advantage(
            v.detach(), nothing, None, q, nothing, one, 0.0 * hp.gamma,
            1.0 / hp.inverse_temperature, hp.max_weight, hp.expectile, False, False, v.shape[1],
        )  # fmt: skip

        # Critics: squared one-step error towards the value of the next observation (Eq. 6).
        pairs = [(v, value_gradient)]
        critic_loss = torch.zeros_like(value_loss)
        for critic in (self.critic, self.twin):
            found = critic(pair)
            loss, gradient, _, _ = self.ops.advantage(
                found.detach(), next_v, None, b.reward, b.terminal, one, hp.gamma, one,
                hp.max_weight, None, self.cfg.absorbing, False, 0,
            )  # fmt: skip
            critic_loss = critic_loss + 0.5 * loss  # the mean over the two
            pairs.append((found, 0.5 * gradient))

        # Policy: log-likelihood weighted by exp(beta * advantage).
        outputs = self.policy.outputs(b.obs, dropout(batch.noise, hp.policy_dropout))
        policy_loss, policy_gradient = self.policy.loss(outputs, b.action, weight)
        pairs.append((outputs, policy_gradient))

        self.apply_gradients(pairs, self.value, self.critic, self.twin, self.policy)
        names = ("advantage_mean", "advantage_std", "weight_mean", "clip_fraction")
        return {
            "value_loss": value_loss,
            "critic_loss": critic_loss,
            "policy_loss": policy_loss,
            "value_mean_background": v.detach().mean(1),
            "critic_mean": q.mean(1),
            **dict(zip(names, statistics.unbind(1), strict=True)),
        }


def dropout(noise: Tensor | None, share: Tensor) -> Tensor | None:
    """What hidden numbers are multiplied by: 0 for a share of them, the rest grows in turn.

    noise: [P, B, width] in [0, 1), or None.  share: [P, 1].
    """
    if noise is None:
        return None
    left_out = share.unsqueeze(-1)
    return (noise >= left_out).to(noise.dtype) / (1.0 - left_out)
