"""SMODICE: match the expert's state occupancy, and weight the background's actions by the match.

Source: Ma et al. 2022, arXiv:2202.02433. The defaults are those of the VfO study (arXiv
2507.06701); the preset `orig` is the authors' code.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastifo.algos.config import require, require_choice
from fastifo.algos.discriminator import DiscriminatorConfig, with_rewards
from fastifo.algos.learner import Learner, Metrics, StageTrainer
from fastifo.algos.native import NativeLoss
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.sampler import Batch
from fastifo.nn.heads import GaussianPolicy
from fastifo.utils.parallel import one_thread


@dataclass(frozen=True)
class SMODICEConfig(DiscriminatorConfig):
    gamma: float = 0.99  # discount
    divergence: str = "kl"  # kl | chi2; the authors take chi2 on Kitchen
    absorbing: bool = False  # a terminal is worth reward / (1 - gamma); False: its reward alone
    absorbing_indicator: bool = False  # a terminal leads to a state of its own, as the authors do
    normalizes: bool = True  # weights are divided by their batch mean
    max_weight: float = 100.0  # cap on the policy weight; inf is the authors' code
    logit_clamp: float = 10.0  # of the reward; inf is the authors' code, which has the penalty
    value_weight_decay: float = 0.0  # of the value alone, beside weight_decay
    entropy_constraint: bool = False  # a Gaussian policy keeps an entropy of -action_dim
    disc_hidden_sizes: tuple[int, ...] = ()  # of the discriminator; () as the other nets
    disc_activation: str = ""  # of the discriminator; empty as the other nets
    gradient_penalty: int = 0  # of the discriminator's slope between the sources

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "gamma", 0.0 <= self.gamma < 1.0, "in [0, 1)")
        require_choice(self, "divergence", ("kl", "chi2"))
        require(self, "max_weight", self.max_weight > 0, "above 0")
        require(self, "logit_clamp", self.logit_clamp > 0, "above 0")
        require(self, "value_weight_decay", self.value_weight_decay >= 0, "at least 0")
        require(self, "gradient_penalty", self.gradient_penalty >= 0, "at least 0")
        require(
            self, "entropy_constraint",
            not self.entropy_constraint or self.policy_head == "gaussian",
            "policy_head='gaussian' with it",
        )  # fmt: skip


class SMODICE(Learner):
    Config = SMODICEConfig
    name: ClassVar[str] = "smodice"
    native_loss = NativeLoss("smodice", next_from=1, flags={"chi2": ("divergence", "chi2")})
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        noise = {"noise"} if config.entropy_constraint else set()
        return frozenset({"reward", "initial"}) | noise

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """The discriminator's logit becomes the background's reward."""
        if configs[0].absorbing_indicator:
            dataset = with_absorbing_states(dataset, standardizes=configs[0].standardize_obs)
        return with_rewards(
            dataset, configs, trainer, lambda logit: logit, next_obs=False, background_only=True
        )

    def build(self) -> None:
        self.policy = self.make_policy()
        self.value = self.scalar_net("value")
        self.param_group(self.value, decays=("weight_decay", "value_weight_decay"))
        if self.cfg.entropy_constraint:
            zero = torch.zeros(len(self.seeds), 1, dtype=self.dtype)
            self.log_price = torch.nn.ParameterList([torch.nn.Parameter(zero)])  # of entropy
            self.param_group(self.log_price, decays=())

    def update(self, batch: Batch) -> Metrics:
        hp, cfg, b = self.hp, self.cfg, batch.background
        assert b.action is not None
        assert b.reward is not None
        assert batch.initial is not None
        size = b.terminal.shape[1]

        # Value: the dual of matching occupancies; its gradient passes through every value.
        v = self.value(torch.cat([b.obs, b.next_obs, batch.initial], 1))  # [P, 3B]
        now, after, initial = (part.contiguous() for part in v.detach().split(size, 1))
        reward = torch.maximum(torch.minimum(b.reward, hp.logit_clamp), -hp.logit_clamp)
        value_loss, *gradients, weight, statistics = self.ops.smodice(
            now, after, initial, reward, b.terminal, hp.gamma, hp.max_weight, cfg.divergence,
            cfg.absorbing, cfg.normalizes,
        )  # fmt: skip

        # Policy: log-likelihood of the background's actions, weighted by the occupancy ratio.
        outputs = self.policy.outputs(b.obs)
        policy_loss, policy_gradient = self.policy.loss(outputs, b.action, weight)
        if cfg.entropy_constraint:
            policy_gradient = policy_gradient + self._entropy_gradient(outputs, batch)

        self.apply_gradients(
            [(v, torch.cat(gradients, 1)), (outputs, policy_gradient)], self.value, self.policy
        )
        names = ("residual_mean", "residual_std", "weight_mean", "clip_fraction")
        return {
            "value_loss": value_loss,
            "policy_loss": policy_loss,
            "value_mean_background": now.mean(1),
            **dict(zip(names, statistics.unbind(1), strict=True)),
        }

    def _entropy_gradient(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Of price * E[log pi] in the policy's outputs; then the price moves to its target.

        Source: Haarnoja et al. 2018, arXiv:1812.05905, as SMODICE's authors have it.
        """
        policy = self.policy
        assert isinstance(policy, GaussianPolicy)
        assert batch.noise is not None
        raw = outputs.detach().requires_grad_()
        log_prob = policy.log_prob(raw, policy.draw(raw, *batch.noise.chunk(2, -1)))
        (log_price,) = self.log_price
        price = log_price.detach().exp()
        (gradient,) = torch.autograd.grad((price * log_prob).mean(1).sum(), raw)
        lack = log_prob.detach() - self.spec.action_dim  # target entropy: -action_dim
        self.minimise(-log_price.squeeze(1) * lack.mean(1), self.log_price)
        return gradient


