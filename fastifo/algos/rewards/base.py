"""Methods that make rewards for a background, and hand over to one that learns from rewards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fastifo.algos.config import Config, require_choice
from fastifo.algos.learner import Learner, StageTrainer
from fastifo.data.dataset import Dataset


@dataclass(frozen=True)
class RewardsConfig(Config):
    backbone: str = "iql"  # iql | rebrac: what learns from the rewards

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "backbone", ("iql", "rebrac"))


class Rewards(Learner):
    """Stands before its backbone among the bases of a class."""

    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def relabel(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """The background with the method's rewards, [P, N]."""
        raise NotImplementedError

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        return super().prepare(cls.relabel(dataset, configs, trainer), configs, trainer)
