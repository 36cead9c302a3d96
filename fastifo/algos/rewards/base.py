"""The base of methods that compute rewards and leave the policy to an offline RL backbone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fastifo.algos.config import Config, require_choice
from fastifo.algos.learner import Learner, StageTrainer
from fastifo.data.dataset import Dataset


@dataclass(frozen=True)
class RewardsConfig(Config):
    """Fields of every method that computes rewards."""

    backbone: str = "iql"  # iql | rebrac: method that learns from the rewards

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "backbone", ("iql", "rebrac"))


class Rewards(Learner):
    """Computes rewards in `prepare`; a subclass adds its backbone, as in `class X(Rewards, IQL)`.

    `Rewards` comes first among the bases, so that the backbone's `prepare` gets the rewards.
    """

    reads_images: ClassVar[bool] = False  # rewards are made from observations alone
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def relabel(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """The background with the method's rewards, [P, N] float64.  configs: one per member."""
        raise NotImplementedError

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """Computes the rewards, then runs the backbone's `prepare`."""
        return super().prepare(cls.relabel(dataset, configs, trainer), configs, trainer)
