"""BCO: label the expert's transitions by inverse dynamics, then clone both sources.

Source: Torabi et al. 2018, arXiv:1805.01954, offline as in arXiv 2507.06701.
"""

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastifo.algos.config import Config, require, require_choice
from fastifo.algos.learner import Learner, Metrics, StageMonitor, StageTrainer
from fastifo.algos.native import NativeLoss
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.sampler import Batch, purpose, uniform
from fastifo.data.stack import member_ranges
from fastifo.utils.parallel import in_blocks, one_thread

HELD_OUT_ROWS = 8192  # of each member, evenly spread
REVIEWS = 50  # of the inverse dynamics in their training


@dataclass(frozen=True)
class BCOConfig(Config):
    inverse_updates: int = 200_000  # length of the inverse dynamics' training, before cloning
    holdout_percent: int = 0  # of episodes, by whose loss the inverse dynamics are chosen; 0: last
    label: str = "mode"  # mode | sample: the action taken from the inverse dynamics
    clones: str = "both"  # both | expert: whose actions the policy learns; the original's: expert

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "inverse_updates", self.inverse_updates >= 0, "at least 0")
        require(self, "holdout_percent", 0 <= self.holdout_percent < 100, "0 to 99")
        require_choice(self, "label", ("mode", "sample"))
        require_choice(self, "clones", ("both", "expert"))
        require(self, "batch_size", self.batch_size % 2 == 0, "an even number, half a source")


class InverseDynamics(Learner):
    """Which action led from this observation to the next? Not an algorithm of its own."""

    Config = BCOConfig
    name: ClassVar[str] = "inverse_dynamics"
    native_loss = NativeLoss("inverse", pairs=("policy",))
    least_loss: Tensor

    def build(self) -> None:
        self.policy = self.make_policy("inverse", inputs=2)
        if self.cfg.holdout_percent:
            self.best = copy.deepcopy(self.policy).requires_grad_(False)
            least = torch.full((len(self.seeds),), math.inf, dtype=self.dtype)
            self.register_buffer("least_loss", least)

    def update(self, batch: Batch) -> Metrics:
        b = batch.background
        assert b.action is not None
        outputs = self.policy.outputs(torch.cat([b.obs, b.next_obs], -1))
        loss, gradient = self.policy.loss(outputs, b.action)
        self.apply_gradients([(outputs, gradient)], self.policy)
        return {"inverse_loss": loss}

    @torch.no_grad()
    def keep_best(self, held_out: Episodes) -> Metrics:
        """Keeps the weights of members whose loss on their own held-out rows was never less."""
        found = torch.zeros_like(self.least_loss)
        assert held_out.action is not None
        for members, first, count in member_ranges(held_out, len(self.seeds)):
            rows = torch.linspace(first, first + count - 1, min(count, HELD_OUT_ROWS)).long()
            start = held_out.rows()[rows]
            obs, next_obs, action = (
                x.to(self.least_loss.device, self.dtype).unsqueeze(0)
                for x in (held_out.obs[start], held_out.obs[start + 1], held_out.action[rows])
            )
            for member in range(members.start, members.stop):
                alone = self.member(member)
                with one_thread():
                    x = torch.cat([alone.encoder(obs), alone.encoder(next_obs)], -1)
                    found[member] = alone.policy.loss(alone.policy.outputs(x), action)[0][0]
        better = found < self.least_loss
        self.least_loss.copy_(torch.where(better, found, self.least_loss))
        for kept, now in zip(self.best.parameters(), self.policy.parameters(), strict=True):
            kept[better] = now[better]
        return {"held_out_loss": found, "least_held_out_loss": self.least_loss}

    def labels(self, member: int, obs: Tensor, next_obs: Tensor) -> Tensor:
        """The action of each transition, [N, A] in the training dtype.  obs: [N, D], on the CPU."""
        found = torch.empty(len(obs), self.spec.action_dim, dtype=self.dtype)
        alone = self.member(member)  # so that its numbers do not feel the others
        policy = getattr(alone, "best", alone.policy)
        device = alone.encoder.mean.device
        seed = torch.tensor(alone.seeds, dtype=torch.int64, device=device)
        stream = purpose("bco", "label")

        def label(rows: slice) -> None:
            pair = [alone.encoder(x[rows].to(device, self.dtype)) for x in (obs, next_obs)]
            x = torch.cat(pair, -1).unsqueeze(0)
            if self.cfg.label == "mode":
                found[rows] = policy.mode(x).squeeze(0).cpu()
                return
            counter = torch.tensor([rows.start], dtype=torch.int64, device=device)
            numbers = uniform(seed, counter, stream, x.shape[1] * 2 * found.shape[1], self.dtype)
            choice, other = numbers.view(1, x.shape[1], -1).chunk(2, -1)
            found[rows] = policy.sample(x, choice, other).squeeze(0).cpu()

        in_blocks(label, len(obs))
        return found


