"""IQL, implicit Q-learning: offline RL that never evaluates an action outside the data.

Source: Kostrikov et al. 2021, arXiv:2110.06169. The defaults, and what the paper leaves open,
follow CORL's reimplementation; the preset `jax` is the authors' JAX code on MuJoCo:

| | default, CORL | preset `jax` | field |
| --- | --- | --- | --- |
| observations | standardised, 1e-3 added to deviations | raw | `standardize_obs` |
| rewards | unscaled, but for two sets of Hopper | returns in a range of 1000 | `reward_scaling` |
| initial weights | torch's default | orthogonal, gain sqrt(2) | `init` |
| limits of the policy's log deviation | -20 to 2 | -5 to 2 | `narrow_log_std` |
| V in the critics' target and the policy's weight | before its step | after | `value_first` |
| critic loss | the mean of both critics' errors | their sum | `sums_critic_errors` |

Differs from CORL: `policy_dropout` (preset `adroit`) applies to every policy head; CORL's normal
policy ignores the dropout of its configs, the authors' code applies it. Differs from the authors'
code: it clips the data's actions to 1 - 1e-5 first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastifo.algos.config import require
from fastifo.algos.learner import Learner, Metrics, StageTrainer
from fastifo.algos.native import NativeLoss
from fastifo.algos.relabel import RewardScalingConfig, check_reward_scaling, scale_rewards
from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Batch
from fastifo.nn.heads import NORMAL_LOG_STD_LIMITS

STATISTICS = ("advantage_mean", "advantage_std", "weight_mean", "clip_fraction")  # of the op


@dataclass(frozen=True)
class IQLConfig(RewardScalingConfig):
    """Fields of `iql`; the defaults are those for MuJoCo locomotion."""

    hidden_sizes: tuple[int, ...] = (256, 256)  # hidden widths of every net; () is linear
    encoder_scales: tuple[float, ...] = ()  # inputs tanh(scale * obs); () is obs, as the authors do
    standardize_obs: bool = True  # standardise observations by the background's statistics
    policy_head: str = "normal"  # binned | deterministic | gaussian (squashed) | normal (IQL's)
    gamma: float = 0.99  # discount
    expectile: float = 0.7  # tau in Eq. 5; 0.5 is the mean, 1.0 the maximum over data actions
    inverse_temperature: float = 3.0  # beta in Eq. 7; 0 is behaviour cloning
    max_weight: float = 100.0  # cap on the policy weight; not in the paper
    polyak: float = 0.005  # rate at which the target critics track the critics in every update
    absorbing: bool = False  # critic target at a terminal: reward / (1 - gamma); False: the reward
    narrow_log_std: bool = False  # limit a normal policy's log deviation to -5 to 2, not -20 to 2
    value_first: bool = False  # critic target and policy weight use the value after its step
    sums_critic_errors: bool = False  # critic loss: the sum of both critics' errors, not the mean
    policy_dropout: float = 0.0  # dropout rate of the policy's hidden layers; 0.1 on Adroit
    policy_decay_updates: int = 1_000_000  # cosine decay of the policy's rate to 0; 0: constant

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
    """Expectile regression of a value, twin critics, and advantage-weighted cloning."""

    Config: ClassVar[type[IQLConfig]] = IQLConfig
    name: ClassVar[str] = "iql"
    native_loss = NativeLoss(
        "iql",
        heads=("binned", "deterministic", "normal"),
        precisions=("fp32", "fp64"),
        unsupported=("policy_dropout",),
    )
    needs: ClassVar[frozenset[str]] = frozenset({"reward"})
    deviation_epsilon: ClassVar[float] = 1e-3  # CORL's

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        """Rewards; with `policy_dropout` also noise for the dropout masks."""
        return frozenset({"reward"} | ({"noise"} if config.policy_dropout else set()))

    @property
    def noise_width(self) -> int:
        """One random number per hidden unit of the policy, for dropout."""
        return sum(self.cfg.hidden_sizes)

    @classmethod
    def check_data(
        cls, dataset: Dataset, config: Any, device: torch.device, *, relabel_only: bool = False
    ) -> None:
        """Reward scaling requires two background episodes."""
        super().check_data(dataset, config, device, relabel_only=relabel_only)
        if not relabel_only:
            check_reward_scaling(dataset, config)

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """Scales the rewards."""
        return scale_rewards(dataset, configs, trainer)

    def build(self) -> None:
        """Builds the policy, the value, and two critics with target copies."""
        limits = (-5.0, 2.0) if self.cfg.narrow_log_std else NORMAL_LOG_STD_LIMITS
        self.policy = self.make_policy(sums_error=True, log_std_limits=limits)
        self.param_group(self.policy, cosine_updates=self.cfg.policy_decay_updates)
        self.value = self.scalar_net("value")
        self.critic, self.twin = self.critic_net("critic"), self.critic_net("twin")
        self.critic_target = self.target_copy(self.critic, every=1)
        self.twin_target = self.target_copy(self.twin, every=1)

    def update(self, batch: Batch) -> Metrics:
        """Steps value, critics and policy; returns losses, values and policy weights."""
        hp, b = self.hp, batch.background
        assert b.action is not None
        assert b.reward is not None
        pair = torch.cat([b.obs, b.action], -1)
        with torch.no_grad():
            q = torch.minimum(self.critic_target(pair), self.twin_target(pair))  # [P, B]

        # Value: L_V = E[|tau - 1(u < 0)| u^2], u = min_i Qbar_i(s, a) - V(s) (Eq. 5).
        # Policy weight: w = min(exp(beta u), max_weight), constant (Eq. 7).
        v = self.value(b.obs)  # [P, B]
        value_loss, value_gradient, weight, statistics = self.value_terms(v, q)
        nets, pairs = [self.value], [(v, value_gradient)]  # of the joint step
        if self.cfg.value_first:  # as the authors do: w and y with V after its step
            self.apply_gradients(pairs, *nets)
            nets, pairs = [], []
            with torch.no_grad():
                _, _, weight, statistics = self.value_terms(self.value(b.obs), q)

        # Critics: L_Q = mean_i E[(y - Q_i(s, a))^2], y = r + gamma V(s'), at a terminal r (Eq. 6).
        with torch.no_grad():
            next_v = self.value(b.next_obs)
        critic_loss, share = torch.zeros_like(value_loss), 0.5 + 0.5 * self.cfg.sums_critic_errors
        for critic in (self.critic, self.twin):
            q_i = critic(pair)
            loss, gradient = self.critic_terms(q_i, next_v, batch)
            critic_loss = critic_loss + share * loss
            pairs.append((q_i, share * gradient))

        # Policy: L_pi = -E[w log pi(a | s)] (Eq. 7).
        outputs = self.policy.outputs(b.obs, dropout_mask(batch.noise, hp.policy_dropout))
        policy_loss, policy_gradient = self.policy.loss(outputs, b.action, weight)
        pairs.append((outputs, policy_gradient))

        # One joint step; the target critics then track: Qbar += polyak (Q - Qbar).
        self.apply_gradients(pairs, *nets, self.critic, self.twin, self.policy)
        return {
            "value_loss": value_loss,
            "critic_loss": critic_loss,
            "policy_loss": policy_loss,
            "value_mean_background": v.detach().mean(1),
            "critic_mean": q.mean(1),
            **dict(zip(STATISTICS, statistics.unbind(1), strict=True)),
        }

    def value_terms(self, v: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """L_V [P], its gradient in V(s) [P, B], w [P, B], and statistics of u and w.

        v: V(s).  q: min_i Qbar_i(s, a), [P, B] each.  With gamma = 0 the op's target is its reward,
        here q.
        """
        hp, zeros, one = self.hp, torch.zeros_like(q), torch.ones_like(self.hp.gamma)
        loss, gradient, weight, statistics = self.ops.advantage(
            v=v.detach(), next_v=zeros, policy_next_v=None, reward=q, terminal=zeros, share=one,
            gamma=0.0 * one, temperature=1.0 / hp.inverse_temperature, max_weight=hp.max_weight,
            expectile=hp.expectile, absorbing=False, policy_absorbing=False, policy_rows=v.shape[1],
        )  # fmt: skip
        return loss, gradient, weight, statistics

    def critic_terms(self, q: Tensor, next_v: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """E[(y - Q(s, a))^2] [P] and its gradient in Q(s, a) [P, B].  q, next_v: [P, B]."""
        hp, b, one = self.hp, batch.background, torch.ones_like(self.hp.gamma)
        loss, gradient, _, _ = self.ops.advantage(
            v=q.detach(), next_v=next_v, policy_next_v=None, reward=b.reward, terminal=b.terminal,
            share=one, gamma=hp.gamma, temperature=one, max_weight=hp.max_weight, expectile=None,
            absorbing=self.cfg.absorbing, policy_absorbing=False, policy_rows=0,
        )  # fmt: skip
        return loss, gradient


def dropout_mask(noise: Tensor | None, rate: Tensor) -> Tensor | None:
    """Factors of hidden units: 0 with probability `rate`, else 1 / (1 - rate); None without noise.

    noise: [P, B, width], uniform in [0, 1).  rate: [P, 1].  Returns [P, B, width].
    """
    if noise is None:
        return None
    rate = rate.unsqueeze(-1)
    return (noise >= rate).to(noise.dtype) / (1.0 - rate)
