"""ORIL: a discriminator's output is the reward of offline learning on the background.

Source: Zolna et al. 2020, arXiv:2011.13885, with the flat or the positive-unlabelled discriminator
loss. Differs: the learner is advantage-weighted regression, so that ORIL differs from VfO-disc in
one thing: expert observations do not train the value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from fastifo.algos.awr import AWR
from fastifo.algos.discriminator import DiscriminatorConfig, relabel_with_discriminator
from fastifo.algos.learner import StageTrainer
from fastifo.algos.vfo import AdvantageConfig
from fastifo.data.dataset import Dataset


@dataclass(frozen=True)
class ORILConfig(DiscriminatorConfig, AdvantageConfig):
    """Fields of the discriminator and of AWR."""


class ORIL(AWR):
    """AWR on a discriminator's rewards."""

    Config = ORILConfig
    name: ClassVar[str] = "oril"
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        """Rewards only: expert observations train the discriminator, not the value."""
        return frozenset({"reward"})

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """Pre-trains the discriminator d; r = d(s) becomes the background's reward."""
        return relabel_with_discriminator(
            dataset, configs, trainer, torch.sigmoid, next_obs=False, background_only=True
        )