def with_absorbing_states(dataset: Dataset, *, standardizes: bool) -> Dataset:
    """Observations with one number more: 0, or 1 in the state that follows a terminal.

    A terminal leads there and goes on; one more transition stays there and is terminal. The other
    numbers of that state are what standardised observations have as 0.
    """
    with one_thread():
        mean = dataset.background.obs.mean(0) if standardizes else torch.zeros(dataset.obs_dim)
    over = torch.cat([mean, torch.ones(1)])

    def extended(episodes: Episodes) -> Episodes:
        parts = []
        for place in range(episodes.num_episodes):
            one = episodes.take([place])
            obs = torch.nn.functional.pad(one.obs, (0, 1))
            if not bool(one.terminal[-1]):
                parts.append(dataclasses.replace(one, obs=obs))
                continue

            def grown(column: Tensor | None, last: Any) -> Tensor | None:
                if column is None:
                    return None
                return torch.cat([column, column[-1:] * 0 if last is None else last])

            ends = torch.tensor([True])
            parts.append(
                Episodes(
                    obs=torch.cat([obs[:-1], over.expand(2, -1)]),
                    start=torch.tensor([0, one.num_transitions + 1]),
                    terminal=torch.cat([one.terminal & False, ends]),
                    timeout=torch.cat([one.timeout, ~ends]),
                    action=grown(one.action, None),
                    reward=grown(one.reward, None),
                )
            )
        ranges = episodes.ranges
        if ranges is not None:  # every terminal has added a transition to those behind it
            added = torch.nn.functional.pad(episodes.terminal.cumsum(0), (1, 0))
            first, last = ranges[:, 0], ranges.sum(1)
            begin = first + added[first]
            ranges = torch.stack([begin, last + added[last] - begin], 1)
        return dataclasses.replace(Episodes.joined(parts), ranges=ranges)

    assert dataset.expert is not None
    return dataclasses.replace(
        dataset, background=extended(dataset.background), expert=extended(dataset.expert)
    )
