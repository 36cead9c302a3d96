"""VfO, Value from Observations: learns a value function from expert and background observations
and uses its advantage to weight behaviour cloning of the background's actions.

Source: arXiv 2507.06701. `vfo_bin`: the reward is 1 on expert transitions and 0 on background
transitions. `vfo_disc`: the reward is a frozen discriminator's probability d(s') that the next
state s' comes from the expert.

Notation in the comments: D_E, D_B are expert and background data; v, vbar the value network and
its target copy; y the TD target, A the advantage, w the policy weight; alpha, lambda
(`temperature`) and gamma as in the paper. Shapes: P members, trained together; B rows per source;
G sources; R = G B rows in total. `update` has 53 lines so that the paper's algorithm can be read in
one place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastifo.algos.config import Config, require, require_choice
from fastifo.algos.discriminator import DiscriminatorConfig, relabel_with_discriminator
from fastifo.algos.learner import Learner, Metrics, StageTrainer
from fastifo.algos.native import NativeLoss
from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Batch, Transitions

# Columns of the op's statistics, [P, 4], over the policy's rows and before the bernoulli mask.
STATISTICS = ("advantage_mean", "advantage_std", "weight_mean", "clip_fraction")
NATIVE_FLAGS = {  # flag of the compiled loss: (field, the value that turns it on)
    "online_next_value": ("advantage_bootstrap", "online")
}


@dataclass(frozen=True)
class AdvantageConfig(Config):
    """Hyperparameters of the study's advantage-weighted methods: VfO, AWR, ORIL and SQIL."""

    gamma: float = 0.99  # discount
    temperature: float = 1.0  # lambda: divides the advantage in the policy weight; 0.1 on Robomimic
    max_weight: float = 100.0  # cap on the policy weight; inf disables it, as in the paper
    target_period: int = 200  # updates between hard copies of the value net into its target
    absorbing: bool = True  # value target at a terminal: reward / (1 - gamma); False: the reward
    advantage_bootstrap: str = "target"  # target | online: net that evaluates s' in A
    advantage_absorbing: bool = True  # whether `absorbing` applies to the advantage too

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "gamma", 0.0 <= self.gamma < 1.0, "in [0, 1)")
        require(self, "temperature", self.temperature > 0, "above 0")
        require(self, "max_weight", self.max_weight > 0, "above 0")
        require(self, "target_period", self.target_period >= 1, "at least 1")
        require_choice(self, "advantage_bootstrap", ("target", "online"))


@dataclass(frozen=True)
class VfOConfig(AdvantageConfig):
    """Fields of `vfo_bin`."""

    alpha: float = 0.5  # weight of the background in the value loss; 1 ignores the expert
    batch_mode: str = "halves"  # halves | bernoulli: alpha weights batch means, or draws rows
    policy_batch: str = "shared"  # shared | separate: the value loss's background rows, or new

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "alpha", 0.0 <= self.alpha <= 1.0, "in [0, 1]")
        require_choice(self, "batch_mode", ("halves", "bernoulli"))
        require_choice(self, "policy_batch", ("shared", "separate"))


@dataclass(frozen=True)
class VfODiscConfig(DiscriminatorConfig, VfOConfig):
    """Fields of `vfo_disc`."""

    disc_reward_at: str = "next"  # next | current: state d evaluates; the paper's algorithm: next

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "disc_reward_at", ("next", "current"))


