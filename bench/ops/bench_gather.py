"""`gather` of five columns against five index_select, plain and with the encoder behind."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bench.ops import compiled, populations
from bench.timing import Case
from fastifo.ops import draw
from fastifo.ops.gather import Gatherer

BATCH_SIZE = 256
NUM_ROWS = 200_000
OBS_DIM, ACTION_DIM = 17, 6  # Walker2d, HalfCheetah
SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
ROTATION = 8  # index tensors taken in turn


def cases(device: torch.device) -> Iterator[Case]:
    """Observation, next observation, action, reward, terminal."""
    obs = torch.randn(NUM_ROWS + 1, OBS_DIM, device=device)
    row = torch.arange(NUM_ROWS, device=device)
    action = torch.rand(NUM_ROWS, ACTION_DIM, device=device)
    reward, terminal = torch.rand(2, NUM_ROWS, device=device)
    for members in populations(device):
        seed = torch.arange(members, device=device)
        turns = [torch.tensor([turn], device=device) for turn in range(ROTATION)]
        indices = [draw(seed, turn, 0, NUM_ROWS, BATCH_SIZE) for turn in turns]
        for scales in ((), SCALES):
            scale = torch.tensor(scales, device=device)

            ours = Gatherer(row, obs, scale, None, None, 2, [action, reward, terminal], [],
                            reuses=True)  # fmt: skip

            def eager(index: Tensor, scale: Tensor = scale) -> list[Tensor]:
                flat = index.view(-1)
                at = row.index_select(0, flat)
                found = [obs.index_select(0, at), obs.index_select(0, at + 1)]
                found += [column.index_select(0, flat) for column in (action, reward, terminal)]
                if scale.numel() > 0:
                    found[:2] = [torch.tanh(x.unsqueeze(-1) * scale).flatten(-2) for x in found[:2]]
                return [x.view(*index.shape, *x.shape[1:]) for x in found]

            numbers = 2 * OBS_DIM * (1 + max(1, len(scales))) + 2 * (ACTION_DIM + 2)
            size_bytes = members * BATCH_SIZE * (8 + 4 * numbers)
            size = f"{members} x {BATCH_SIZE} x {OBS_DIM}" + (", encoded" if scales else "")
            variants = {"ours": ours, "eager": eager, **compiled(eager)}
            for variant, call in variants.items():
                calls = [lambda index=index, call=call: call(index) for index in indices]
                yield Case("gather", size, variant, calls, size_bytes)
