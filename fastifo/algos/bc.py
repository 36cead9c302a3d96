"""Behaviour cloning: the likeliest policy behind the background's actions. Expert data is unused.

Source: baseline of the VfO study, arXiv 2507.06701. With `top_share` below 1 it is %BC, an oracle:
it clones the episodes of the best true returns alone (Chen et al. 2021, arXiv:2106.01345).
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from fastifo.algos.config import Config, require
from fastifo.algos.learner import Learner, Metrics, StageTrainer
from fastifo.algos.native import NativeLoss
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.sampler import Batch
from fastifo.data.stack import member_ranges


@dataclass(frozen=True)
class BCConfig(Config):
    top_share: float = 1.0  # of the background's episodes, the best by true return; 1 is all

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "top_share", 0.0 < self.top_share <= 1.0, "in (0, 1]")


class BC(Learner):
    Config = BCConfig
    name: ClassVar[str] = "bc"
    native_loss = NativeLoss("bc")

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        shares = [config.top_share for config in configs]
        if min(shares) == 1.0:
            return dataset
        return dataclasses.replace(dataset, background=best_first(dataset.background, shares))

    def build(self) -> None:
        self.policy = self.make_policy()

    def update(self, batch: Batch) -> Metrics:
        # Policy: log-likelihood of the background's actions.
        b = batch.background
        assert b.action is not None
        logits = self.policy.outputs(b.obs)  # [P, B, A, K]
        policy_loss, gradient = self.policy.loss(logits, b.action)  # [P]
        self.apply_gradients([(logits, gradient)], self.policy)
        return {"policy_loss": policy_loss}


def best_first(episodes: Episodes, shares: Sequence[float]) -> Episodes:
    """Episodes by falling return; each member draws from its share of the first, at least one.

    Raises ValueError where returns are unknown.
    """
    returns = episodes.returns()
    if returns is None or not bool(returns.isfinite().all()):
        raise ValueError(
            "top_share: the best episodes are those of the largest true returns, which this "
            "background lacks; pass 'reward' in every episode, or leave top_share at 1"
        )
    order, ranges = [], torch.zeros(len(shares), 2, dtype=torch.int64)
    for members, first, count in member_ranges(episodes, len(shares)):
        begin, end = torch.searchsorted(episodes.start, torch.tensor([first, first + count]))
        own = begin + returns[begin:end].argsort(descending=True, stable=True)
        transitions = episodes.lengths[own].cumsum(0)
        for member in range(members.start, members.stop):
            kept = max(1, int(shares[member] * len(own)))
            ranges[member] = torch.tensor([first, int(transitions[kept - 1])])
        order.append(own)
    return dataclasses.replace(episodes.take(torch.cat(order).tolist()), ranges=ranges)
