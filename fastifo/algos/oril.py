"""ORIL: a discriminator's word as reward, then offline learning on the background.

Source: Zolna et al. 2020, arXiv:2011.13885; flat or positive-unlabelled discriminator. What learns
from the rewards is advantage-weighted regression here, so that it differs from VfO-disc in one
thing: expert observations do not train the value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from fastifo.algos.awr import AWR, AdvantageConfig
from fastifo.algos.discriminator import DiscriminatorConfig, with_rewards
from fastifo.algos.learner import StageTrainer
from fastifo.data.dataset import Dataset


@dataclass(frozen=True)
class ORILConfig(DiscriminatorConfig, AdvantageConfig):
    pass


class ORIL(AWR):
    Config = ORILConfig
    name: ClassVar[str] = "oril"
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        return frozenset({"reward"})

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """The discriminator's probability of a transition's start becomes its reward."""
        return with_rewards(
            dataset, configs, trainer, torch.sigmoid, next_obs=False, background_only=True
        )
