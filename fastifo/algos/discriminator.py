"""Does this observation come from the expert? The first stage of VfO-disc.

Source: Zolna et al. 2020, arXiv:2011.13885 (ORIL); flat loss as in arXiv 2507.06701.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fastifo import losses
from fastifo.config import Config
from fastifo.data.sampler import Batch
from fastifo.learner import Learner, Metrics


@dataclass(frozen=True)
class DiscriminatorConfig(Config):
    disc_loss: str = "flat"  # flat | pu
    pu_prior: float = 0.5  # share of the background that is expert-like, for pu


class Discriminator(Learner):
    """Not an algorithm of its own: it has no policy."""

    Config = DiscriminatorConfig
    name: ClassVar[str] = "discriminator"
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

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
        self.minimise(loss, self.logit)
        return {
            "discriminator_loss": loss,
            "prob_expert": expert.detach().sigmoid().mean(1),
            "prob_background": background.detach().sigmoid().mean(1),
        }

    @torch.no_grad()
    def probability(self, member: int, obs: Tensor) -> Tensor:
        """Probability of "expert", [N] in the training dtype.  obs: [N, D], on the CPU."""
        prob = torch.empty(len(obs), dtype=self.dtype)
        alone = self.member(member)  # so that its numbers do not feel the others
        assert isinstance(alone, Discriminator)
        for rows, part in zip(obs.split(8192), prob.split(8192), strict=True):
            x = alone.encoder(rows.to(alone.encoder.mean.device, self.dtype))
            part.copy_(alone.logit(x.unsqueeze(0)).sigmoid().squeeze(0))
        return prob
