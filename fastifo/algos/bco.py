"""BCO: label the expert's transitions by inverse dynamics, then clone both sources.

Source: Torabi et al. 2018, arXiv:1805.01954, offline as in arXiv 2507.06701.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastifo.config import Config, require, require_choice
from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Batch, purpose, uniform
from fastifo.data.stack import member_ranges
from fastifo.learner import Fit, Learner, Metrics


@dataclass(frozen=True)
class BCOConfig(Config):
    inverse_updates: int = 200_000  # length of the inverse dynamics' training, before cloning
    label: str = "mode"  # mode | sample: the action taken from the inverse dynamics

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "inverse_updates", self.inverse_updates >= 0, "at least 0")
        require_choice(self, "label", ("mode", "sample"))
        require(self, "batch_size", self.batch_size % 2 == 0, "an even number, half a source")


class InverseDynamics(Learner):
    """Which action led from this observation to the next? Not an algorithm of its own."""

    Config = BCOConfig
    name: ClassVar[str] = "inverse_dynamics"

    def build(self) -> None:
        self.policy = self.make_policy("inverse", inputs=2)

    def update(self, batch: Batch) -> Metrics:
        b = batch.background
        assert b.action is not None
        outputs = self.policy.outputs(torch.cat([b.obs, b.next_obs], -1))
        loss, gradient = self.policy.loss(outputs, b.action)
        self.descend([(outputs, gradient)], self.policy)
        return {"inverse_loss": loss}

    @torch.no_grad()
    def labels(self, member: int, obs: Tensor, next_obs: Tensor) -> Tensor:
        """The action of each transition, [N, A] in the training dtype.  obs: [N, D], on the CPU."""
        found = torch.empty(len(obs), self.spec.action_dim, dtype=self.dtype)
        alone = self.member(member)  # so that its numbers do not feel the others
        device = alone.encoder.mean.device
        seed = torch.tensor(alone.seeds, dtype=torch.int64, device=device)
        stream = purpose("bco", "label")
        for first in range(0, len(obs), 8192):
            rows = slice(first, first + 8192)
            pair = [alone.encoder(x[rows].to(device, self.dtype)) for x in (obs, next_obs)]
            x = torch.cat(pair, -1).unsqueeze(0)
            if self.cfg.label == "mode":
                found[rows] = alone.policy.mode(x).squeeze(0).cpu()
                continue
            counter = torch.tensor([first], dtype=torch.int64, device=device)
            numbers = uniform(seed, counter, stream, x.shape[1] * 2 * found.shape[1], self.dtype)
            choice, other = numbers.view(1, x.shape[1], -1).chunk(2, -1)
            found[rows] = alone.policy.sample(x, choice, other).squeeze(0).cpu()
        return found


class BCO(Learner):
    Config = BCOConfig
    name: ClassVar[str] = "bco"
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        return cls.needs | {"expert_action"}

    @classmethod
    def batch_rows(cls, config: Any) -> int:
        return int(config.batch_size) // 2

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], fit: Fit) -> Dataset:
        """The inverse dynamics' actions become the expert's, [P, N, A]."""
        inverse = fit(InverseDynamics, configs, configs[0].inverse_updates, dataset)
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
        return dataclasses.replace(dataset, expert=dataclasses.replace(expert, action=action))

    def build(self) -> None:
        self.policy = self.make_policy()

    def update(self, batch: Batch) -> Metrics:
        # Policy: log-likelihood of the background's actions and of the expert's labels.
        e, b = batch.expert, batch.background
        assert e is not None
        assert e.action is not None
        assert b.action is not None
        outputs = self.policy.outputs(torch.cat([e.obs, b.obs], 1))  # [P, B, ...]
        loss, gradient = self.policy.loss(outputs, torch.cat([e.action, b.action], 1))
        self.descend([(outputs, gradient)], self.policy)
        return {"policy_loss": loss}
