"""A classifier of expert against background observations: the pre-training stage of VfO-disc,
ORIL, SMODICE, PW-DICE and TAILO, and of LobsDICE, where it reads pairs of successive observations.

Source: Zolna et al. 2020, arXiv:2011.13885 (ORIL); flat loss as in arXiv 2507.06701; gradient
penalty of Gulrajani et al. 2017, arXiv:1704.00028, as in the SMODICE authors' code.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastifo import losses
from fastifo.algos.config import Config, require, require_choice
from fastifo.algos.learner import Learner, Metrics, StageTrainer
from fastifo.algos.native import NativeLoss
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.sampler import Batch, Transitions
from fastifo.data.stack import member_ranges
from fastifo.utils.parallel import in_blocks, one_thread


@dataclass(frozen=True)
class DiscriminatorConfig(Config):
    """Fields of every method whose rewards come from a discriminator."""

    disc_updates: int = 10_000  # updates of the discriminator, before the method's own
    disc_batch_size: int = 256  # observations of each source in one discriminator update
    disc_learning_rate: float = 3e-4  # learning rate of Adam, discriminator
    disc_loss: str = "flat"  # flat | pu: cross-entropy, or its positive-unlabelled version
    pu_prior: float = 0.5  # share of the background that is expert-like, with disc_loss=pu

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "disc_updates", self.disc_updates >= 0, "at least 0")
        require(self, "disc_batch_size", self.disc_batch_size >= 1, "at least 1")
        require(self, "disc_learning_rate", self.disc_learning_rate > 0, "above 0")
        require_choice(self, "disc_loss", ("flat", "pu"))
        require(self, "pu_prior", 0.0 < self.pu_prior < 1.0, "between 0 and 1")


class Discriminator(Learner):
    """A state-only discriminator d(s) = sigmoid(c(s)); a helper stage without a policy."""

    Config = DiscriminatorConfig
    name: ClassVar[str] = "discriminator"
    native_loss = NativeLoss(
        "discriminator",
        unsupported=("disc_frozen_layer",),
        flags={"positive_unlabelled": ("disc_loss", "pu")},
    )
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})
    inputs_per_row: ClassVar[int] = 1  # observations that the net reads

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        """Expert rows; for the gradient penalty one uniform number per row."""
        return cls.needs | ({"uniform"} if getattr(config, "gradient_penalty", 0) else set())

    def build(self) -> None:
        """Builds the net of the logit c(s)."""
        self.logit = self.scalar_net("discriminator", inputs=self.inputs_per_row)  # c(s)
        self.num_frozen = int(getattr(self.cfg, "disc_frozen_layer", False))  # first layers
        self.logit.layers[: self.num_frozen].requires_grad_(False)

    def update(self, batch: Batch) -> Metrics:
        """Steps the net; returns the loss and the mean probability d on each source."""
        assert batch.expert is not None
        expert_input, background_input = map(self.input_of, (batch.expert, batch.background))
        expert = self.logit(expert_input)  # [P, B]
        background = self.logit(background_input)

        # Classification: L_d = E_{D_E}[-log d(s)] + E_{D_B}[-log(1 - d(s))], or with pu and the
        # prior eta: eta E_E[-log d] + max(0, E_B[-log(1 - d)] - eta E_E[-log(1 - d)]).
        if self.cfg.disc_loss == "pu":
            loss = losses.positive_unlabelled_loss(expert, background, self.hp.pu_prior)
        else:
            loss = losses.discriminator_loss(expert, background)

        # Gradient penalty: k E[(|grad c(x)| - 1)^2] at x = u s_E + (1 - u) s_B, u uniform
        # (Gulrajani et al. 2017, Eq. 3).
        if batch.uniform is not None:
            u = batch.uniform.unsqueeze(-1)
            x = (u * expert_input + (1.0 - u) * background_input).requires_grad_()
            (gradient,) = torch.autograd.grad(self.logit(x).sum(), x, create_graph=True)
            penalty = (torch.linalg.vector_norm(gradient, dim=-1) - 1.0).square().mean(1)
            loss = loss + self.cfg.gradient_penalty * penalty

        front = [] if self.logit.front is None else [self.logit.front]
        self.minimise(loss, *front, *self.logit.layers[self.num_frozen :])
        return {
            "discriminator_loss": loss,
            "prob_expert": expert.detach().sigmoid().mean(1),
            "prob_background": background.detach().sigmoid().mean(1),
        }

    def input_of(self, rows: Transitions) -> Tensor:
        """What the net reads of each transition, [P, B, inputs_per_row * width]."""
        return rows.obs

    def logits(self, member: int, episodes: Episodes, obs_rows: Tensor) -> Tensor:
        """The logit c(s) of some of the observations under one member, [n] in the training dtype.

        obs_rows: their rows in `episodes.obs`, [n] int64; of a pair, that of its first one.
        """
        result = torch.empty(len(obs_rows), dtype=self.dtype)
        single = self.member(member)  # its outputs do not depend on the other members
        assert isinstance(single, Discriminator)

        def compute(rows: slice) -> None:
            first = obs_rows[rows]
            later = range(single.inputs_per_row)
            x = torch.cat([single.inputs_of(episodes, first + steps) for steps in later], -1)
            result[rows] = single.logit(x.unsqueeze(0)).squeeze(0).cpu()

        in_blocks(compute, len(obs_rows), self.block_rows)
        return result


class PairDiscriminator(Discriminator):
    """A discriminator d(s, s') = sigmoid(c(s, s')) of successive observations."""

    native_loss = NativeLoss(
        "discriminator",
        pairs=("scalar",),
        unsupported=("gradient_penalty", "disc_frozen_layer"),
        flags={"positive_unlabelled": ("disc_loss", "pu")},
    )
    inputs_per_row: ClassVar[int] = 2

    def input_of(self, rows: Transitions) -> Tensor:
        """The observation and its successor, concatenated, [P, B, 2 width]."""
        return torch.cat([rows.obs, rows.next_obs], -1)


def stage_configs(configs: Sequence[Any], **fields: Any) -> list[Any]:
    """The configs of a discriminator's stage, one per member.

    configs: of the method; the fields disc_learning_rate, disc_batch_size, disc_hidden_sizes,
    disc_activation and disc_init replace learning_rate and so on where they are set.
    fields: values of further fields, for every member.
    """
    renamed = ("learning_rate", "batch_size", "hidden_sizes", "activation", "init")
    result = []
    for config in configs:
        values = {name: getattr(config, f"disc_{name}", None) for name in renamed}
        given = {name: value for name, value in values.items() if value}
        result.append(dataclasses.replace(config, **given, **fields))
    return result


def relabel_with_discriminator(
    dataset: Dataset,
    configs: Sequence[Any],
    trainer: StageTrainer,
    reward_of: Callable[[Tensor], Tensor],
    *,
    next_obs: bool,
    background_only: bool = False,
    train_on: Dataset | None = None,
    kind: type[Discriminator] = Discriminator,
) -> Dataset:
    """Trains a discriminator and returns the dataset with rewards made from its logits, [P, N].

    configs: of the method, one per member, see `stage_configs`.
    reward_of: maps logits [n] to rewards [n].  next_obs: reward the state that a transition leads
    to, not the one it starts from.  background_only: leave the expert without rewards.
    train_on: what the discriminator trains on; None is `dataset`.  kind: the discriminator's class.
    """
    discriminator = trainer.train(
        kind, stage_configs(configs), configs[0].disc_updates, train_on or dataset
    )
    assert isinstance(discriminator, Discriminator)

    def relabel(episodes: Episodes) -> Episodes:
        obs_row = episodes.rows() + int(next_obs)  # of each transition
        reward = torch.zeros(len(configs), len(obs_row), dtype=discriminator.dtype)
        for members, first, count in member_ranges(episodes, len(configs)):
            rows = obs_row[first : first + count]
            obs_rows = torch.arange(int(rows[0]), int(rows[-1]) + 1)
            for member in range(members.start, members.stop):
                logits = discriminator.logits(member, episodes, obs_rows)
                with one_thread():
                    obs_reward = reward_of(logits)
                reward[member, first : first + count] = obs_reward[rows - rows[0]]
        return dataclasses.replace(episodes, reward=reward)

    assert dataset.expert is not None
    expert = dataset.expert if background_only else relabel(dataset.expert)
    return dataclasses.replace(dataset, expert=expert, background=relabel(dataset.background))
