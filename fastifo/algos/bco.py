"""BCO: labels the expert's transitions with an inverse dynamics model, then clones both sources.

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
from fastifo.data.sampler import Batch
from fastifo.data.stack import member_ranges
from fastifo.data.streams import purpose, uniform
from fastifo.utils.parallel import in_blocks, one_thread

HELD_OUT_ROWS = 8192  # held-out transitions that a measurement uses per member, evenly spaced
MEASUREMENTS = 50  # of the held-out loss, during the training of the inverse dynamics


@dataclass(frozen=True)
class BCOConfig(Config):
    """Fields of `bco`."""

    inverse_updates: int = 200_000  # updates of the inverse dynamics model, before cloning
    holdout_percent: int = 0  # episodes held out to select inverse dynamics; 0 keeps the last ones
    label: str = "mode"  # mode | sample: the action taken from the inverse dynamics
    clones: str = "both"  # both | expert: whose actions the policy clones; expert in the original

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "inverse_updates", self.inverse_updates >= 0, "at least 0")
        require(self, "holdout_percent", 0 <= self.holdout_percent < 100, "0 to 99")
        require_choice(self, "label", ("mode", "sample"))
        require_choice(self, "clones", ("both", "expert"))
        require(self, "batch_size", self.batch_size % 2 == 0, "an even number, half per source")


class InverseDynamics(Learner):
    """A model p(a | s, s'); a helper stage, whose policy reads two observations."""

    Config = BCOConfig
    name: ClassVar[str] = "inverse_dynamics"
    native_loss = NativeLoss("inverse", pairs=("policy",))
    least_loss: Tensor

    def build(self) -> None:
        """Builds the model, and with held-out episodes a copy for each member's best weights."""
        self.policy = self.make_policy("inverse", inputs=2)
        if self.cfg.holdout_percent:
            self.best = copy.deepcopy(self.policy).requires_grad_(False)
            least = torch.full((len(self.seeds),), math.inf, dtype=self.dtype)
            self.register_buffer("least_loss", least)  # held-out loss of `best`, [P]

    def update(self, batch: Batch) -> Metrics:
        """Steps the model; returns its loss on background transitions."""
        b = batch.background
        assert b.action is not None

        # Inverse dynamics: L = -E_{D_B}[log p(a | s, s')].
        logits = self.policy.outputs(torch.cat([b.obs, b.next_obs], -1))
        loss, gradient = self.policy.loss(logits, b.action)
        self.apply_gradients([(logits, gradient)], self.policy)
        return {"inverse_loss": loss}

    @torch.no_grad()
    def keep_best(self, held_out: Episodes) -> Metrics:
        """Measures the held-out loss, [P], and copies improved members into `best`.

        held_out: episodes whose ranges are each member's held-out transitions.
        """
        loss = torch.zeros_like(self.least_loss)
        assert held_out.action is not None
        for members, first, count in member_ranges(held_out, len(self.seeds)):
            rows = torch.linspace(first, first + count - 1, min(count, HELD_OUT_ROWS)).long()
            obs_rows = held_out.rows()[rows].split(self.block_rows)
            action = held_out.action[rows].to(self.least_loss.device, self.dtype).unsqueeze(0)
            for member in range(members.start, members.stop):
                single = self.member(member)
                assert isinstance(single, InverseDynamics)
                with one_thread():
                    parts = [single.policy.outputs(single.pairs(held_out, r)) for r in obs_rows]
                    loss[member] = single.policy.loss(torch.cat(parts, 1), action)[0][0]
        improved = loss < self.least_loss
        self.least_loss.copy_(torch.where(improved, loss, self.least_loss))
        for best, current in zip(self.best.parameters(), self.policy.parameters(), strict=True):
            best[improved] = current[improved]
        return {"held_out_loss": loss, "least_held_out_loss": self.least_loss}

    def pairs(self, episodes: Episodes, obs_rows: Tensor) -> Tensor:
        """The inputs of transitions, [1, n, 2 width].

        obs_rows: row of `episodes.obs` of each transition's observation, [n] int64.
        """
        inputs = [self.inputs_of(episodes, rows) for rows in (obs_rows, obs_rows + 1)]
        return torch.cat(inputs, -1).unsqueeze(0)

    def labels(self, member: int, episodes: Episodes, obs_rows: Tensor) -> Tensor:
        """One member's action for each transition, [n, A] in the training dtype.

        obs_rows: as in `pairs`.
        """
        result = torch.empty(len(obs_rows), self.spec.action_dim, dtype=self.dtype)
        single = self.member(member)  # its outputs do not depend on the other members
        assert isinstance(single, InverseDynamics)
        policy = getattr(single, "best", single.policy)
        device = single.encoder.mean.device
        seed = torch.tensor(single.seeds, dtype=torch.int64, device=device)
        stream = purpose("bco", "label")

        def compute(rows: slice) -> None:
            x = single.pairs(episodes, obs_rows[rows])
            if self.cfg.label == "mode":
                result[rows] = policy.mode(x).squeeze(0).cpu()
                return
            counter = torch.tensor([rows.start], dtype=torch.int64, device=device)
            size = x.shape[1] * 2 * result.shape[1]
            noise = uniform(seed, counter, stream, size, self.dtype).view(1, x.shape[1], -1)
            result[rows] = policy.sample(x, *noise.chunk(2, -1)).squeeze(0).cpu()

        in_blocks(compute, len(obs_rows), self.block_rows)
        return result


class BCO(Learner):
    """Behaviour cloning of labelled expert transitions and of the background."""

    Config = BCOConfig
    name: ClassVar[str] = "bco"
    native_loss = NativeLoss("bc")
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        """Labelled expert rows, unless the policy clones the expert only (`prepare`)."""
        return cls.needs | {"expert_action"} if config.clones == "both" else frozenset()

    @classmethod
    def batch_rows(cls, config: Any) -> int:
        """Half a batch from each source, or with clones=expert a batch from one."""
        return int(config.batch_size) // (2 if config.clones == "both" else 1)

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """Trains the inverse dynamics; their actions become the expert's, [P, N, A].

        With clones=expert, the labelled expert replaces the background.
        """
        updates, percent = configs[0].inverse_updates, configs[0].holdout_percent
        training_data, monitor = dataset, None
        if percent:
            train, held_out = split_held_out(dataset.background, len(configs), percent)
            training_data = dataclasses.replace(dataset, background=train)

            def measure(learner: Learner) -> Metrics:
                assert isinstance(learner, InverseDynamics)
                return learner.keep_best(held_out)

            monitor = StageMonitor(every=max(1, updates // MEASUREMENTS), measure=measure)
        inverse = trainer.train(InverseDynamics, configs, updates, training_data, monitor=monitor)
        assert isinstance(inverse, InverseDynamics)

        expert = dataset.expert
        assert expert is not None
        obs_row = expert.rows()
        action = torch.zeros(len(configs), len(obs_row), dataset.action_dim, dtype=inverse.dtype)
        for members, first, count in member_ranges(expert, len(configs)):
            rows = obs_row[first : first + count]
            for member in range(members.start, members.stop):
                labels = inverse.labels(member, expert, rows)
                action[member, first : first + count] = labels
        labelled = dataclasses.replace(expert, action=action)
        if configs[0].clones == "expert":
            return dataclasses.replace(dataset, background=labelled)
        return dataclasses.replace(dataset, expert=labelled)

    def build(self) -> None:
        """Builds the policy; the inverse dynamics model is a stage of `prepare`."""
        self.policy = self.make_policy()

    def update(self, batch: Batch) -> Metrics:
        """Steps the policy; returns its loss over all cloned rows."""
        # Policy loss: L_pi = -E[log pi(a | s)], half over the labelled expert, half over D_B.
        sources = [part for part in (batch.expert, batch.background) if part is not None]
        logits = self.policy.outputs(torch.cat([part.obs for part in sources], 1))  # [P, B, ...]
        action = torch.cat([part.action for part in sources if part.action is not None], 1)
        loss, gradient = self.policy.loss(logits, action)
        self.apply_gradients([(logits, gradient)], self.policy)
        return {"policy_loss": loss}


def split_held_out(episodes: Episodes, members: int, percent: int) -> tuple[Episodes, Episodes]:
    """The episodes with ranges for training, and the same episodes with ranges for measuring.

    members: P.  percent: of each member's episodes, evenly spaced, are held out, at least one; they
    come first. Raises ValueError if no episode would be left for training.
    """
    order = []
    train_ranges = torch.zeros(members, 2, dtype=torch.int64)
    held_out_ranges = torch.zeros_like(train_ranges)
    for sharing, first, count in member_ranges(episodes, members):
        begin, end = torch.searchsorted(episodes.start, torch.tensor([first, first + count]))
        index = torch.arange(int(begin), int(end))
        is_held_out = torch.zeros(len(index), dtype=torch.bool)
        num_held_out = max(1, len(index) * percent // 100)
        is_held_out[torch.linspace(0, len(index) - 1, num_held_out).long()] = True
        if bool(is_held_out.all()):
            raise ValueError(
                f"holdout_percent: expected two episodes or more to hold one out, found "
                f"{len(index)}; use holdout_percent=0"
            )
        order += [index[is_held_out], index[~is_held_out]]
        num_rows = int(episodes.lengths[index[is_held_out]].sum())
        held_out_ranges[sharing] = torch.tensor([first, num_rows])
        train_ranges[sharing] = torch.tensor([first + num_rows, count - num_rows])
    sorted_episodes = episodes.take(torch.cat(order).tolist())
    return (
        dataclasses.replace(sorted_episodes, ranges=train_ranges),
        dataclasses.replace(sorted_episodes, ranges=held_out_ranges),
    )
