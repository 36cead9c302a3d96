"""LobsDICE: matching of the expert's state transitions; the ratio weights the cloning of the
background.

Source: Kim et al. 2022, arXiv:2202.13536, with the inner problem solved in closed form, as in the
authors' code. It differs from SMODICE in the discriminator, which classifies pairs of successive
observations, and in the divergence from the background that `kl_weight` adds. The defaults are
SMODICE's in the VfO study (arXiv 2507.06701): a discriminator that is trained first, and no
bootstrap at a terminal. The preset `orig` is the authors' code: the discriminator trains along with
value and policy, both have gradient penalties, and terminals bootstrap as other transitions do.
`orig` differs in a few points: the authors' output layers have no biases, their Adam's epsilon is
1e-7, they limit the Gaussian's mean to 7, interpolate between rows of a batch and of a shuffled
batch, here its neighbouring rows, and clone the expert's transitions too, whose actions they have.

Notation of the comments: D_E, D_O are expert and background, rho_0 the first observations of the
background's episodes, c(s, s') the discriminator's logit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastifo import losses
from fastifo.algos.config import require
from fastifo.algos.discriminator import (
    DiscriminatorConfig,
    PairDiscriminator,
    relabel_with_discriminator,
)
from fastifo.algos.learner import Learner, Metrics, StageTrainer
from fastifo.algos.native import NativeLoss
from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Batch, Transitions

EPSILON = 1e-3  # smooths the log ratio of the joint discriminator; authors' code
GRADIENT_EPSILON = 2.0**-23  # added to its gradient, so that the norm has a derivative; authors'


@dataclass(frozen=True)
class LobsDICEConfig(DiscriminatorConfig):
    """Fields of `lobsdice`."""

    gamma: float = 0.99  # discount
    kl_weight: float = 0.1  # alpha: weight of the divergence from the background
    absorbing: bool = False  # residual at a terminal: reward / (1 - gamma); False: the reward
    max_weight: float = 100.0  # cap on the policy weight; inf is no cap, as in the authors' code
    logit_clamp: float = 10.0  # limit of |reward|, without joint; inf is no limit
    joint: bool = False  # train the discriminator along with the value, as the authors do
    bootstraps_terminals: bool = False  # bootstrap after a terminal too, as the authors' code does
    joint_gradient_penalty: float = 0.1  # of the discriminator, with joint
    value_gradient_penalty: float = 1e-4  # of the value, with joint

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "gamma", 0.0 <= self.gamma < 1.0, "in [0, 1)")
        for name in ("kl_weight", "joint_gradient_penalty", "value_gradient_penalty"):
            require(self, name, getattr(self, name) >= 0, "at least 0")
        require(self, "max_weight", self.max_weight > 0, "above 0")
        require(self, "logit_clamp", self.logit_clamp > 0, "above 0")
        require(
            self, "bootstraps_terminals", not (self.bootstraps_terminals and self.absorbing),
            "False with absorbing",
        )  # fmt: skip


class LobsDICE(Learner):
    """Matching of state transitions through a dual value, and weighted cloning."""

    Config = LobsDICEConfig
    name: ClassVar[str] = "lobsdice"
    native_loss = NativeLoss("lobsdice", next_from=1, unsupported=("joint", "bootstraps_terminals"))
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})
    deviation_epsilon: ClassVar[float] = 1e-3  # authors' code

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        """First observations of episodes and rewards; with `joint` expert rows and noise."""
        return frozenset({"initial"} | ({"expert", "noise"} if config.joint else {"reward"}))

    @property
    def noise_width(self) -> int:
        """Two numbers per row interpolate the inputs of the gradient penalties."""
        return 2

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """Pre-trains the discriminator; R(s, s') = c(s, s') becomes the background's reward."""
        if configs[0].joint:
            return dataset
        return relabel_with_discriminator(
            dataset, configs, trainer, lambda logit: logit, next_obs=False, background_only=True,
            kind=PairDiscriminator,
        )  # fmt: skip

    def build(self) -> None:
        """Builds the policy and the value; with `joint` the discriminator too."""
        self.policy = self.make_policy()
        self.value = self.scalar_net("value")
        if self.cfg.joint:
            self.logit = self.scalar_net("discriminator", inputs=2)  # c(s, s')
            self.param_group(self.logit, "disc_learning_rate")

    def update(self, batch: Batch) -> Metrics:
        """Steps all nets; returns losses, mean value, residual and policy weights."""
        hp, cfg, b = self.hp, self.cfg, batch.background
        assert b.action is not None
        assert batch.initial is not None
        reward = self.reward(b)  # [P, B]

        # Value, with delta = R(s, s') + gamma V(s') - V(s), at a terminal R - V(s), and alpha =
        # `kl_weight`:
        #   L_V = (1 - gamma) E_{rho_0}[V(s_0)] + (1 + alpha) log E_{D_O}[exp(delta / (1 + alpha))]
        # The gradient flows through every V: there is no target net.
        # Policy weight, constant: exp(delta / (1 + alpha)) over its batch mean, up to max_weight.
        B = b.terminal.shape[1]
        v = self.value(torch.cat([b.obs, b.next_obs, batch.initial], 1))  # [P, 3B]
        now, after, initial = (part.contiguous() for part in v.detach().split(B, 1))
        terminal = torch.zeros_like(b.terminal) if cfg.bootstraps_terminals else b.terminal
        value_loss, *value_gradients, weight, statistics = self.ops.smodice(
            v=now, next_v=after, initial_v=initial, reward=reward, terminal=terminal,
            gamma=hp.gamma, temperature=1.0 + hp.kl_weight, max_weight=hp.max_weight,
            divergence="kl", absorbing=cfg.absorbing, normalizes=True,
        )  # fmt: skip

        # Policy: L_pi = -E_{D_O}[w log pi(a | s)].
        outputs = self.policy.outputs(b.obs)
        policy_loss, policy_gradient = self.policy.loss(outputs, b.action, weight)

        pairs = [(v, torch.cat(value_gradients, 1)), (outputs, policy_gradient)]
        names = ("residual_mean", "residual_std", "weight_mean", "clip_fraction")
        metrics = {
            "value_loss": value_loss,
            "policy_loss": policy_loss,
            "value_mean_background": now.mean(1),
            **dict(zip(names, statistics.unbind(1), strict=True)),
        }
        if not cfg.joint:
            self.apply_gradients(pairs, self.value, self.policy)
            return metrics
        loss, more = self.discriminator_loss(batch)
        penalty = self.value_penalty(batch)  # [P]
        pairs += [(penalty, hp.value_gradient_penalty.squeeze(1)), (loss, torch.ones_like(loss))]
        self.apply_gradients(pairs, self.value, self.policy, self.logit)
        return metrics | more | {"value_penalty": penalty.detach()}

    def reward(self, rows: Transitions) -> Tensor:
        """R(s, s'), constant, [P, B]: the clamped logit, or the joint discriminator's log ratio."""
        if self.cfg.joint:
            with torch.no_grad():
                return log_ratio(self.logit(pair_of(rows)))
        assert rows.reward is not None
        clamp: Tensor = self.hp.logit_clamp
        return torch.maximum(torch.minimum(rows.reward, clamp), -clamp)

    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """L_d [P] of the joint discriminator, and metrics.

            L_d = E_{D_E}[-log d(x)] + E_{D_O}[-log(1 - d(x))] + k E[(|grad R(x)| - 1)^2]

        x = (s, s'). The penalty is on x = u x_E + (1 - u) x_O and u x'_O + (1 - u) x_O, u uniform.
        Source of the penalty: Gulrajani et al. 2017, arXiv:1704.00028, as in the authors' code.
        """
        assert batch.expert is not None
        assert batch.noise is not None
        expert, background = pair_of(batch.expert), pair_of(batch.background)
        expert_logit, background_logit = self.logit(expert), self.logit(background)
        loss = losses.discriminator_loss(expert_logit, background_logit)

        u = batch.noise[..., :1]  # [P, B, 1]
        others = torch.cat([expert, background.roll(1, 1)], 1)  # rows are independent draws
        x = torch.cat([u, u], 1) * others + (1.0 - torch.cat([u, u], 1)) * background.repeat(
            1, 2, 1
        )
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(log_ratio(self.logit(x)).sum(), x, create_graph=True)
        norm = (gradient - GRADIENT_EPSILON).square().sum(-1).sqrt()
        loss = loss + self.hp.joint_gradient_penalty.squeeze(1) * (norm - 1.0).square().mean(1)
        return loss, {
            "discriminator_loss": loss.detach(),
            "prob_expert": expert_logit.detach().sigmoid().mean(1),
            "prob_background": background_logit.detach().sigmoid().mean(1),
        }

    def value_penalty(self, batch: Batch) -> Tensor:
        """E[|grad V(x)|^2], [P], over x = s_O and u s_E + (1 - u) s_O, at the next states too."""
        assert batch.expert is not None
        assert batch.noise is not None
        u, expert, background = batch.noise[..., 1:], batch.expert, batch.background
        x = torch.cat(
            [
                background.obs,
                u * expert.obs + (1.0 - u) * background.obs,
                u * expert.next_obs + (1.0 - u) * background.next_obs,
            ],
            1,
        ).requires_grad_()
        (gradient,) = torch.autograd.grad(self.value(x).sum(), x, create_graph=True)
        return gradient.square().sum(-1).mean(1)


def pair_of(rows: Transitions) -> Tensor:
    """(s, s'), [P, B, 2 width]."""
    return torch.cat([rows.obs, rows.next_obs], -1)


def log_ratio(logit: Tensor) -> Tensor:
    """-log(1 / (d + epsilon) - 1 + epsilon) with d = sigmoid(logit): the logit, between -7 and 14.

    It is written as log(d + epsilon) - log((1 - epsilon) (1 - d) + epsilon^2), in which nothing
    cancels.  Source: the authors' code.
    """
    rest = (1.0 - EPSILON) * (-logit).sigmoid() + EPSILON**2
    return (logit.sigmoid() + EPSILON).log() - rest.log()