class BCO(Learner):
    Config = BCOConfig
    name: ClassVar[str] = "bco"
    native_loss = NativeLoss("bc")
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        return cls.needs | {"expert_action"} if config.clones == "both" else frozenset()

    @classmethod
    def batch_rows(cls, config: Any) -> int:
        return int(config.batch_size) // (2 if config.clones == "both" else 1)

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """The inverse dynamics' actions become the expert's, [P, N, A].

        Where only the expert is cloned, it takes the background's place.
        """
        updates, percent, given = configs[0].inverse_updates, configs[0].holdout_percent, dataset
        monitor = None
        if percent:
            train, held_out = split_held_out(dataset.background, len(configs), percent)
            given = dataclasses.replace(dataset, background=train)

            def look(learner: Learner) -> Metrics:
                assert isinstance(learner, InverseDynamics)
                return learner.keep_best(held_out)

            monitor = StageMonitor(max(1, updates // REVIEWS), look)
        inverse = trainer.train(InverseDynamics, configs, updates, given, monitor=monitor)
        assert isinstance(inverse, InverseDynamics)
        expert = dataset.expert
        assert expert is not None
        rows = expert.rows()
        action = torch.zeros(len(configs), len(rows), dataset.action_dim, dtype=inverse.dtype)
        for members, first, count in member_ranges(expert, len(configs)):
            own = rows[first : first + count]
            for member in range(members.start, members.stop):
                action[member, first : first + count] = inverse.labels(
                    member, expert.obs[own], expert.obs[own + 1]
                )
        labelled = dataclasses.replace(expert, action=action)
        if configs[0].clones == "expert":
            return dataclasses.replace(dataset, background=labelled)
        return dataclasses.replace(dataset, expert=labelled)

    def build(self) -> None:
        self.policy = self.make_policy()

    def update(self, batch: Batch) -> Metrics:
        # Policy: log-likelihood of the expert's labels and of the background's actions.
        rows = [part for part in (batch.expert, batch.background) if part is not None]
        outputs = self.policy.outputs(torch.cat([part.obs for part in rows], 1))  # [P, B, ...]
        action = torch.cat([part.action for part in rows if part.action is not None], 1)
        loss, gradient = self.policy.loss(outputs, action)
        self.apply_gradients([(outputs, gradient)], self.policy)
        return {"policy_loss": loss}


def split_held_out(episodes: Episodes, members: int, percent: int) -> tuple[Episodes, Episodes]:
    """The same episodes twice, to train on and to judge by: each member's held-out ones come first.

    Every so many-th episode is held out, at least one.  Raises ValueError where none would be left.
    """
    order, ranges = [], torch.zeros(members, 2, dtype=torch.int64)
    rest = torch.zeros_like(ranges)
    for own, first, count in member_ranges(episodes, members):
        begin, end = torch.searchsorted(episodes.start, torch.tensor([first, first + count]))
        places = torch.arange(int(begin), int(end))
        held = torch.zeros(len(places), dtype=torch.bool)
        held[torch.linspace(0, len(places) - 1, max(1, len(places) * percent // 100)).long()] = True
        if bool(held.all()):
            raise ValueError(
                f"holdout_percent: expected two episodes or more to hold one out, found "
                f"{len(places)}; use holdout_percent=0"
            )
        order += [places[held], places[~held]]
        apart = int(episodes.lengths[places[held]].sum())
        ranges[own] = torch.tensor([first, apart])
        rest[own] = torch.tensor([first + apart, count - apart])
    whole = episodes.take(torch.cat(order).tolist())
    return dataclasses.replace(whole, ranges=rest), dataclasses.replace(whole, ranges=ranges)
