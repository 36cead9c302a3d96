"""One member in torch: in CORL's style, and tuned with preallocated batches and fused Adam."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.peers import problem as p


def mlp(outputs: int, hidden: int) -> nn.Sequential:
    """A net on encoded observations with two hidden layers."""
    sizes = [p.WIDTH, hidden, hidden, outputs]
    layers: list[nn.Module] = []
    for i, o in itertools.pairwise(sizes):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def encode(obs: Tensor, scales: Tensor) -> Tensor:
    """tanh(scale * obs) for every scale, feature-major: [..., D] -> [..., D * S]."""
    return torch.tanh(obs.unsqueeze(-1) * scales).flatten(-2)


def losses(
    value: nn.Module,
    target: nn.Module,
    policy: nn.Module,
    obs: Tensor,
    next_obs: Tensor,
    bins: Tensor,
    scales: Tensor,
    kernel: Tensor,
) -> tuple[Tensor, Tensor]:
    """The value loss and the policy loss of a batch whose first half is the expert's."""
    size = p.BATCH_SIZE
    x = encode(obs, scales)
    v = value(x).squeeze(-1)
    with torch.no_grad():
        reward = torch.zeros(2 * size)
        reward[:size] = 1.0
        y = reward + p.GAMMA * target(encode(next_obs, scales)).squeeze(-1)
        weight = torch.exp((y - v)[size:] / p.TEMPERATURE).clamp(max=p.MAX_WEIGHT)
    error = (y - v).square()
    value_loss = (1 - p.ALPHA) * error[:size].mean() + p.ALPHA * error[size:].mean()
    logits = policy(x[size:]).view(size, p.ACTION_DIM, p.NUM_BINS) @ kernel
    log_prob = F.log_softmax(logits.float(), -1).gather(-1, bins.unsqueeze(-1)).squeeze(-1).sum(-1)
    return value_loss, -(weight * log_prob).mean()


class Corl:
    """CORL's style: indices from numpy, an optimizer per net, losses read on the host each step."""

    members = 1

    def __init__(self, columns: dict[str, np.ndarray], hidden: int) -> None:
        self.data = {name: torch.from_numpy(column) for name, column in columns.items()}
        self.value, self.policy = mlp(1, hidden), mlp(p.ACTION_DIM * p.NUM_BINS, hidden)
        self.target = copy.deepcopy(self.value).requires_grad_(False)
        self.optimizers = [
            torch.optim.Adam(net.parameters(), lr=p.LEARNING_RATE)
            for net in (self.value, self.policy)
        ]
        self.scales, self.kernel = torch.tensor(p.SCALES), torch.from_numpy(p.kernel()).t()
        self.rng = np.random.default_rng(0)
        self.updates = 0
        self.logged: dict[str, float] = {}

    def step(self) -> None:
        """Makes one update."""
        e = self.rng.integers(0, p.NUM_EXPERT, size=p.BATCH_SIZE)
        b = self.rng.integers(0, p.NUM_BACKGROUND, size=p.BATCH_SIZE)
        d = self.data
        obs = torch.cat([d["expert_obs"][e], d["background_obs"][b]])
        next_obs = torch.cat([d["expert_next_obs"][e], d["background_next_obs"][b]])
        value_loss, policy_loss = losses(
            self.value, self.target, self.policy, obs, next_obs, d["bin"][b], self.scales,
            self.kernel,
        )  # fmt: skip
        for optimizer, loss in zip(self.optimizers, (value_loss, policy_loss), strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.updates += 1
        if self.updates % p.TARGET_PERIOD == 0:
            self.target.load_state_dict(self.value.state_dict())
        self.logged = {"value_loss": value_loss.item(), "policy_loss": policy_loss.item()}


class Tuned:
    """Preallocated batches, each observation stored next to its successor, one fused Adam."""

    members = 1

    def __init__(
        self, columns: dict[str, np.ndarray], hidden: int, compiles: bool, bf16: bool = False
    ) -> None:
        d = {name: torch.from_numpy(column) for name, column in columns.items()}
        self.expert = torch.cat([d["expert_obs"], d["expert_next_obs"]], 1)
        self.background = torch.cat([d["background_obs"], d["background_next_obs"]], 1)
        self.bins = d["bin"]
        self.value, self.policy = mlp(1, hidden), mlp(p.ACTION_DIM * p.NUM_BINS, hidden)
        self.target = copy.deepcopy(self.value).requires_grad_(False)
        trained = [*self.value.parameters(), *self.policy.parameters()]
        self.optimizer = torch.optim.Adam(trained, lr=p.LEARNING_RATE, fused=True)
        self.scales, self.kernel = torch.tensor(p.SCALES), torch.from_numpy(p.kernel()).t()
        self.rows = torch.empty(2 * p.BATCH_SIZE, 2 * p.OBS_DIM)
        self.chosen = torch.empty(p.BATCH_SIZE, p.ACTION_DIM, dtype=torch.int64)
        self.index = torch.empty(p.BATCH_SIZE, dtype=torch.int64)
        self.losses: Callable[..., tuple[Tensor, Tensor]] = (
            torch.compile(losses, dynamic=False) if compiles else losses
        )
        self.bf16 = bf16
        self.updates = 0

    def step(self) -> None:
        """Makes one update."""
        size = p.BATCH_SIZE
        torch.index_select(self.expert, 0, self.index.random_(p.NUM_EXPERT), out=self.rows[:size])
        self.index.random_(p.NUM_BACKGROUND)
        torch.index_select(self.background, 0, self.index, out=self.rows[size:])
        torch.index_select(self.bins, 0, self.index, out=self.chosen)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            value_loss, policy_loss = self.losses(
                self.value, self.target, self.policy, self.rows[:, : p.OBS_DIM],
                self.rows[:, p.OBS_DIM :], self.chosen, self.scales, self.kernel,
            )  # fmt: skip
        self.optimizer.zero_grad(set_to_none=True)
        (value_loss + policy_loss).backward()
        self.optimizer.step()
        self.updates += 1
        if self.updates % p.TARGET_PERIOD == 0:
            with torch.no_grad():
                torch._foreach_copy_(list(self.target.parameters()), list(self.value.parameters()))
