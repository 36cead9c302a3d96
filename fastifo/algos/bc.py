"""Behaviour cloning of the background's actions, or of the expert's.

Source: baseline of the VfO study, arXiv 2507.06701. With `top_share` below 1 it is %BC, an oracle
that clones only the episodes with the highest true returns (Chen et al. 2021, arXiv:2106.01345).
With `source` expert it is ordinary behaviour cloning of demonstrations, which is privileged: it
reads the expert's actions, and does not read the background.
With `standardize_obs` (preset `orig`) observations are standardised as in CORL's any_percent_bc: by
the mean and deviation of the episodes that are cloned, with 1e-3 added to deviations. Differs from
CORL: returns are not discounted, and an episode that was cut by a time limit counts as one.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from fastifo.algos.config import Config, require, require_choice
from fastifo.algos.expert_actions import check_expert_actions
from fastifo.algos.images import check_images
from fastifo.algos.learner import Learner, Metrics, StageTrainer
from fastifo.algos.native import NativeLoss
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.sampler import Batch
from fastifo.data.stack import member_ranges


@dataclass(frozen=True)
class BCConfig(Config):
    """Fields of `bc`."""

    source: str = "background"  # background | expert (privileged): whose actions to clone
    top_share: float = 1.0  # share of background episodes to clone, best true return first; 1: all

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "top_share", 0.0 < self.top_share <= 1.0, "in (0, 1]")
        require_choice(self, "source", ("background", "expert"))
        if self.source == "expert":
            all_episodes = "1 with source='expert', whose returns are not kept"
            require(self, "top_share", self.top_share == 1.0, all_episodes)


class BC(Learner):
    """Maximum likelihood of the background's actions, or of the expert's."""

    Config = BCConfig
    name: ClassVar[str] = "bc"
    native_loss = NativeLoss("bc")
    deviation_epsilon: ClassVar[float] = 1e-3  # CORL's

    @classmethod
    def check_data(
        cls, dataset: Dataset, config: Any, device: torch.device, *, relabel_only: bool = False
    ) -> None:
        """With `source` expert the expert's actions are required, and frames if there are any."""
        super().check_data(dataset, config, device, relabel_only=relabel_only)
        if config.source == "expert":
            method = f"{cls.name} with source='expert'"
            check_expert_actions(method, dataset, "use source='background', which needs none")
            if dataset.images:
                check_images(method, dataset, config, reads_images=True, needs_expert=True)

    @classmethod
    def standardizing_episodes(cls, dataset: Dataset, config: Any) -> Episodes:
        """The episodes that are cloned."""
        if not config.standardize_obs:
            return dataset.background
        if config.source == "expert":
            assert dataset.expert is not None
            return dataset.expert
        if config.top_share == 1.0:
            return dataset.background
        best = best_episodes(dataset.background, [config.top_share])
        assert best.ranges is not None
        return best.take(range(int(torch.searchsorted(best.start, best.ranges[0, 1]))))

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """Keeps each member's `top_share` of the background; or the expert takes its place."""
        if configs[0].source == "expert":
            assert dataset.expert is not None
            return dataclasses.replace(dataset, background=dataset.expert)
        shares = [config.top_share for config in configs]
        if min(shares) == 1.0:
            return dataset
        background = best_episodes(dataset.background, shares)
        return dataclasses.replace(dataset, background=background)

    def build(self) -> None:
        """Builds the policy."""
        self.policy = self.make_policy()

    def update(self, batch: Batch) -> Metrics:
        """Steps the policy; returns its loss."""
        b = batch.background
        assert b.action is not None

        # Policy loss: L_pi = -E_D[log pi(a | s)], D = D_B, or D_E with source=expert (`prepare`).
        logits = self.policy.outputs(b.obs)  # [P, B, A, K] with the binned head
        policy_loss, gradient = self.policy.loss(logits, b.action)
        self.apply_gradients([(logits, gradient)], self.policy)
        return {"policy_loss": policy_loss}


def best_episodes(episodes: Episodes, shares: Sequence[float]) -> Episodes:
    """The episodes sorted by falling return, with ranges that limit each member to the best ones.

    shares: of each member, in (0, 1]; it draws from that share of its episodes, at least one.
    Raises ValueError if an episode's return is unknown.
    """
    returns = episodes.returns()
    if returns is None or not bool(returns.isfinite().all()):
        raise ValueError(
            "top_share: selecting the best episodes needs true returns, which this background "
            "lacks; pass 'reward' in every episode, or leave top_share at 1"
        )
    order, ranges = [], torch.zeros(len(shares), 2, dtype=torch.int64)
    for members, first, count in member_ranges(episodes, len(shares)):
        begin, end = torch.searchsorted(episodes.start, torch.tensor([first, first + count]))
        best_first = begin + returns[begin:end].argsort(descending=True, stable=True)
        transitions = episodes.lengths[best_first].cumsum(0)
        for member in range(members.start, members.stop):
            kept = max(1, int(shares[member] * len(best_first)))
            ranges[member] = torch.tensor([first, int(transitions[kept - 1])])
        order.append(best_first)
    return dataclasses.replace(episodes.take(torch.cat(order).tolist()), ranges=ranges)
