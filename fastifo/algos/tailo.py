"""TAILO: cloning of the background, weighted by how expert-like the rest of the episode is.

Source: Yan et al. 2023, arXiv:2311.01329, and the authors' code. A first discriminator, trained on
positive and unlabelled data, finds the background episodes that are safely not the expert's; a
second one learns to tell the expert from these. The weight of a transition is the discounted sum of
the second one's density ratios from there to the end of its episode. The defaults are the authors',
with the nets, encoder, policy head and optimizer settings of the VfO study (arXiv 2507.06701); the
preset `orig` is the authors' code. `orig` differs: batches are drawn with replacement instead of in
epochs, the policy's log deviation is cut at -5 and 2 where the authors map it there by a tanh, and
its mean before the tanh is limited to 7.24.

Notation of the comments: D_E, D_B are expert and background data, c(s) is a discriminator's logit.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastifo.algos.config import require
from fastifo.algos.discriminator import Discriminator, DiscriminatorConfig, stage_configs
from fastifo.algos.learner import Learner, Metrics, StageTrainer
from fastifo.algos.native import NativeLoss
from fastifo.algos.relabel import relabel_each_member
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.sampler import Batch
from fastifo.data.stack import member_ranges
from fastifo.utils.parallel import one_thread

DEVIATION_EPSILON = 1e-4  # added to deviations that standardise observations; authors' code


@dataclass(frozen=True)
class TAILOConfig(DiscriminatorConfig):
    """Fields of `tailo`."""

    gamma: float = 0.998  # discount of the density ratios along an episode; authors' Kitchen 0.98
    ratio_exponent: float = 1.25  # alpha: the ratio is exp(alpha c(s)); 0 weights all alike
    negative_share: float = 0.8  # background episodes below this quantile of score are negatives
    first_disc_updates: int = 10_000  # updates of the first discriminator
    disc_updates: int = 40_000  # updates of the second discriminator
    disc_loss: str = "flat"  # of the second discriminator: flat | pu; the first one's is pu
    pu_prior: float = 0.2  # share of the background that is expert-like, in the loss pu
    gradient_penalty: int = 10  # coefficient of both discriminators' gradient penalty
    policy_weight_decay: float = 0.0  # weight decay of the policy, added to weight_decay
    disc_hidden_sizes: tuple[int, ...] = ()  # discriminators' hidden widths; () uses hidden_sizes
    disc_activation: str = ""  # discriminators' activation; empty uses activation

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "gamma", 0.0 <= self.gamma < 1.0, "in [0, 1)")
        require(self, "ratio_exponent", self.ratio_exponent >= 0, "at least 0")
        require(self, "negative_share", 0.0 < self.negative_share <= 1.0, "in (0, 1]")
        require(self, "first_disc_updates", self.first_disc_updates >= 0, "at least 0")
        require(self, "policy_weight_decay", self.policy_weight_decay >= 0, "at least 0")
        require(self, "gradient_penalty", self.gradient_penalty >= 0, "at least 0")


class FirstDiscriminator(Discriminator):
    """Finds negatives; trained on all of the background."""

    name: ClassVar[str] = "first_discriminator"
    deviation_epsilon: ClassVar[float] = DEVIATION_EPSILON


class SecondDiscriminator(Discriminator):
    """Gives the density ratios; trained on the negatives."""

    name: ClassVar[str] = "second_discriminator"
    deviation_epsilon: ClassVar[float] = DEVIATION_EPSILON


class TAILO(Learner):
    """Weighted cloning."""

    Config = TAILOConfig
    name: ClassVar[str] = "tailo"
    native_loss = NativeLoss("tailo")
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})
    deviation_epsilon: ClassVar[float] = DEVIATION_EPSILON

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        """Rewards: the column that holds the weights."""
        return frozenset({"reward"})

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """Trains both discriminators; the weights become the background's reward, [P, N]."""
        first = trainer.train(
            FirstDiscriminator,
            stage_configs(configs, disc_loss="pu"),
            configs[0].first_disc_updates,
            dataset,
        )
        assert isinstance(first, Discriminator)
        negatives = negative_episodes(first, dataset.background, configs)
        second = trainer.train(
            SecondDiscriminator,
            stage_configs(configs),
            configs[0].disc_updates,
            dataclasses.replace(dataset, background=negatives),
        )
        assert isinstance(second, Discriminator)

        def compute_weights(member: int, data: Dataset) -> Tensor:
            background, config = data.background, configs[member]
            logits = second.logits(member, background, background.rows())
            return episode_weights(logits, background.start, config, second.ops.returns)

        return relabel_each_member(dataset, len(configs), compute_weights)

    def build(self) -> None:
        """Builds the policy."""
        self.policy = self.make_policy()
        self.param_group(self.policy, decays=("weight_decay", "policy_weight_decay"))

    def update(self, batch: Batch) -> Metrics:
        """Steps the policy; returns its loss and the mean weight."""
        b = batch.background
        assert b.action is not None
        assert b.reward is not None

        # Policy: L_pi = -E_{D_B}[w log pi(a | s)], with w in the column of the rewards.
        outputs = self.policy.outputs(b.obs)
        policy_loss, gradient = self.policy.loss(outputs, b.action, b.reward)
        self.apply_gradients([(outputs, gradient)], self.policy)
        return {"policy_loss": policy_loss, "weight_mean": b.reward.mean(1)}


def negative_episodes(
    first: Discriminator, background: Episodes, configs: Sequence[Any]
) -> Episodes:
    """The episodes that each member takes for non-expert ones, one member's after another's.

    An episode's score is its mean logit c(s); those below the quantile `negative_share` count, at
    least the one with the lowest score.
    first: the first discriminator.  configs: one per member.
    """
    chosen, ranges, total = [], [], 0
    rows = background.rows()
    for members, begin, count in member_ranges(background, len(configs)):
        episodes = torch.searchsorted(background.start, torch.tensor([begin, begin + count]))
        lengths = background.lengths[slice(*episodes.tolist())]
        for member in range(members.start, members.stop):
            logits = first.logits(member, background, rows[begin : begin + count])
            with one_thread():
                parts = logits.double().split(lengths.tolist())
                score = torch.stack([part.mean() for part in parts])  # of each episode
            below = torch.nonzero(score < score.quantile(configs[member].negative_share))
            index = below.squeeze(1) if len(below) else score.argmin().unsqueeze(0)
            chosen.append(index + episodes[0])
            ranges.append([total, int(lengths[index].sum())])
            total += ranges[-1][1]
    negatives = background.without_rewards().take(torch.cat(chosen).tolist())
    return dataclasses.replace(negatives, ranges=torch.tensor(ranges))


def episode_weights(logits: Tensor, start: Tensor, config: Any, returns: Any) -> Tensor:
    """The weights of the transitions of some episodes, [N] float64, the largest of them 1.

        w_t ~ sum_i gamma^i R(s_{t + i}),  R(s) = exp(alpha c(s))

    The last observation of an episode is taken to repeat forever: its ratio is R / (1 - gamma).
    logits: c(s) of each transition's observation, [N].  start: see `Episodes`.  returns: the op.
    """
    exponent = config.ratio_exponent * logits.double()
    ratio = torch.exp(exponent - exponent.max())  # a common factor cancels below
    ratio[start[1:] - 1] /= 1.0 - config.gamma
    weight: Tensor = returns(ratio, start, config.gamma)
    return weight / weight.max()