class VfOBin(Learner):
    """VfO with data provenance, expert or background, as the reward."""

    Config = VfOConfig
    name: ClassVar[str] = "vfo_bin"
    native_loss = NativeLoss("vfo", flags=NATIVE_FLAGS)
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        """Expert rows; uniform numbers with batch_mode=bernoulli, further background rows for the
        policy with policy_batch=separate.
        """
        mixing = {"uniform"} if config.batch_mode == "bernoulli" else set()
        return cls.needs | mixing | ({"policy"} if config.policy_batch == "separate" else set())

    def build(self) -> None:
        """Builds the policy, and the value with its target copy."""
        self.policy = self.make_policy()
        self.value = self.scalar_net("value")
        self.value_target = self.target_copy(self.value, every=self.cfg.target_period)

    def update(self, batch: Batch) -> Metrics:
        """Steps value and policy; returns losses, mean values, advantages and weights."""
        hp, cfg = self.hp, self.cfg  # numbers of each member, [P, 1]; options that members share
        expert, background = batch.expert, batch.background
        assert expert is not None
        B = background.terminal.shape[1]
        sources = [expert, background] + ([batch.policy] if batch.policy else [])  # B rows each
        actions = sources[-1].action  # the policy loss is over the last B rows, from D_B
        assert actions is not None
        obs = torch.cat([source.obs for source in sources], 1)  # [P, R, width], R = 2B or 3B
        next_obs = torch.cat([source.next_obs for source in sources], 1)
        terminal = torch.cat([source.terminal for source in sources], 1)  # [P, R]

        # Values: v(s), and vbar(s') without gradient. The paper does not say which network
        # evaluates s' in A: vbar by default (policy_next_v = None), or v.
        v = self.value(obs)  # [P, R]
        with torch.no_grad():
            next_v = self.value_target(next_obs)  # [P, R]
            online = cfg.advantage_bootstrap == "online"
            policy_next_v = self.value(next_obs[:, -B:]) if online else None  # [P, B]

        # Value loss: L_v = (1 - alpha) E_{D_E}[(y - v(s))^2] + alpha E_{D_B}[(y - v(s))^2], where
        # y = r + gamma vbar(s'), except at a terminal, where y = r / (1 - gamma) (appendix: an
        # absorbing state), or r without `absorbing`. Policy weight, over the last B rows:
        # w = min(exp(A / lambda), max_weight), A = y - v(s); the cap is not in the paper.
        # The op fuses losses.td_target and losses.advantage_weight; it returns L_v [P],
        # dL_v / dv [P, R] and w [P, B]. expectile=None is the plain square.
        value_loss, value_gradient, weight, statistics = self.ops.advantage(
            v=v.detach(), next_v=next_v, policy_next_v=policy_next_v, reward=self.reward(sources),
            terminal=terminal, share=self.source_share(batch), gamma=hp.gamma, expectile=None,
            temperature=hp.temperature, max_weight=hp.max_weight, absorbing=cfg.absorbing,
            policy_absorbing=cfg.absorbing and cfg.advantage_absorbing, policy_rows=B,
        )  # fmt: skip

        # Policy loss: L_pi = -E_{D_B}[w log pi(a | s)]. With bernoulli batches the mean is over the
        # rows drawn for D_B: policy.loss divides by B, hence the factor B / count.
        if batch.uniform is not None and batch.policy is None:
            drawn = self.drawn_for_background(batch.uniform)
            weight = weight * drawn * (B / drawn.sum(1, True).clamp(min=1.0))
        logits = self.policy.outputs(obs[:, -B:])
        policy_loss, logits_gradient = self.policy.loss(logits, actions, weight)

        # One Adam step of v and pi; every `target_period` updates it also copies v into vbar.
        self.apply_gradients(
            [(v, value_gradient), (logits, logits_gradient)], self.value, self.policy
        )
        return {
            "value_loss": value_loss,
            "policy_loss": policy_loss,
            "value_mean_expert": v.detach()[:, :B].mean(1),
            "value_mean_background": v.detach()[:, B : 2 * B].mean(1),
            **dict(zip(STATISTICS, statistics.unbind(1), strict=True)),
        }

    def reward(self, sources: Sequence[Transitions]) -> Tensor:
        """r = 1 on expert rows and 0 on background rows: one number per source, [P, G]."""
        reward = sources[0].terminal.new_zeros(len(self.seeds), len(sources))
        reward[:, 0] = 1.0
        return reward

    def drawn_for_background(self, uniform: Tensor) -> Tensor:
        """1 where a bernoulli batch draws the row from D_B, else 0.  uniform, result: [P, B]."""
        drawn: Tensor = uniform < self.hp.alpha
        return drawn.to(self.dtype)

    def source_share(self, batch: Batch) -> Tensor:
        """Weights in L_v: of each source's mean, [P, G], or with bernoulli of each row, [P, R].

        The op tells the two apart by their width. Rows for the policy only have weight 0.
        """
        share = [1 - self.hp.alpha, self.hp.alpha]  # [P, 1] each
        if batch.uniform is not None:  # bernoulli: a row is D_B's with probability alpha
            drawn = self.drawn_for_background(batch.uniform)
            share = [(1 - drawn) / drawn.shape[1], drawn / drawn.shape[1]]
        if batch.policy is not None:
            share.append(torch.zeros_like(share[0]))
        return torch.cat(share, 1)


class VfODisc(VfOBin):
    """VfO with a discriminator's output as reward."""

    Config = VfODiscConfig
    name: ClassVar[str] = "vfo_disc"

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        """The parts of `VfOBin`, and rewards."""
        return super().batch_needs(config) | {"reward"}

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """Pre-trains the discriminator; r = d(s') or d(s) becomes the reward of both sources."""
        at_next = configs[0].disc_reward_at == "next"  # an option, equal in every config
        return relabel_with_discriminator(
            dataset, configs, trainer, torch.sigmoid, next_obs=at_next
        )

    def reward(self, sources: Sequence[Transitions]) -> Tensor:
        """The discriminator's probability on each row, [P, R]."""
        rewards = [source.reward for source in sources if source.reward is not None]
        assert len(rewards) == len(sources)
        return torch.cat(rewards, 1)
