"""Does this observation come from the expert? The first stage of VfO-disc, ORIL and SMODICE.

Source: Zolna et al. 2020, arXiv:2011.13885 (ORIL); flat loss as in arXiv 2507.06701; gradient
penalty of Gulrajani et al. 2017, arXiv:1704.00028, as SMODICE's authors have it.
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
from fastifo.data.sampler import Batch
from fastifo.data.stack import member_ranges
from fastifo.utils.parallel import in_blocks, one_thread


@dataclass(frozen=True)
class DiscriminatorConfig(Config):
    """Fields of every method whose rewards come from a discriminator."""

    disc_updates: int = 10_000  # length of the discriminator's training, before everything else
    disc_batch_size: int = 256  # observations of each source in one discriminator update
    disc_learning_rate: float = 3e-4  # Adam, discriminator
    disc_loss: str = "flat"  # flat | pu (positive-unlabelled)
    pu_prior: float = 0.5  # share of the background that is expert-like, for pu

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "disc_updates", self.disc_updates >= 0, "at least 0")
        require(self, "disc_batch_size", self.disc_batch_size >= 1, "at least 1")
        require(self, "disc_learning_rate", self.disc_learning_rate > 0, "above 0")
        require_choice(self, "disc_loss", ("flat", "pu"))
        require(self, "pu_prior", 0.0 < self.pu_prior < 1.0, "between 0 and 1")


class Discriminator(Learner):
    """Not an algorithm of its own: it has no policy."""

    Config = DiscriminatorConfig
    name: ClassVar[str] = "discriminator"
    native_loss = NativeLoss(
        "discriminator",
        unsupported=("gradient_penalty",),
        flags={"positive_unlabelled": ("disc_loss", "pu")},
    )
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        return cls.needs | ({"uniform"} if getattr(config, "gradient_penalty", 0) else set())

    def build(self) -> None:
        self.logit = self.scalar_net("discriminator")

    def update(self, batch: Batch) -> Metrics:
        assert batch.expert is not None
        expert = self.logit(batch.expert.obs)  # [P, B]
        background = self.logit(batch.background.obs)
        if self.cfg.disc_loss == "pu":
            loss = losses.positive_unlabelled_loss(expert, background, self.hp.pu_prior)
        else:
            loss = losses.discriminator_loss(expert, background)
        if batch.uniform is not None:  # between the sources the slope is to be one
            u = batch.uniform.unsqueeze(-1)
            between = u * batch.expert.obs + (1.0 - u) * batch.background.obs
            between.requires_grad_()
            (slope,) = torch.autograd.grad(self.logit(between).sum(), between, create_graph=True)
            penalty = (slope.square().sum(-1).sqrt() - 1.0).square().mean(1)
            loss = loss + self.cfg.gradient_penalty * penalty
        self.minimise(loss, self.logit)
        return {
            "discriminator_loss": loss,
            "prob_expert": expert.detach().sigmoid().mean(1),
            "prob_background": background.detach().sigmoid().mean(1),
        }

    def logits(self, member: int, obs: Tensor) -> Tensor:
        """One number of each observation, [N] in the training dtype.  obs: [N, D], on the CPU."""
        found = torch.empty(len(obs), dtype=self.dtype)
        alone = self.member(member)  # so that its numbers do not feel the others
        assert isinstance(alone, Discriminator)

        def judge(rows: slice) -> None:
            x = alone.encoder(obs[rows].to(alone.encoder.mean.device, self.dtype))
            found[rows] = alone.logit(x.unsqueeze(0)).squeeze(0).cpu()

        in_blocks(judge, len(obs))
        return found


def with_rewards(
    dataset: Dataset,
    configs: Sequence[Any],
    trainer: StageTrainer,
    reward_of: Callable[[Tensor], Tensor],
    *,
    next_obs: bool,
    background_only: bool = False,
) -> Dataset:
    """Trains the discriminator; its word on every observation becomes the reward, [P, N].

    configs: of a method; its disc_ fields take the place of the learner's own.
    reward_of: of logits, [N].  next_obs: the word on where a transition leads, not on its start.
    """
    stage = [
        dataclasses.replace(
            config,
            **{
                name: getattr(config, f"disc_{name}")
                for name in ("learning_rate", "batch_size", "hidden_sizes", "activation")
                if getattr(config, f"disc_{name}", None)
            },
        )
        for config in configs
    ]
    discriminator = trainer.train(Discriminator, stage, configs[0].disc_updates, dataset)
    assert isinstance(discriminator, Discriminator)

    def relabel(episodes: Episodes) -> Episodes:
        rows = episodes.rows() + int(next_obs)
        reward = torch.zeros(len(configs), len(rows), dtype=discriminator.dtype)
        for members, first, count in member_ranges(episodes, len(configs)):
            own = rows[first : first + count]
            obs = episodes.obs[int(own[0]) : int(own[-1]) + 1]
            for member in range(members.start, members.stop):
                found = discriminator.logits(member, obs)
                with one_thread():
                    found = reward_of(found)
                reward[member, first : first + count] = found[own - own[0]]
        return dataclasses.replace(episodes, reward=reward)

    assert dataset.expert is not None
    expert = dataset.expert if background_only else relabel(dataset.expert)
    return dataclasses.replace(dataset, expert=expert, background=relabel(dataset.background))
