"""A population in torch: batched products, one fused Adam for all, on a GPU a CUDA graph."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.peers import problem as p
from bench.peers.eager import encode
from fastifo.engine.graph import GraphedStep


def net(parameters: list[Tensor], x: Tensor) -> Tensor:
    """A net with two hidden layers for every member: [P, B, inputs] -> [P, B, outputs]."""
    w1, b1, w2, b2, w3, b3 = parameters
    x = F.relu(torch.baddbmm(b1, x, w1))
    x = F.relu(torch.baddbmm(b2, x, w2))
    return torch.baddbmm(b3, x, w3)


class Population:
    """All members' nets as stacked tensors, stepped together."""

    def __init__(
        self,
        columns: dict[str, np.ndarray],
        hidden: int,
        members: int,
        bf16: bool,
        device: str = "cpu",
    ) -> None:
        d = {name: torch.from_numpy(column).to(device) for name, column in columns.items()}
        self.device = torch.device(device)
        self.expert = torch.cat([d["expert_obs"], d["expert_next_obs"]], 1)
        self.background = torch.cat([d["background_obs"], d["background_next_obs"]], 1)
        self.bins = d["bin"]
        self.members, self.bf16 = members, bf16
        self.value = self._net(1, hidden)
        self.policy = self._net(p.ACTION_DIM * p.NUM_BINS, hidden)
        self.target = [x.detach().clone() for x in self.value]
        self.optimizer = torch.optim.Adam(
            self.value + self.policy, lr=p.LEARNING_RATE, fused=True, capturable=device == "cuda"
        )
        self.scales = torch.tensor(p.SCALES, device=device)
        self.kernel = torch.from_numpy(p.kernel()).t().to(device)
        self.index = torch.empty(members * p.BATCH_SIZE, dtype=torch.int64, device=device)
        self.reward = torch.zeros(2 * p.BATCH_SIZE, device=device)
        self.reward[: p.BATCH_SIZE] = 1.0
        self.updates = 0
        self.counter = torch.zeros((), device=device)
        self.update = GraphedStep(self._update, self.device, captures=True)

    def _net(self, outputs: int, hidden: int) -> list[Tensor]:
        parameters = []
        for i, o in ((p.WIDTH, hidden), (hidden, hidden), (hidden, outputs)):
            for rows in (i, 1):
                bound = i**-0.5
                parameters.append(
                    torch.empty(self.members, rows, o, device=self.device).uniform_(-bound, bound)
                )
        return [x.requires_grad_() for x in parameters]

    def step(self) -> None:
        """Makes one update of every member."""
        self.update()
        self.updates += 1
        if self.device.type == "cpu" and self.updates % p.TARGET_PERIOD == 0:
            with torch.no_grad():
                torch._foreach_copy_(self.target, self.value)

    def _update(self) -> None:
        size, shape = p.BATCH_SIZE, (self.members, p.BATCH_SIZE, -1)
        e = self.expert[self.index.random_(p.NUM_EXPERT)].view(shape)
        b = self.background[self.index.random_(p.NUM_BACKGROUND)].view(shape)
        bins = self.bins[self.index].view(shape)
        rows = torch.cat([e, b], 1)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            x = encode(rows[..., : p.OBS_DIM], self.scales)
            v = net(self.value, x).squeeze(-1).float()
            with torch.no_grad():
                ahead = net(self.target, encode(rows[..., p.OBS_DIM :], self.scales))
                y = self.reward + p.GAMMA * ahead.squeeze(-1).float()
                weight = torch.exp((y - v)[:, size:] / p.TEMPERATURE).clamp(max=p.MAX_WEIGHT)
            error = (y - v).square()
            value_loss = (1 - p.ALPHA) * error[:, :size].mean(1) + p.ALPHA * error[:, size:].mean(1)
            logits = net(self.policy, x[:, size:]).view(*shape[:2], p.ACTION_DIM, p.NUM_BINS)
            log_probs = F.log_softmax((logits @ self.kernel).float(), -1)
            log_prob = log_probs.gather(-1, bins.unsqueeze(-1)).squeeze(-1).sum(-1)
            loss = (value_loss - (weight * log_prob).mean(1)).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.device.type == "cuda":  # a graph cannot branch: lerp by 1 once a period, else by 0
            with torch.no_grad():
                self.counter += 1
                copies = (self.counter % p.TARGET_PERIOD == 0).float()
                for old, new in zip(self.target, self.value, strict=True):
                    old.lerp_(new, copies)
