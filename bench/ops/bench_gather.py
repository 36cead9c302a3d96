"""`gather` of five columns against five calls of index_select, with and without the encoder."""

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
ROTATION = 8  # index tensors used in rotation


def cases(device: torch.device) -> Iterator[Case]:
    """Gathers observation, next observation, action, reward and terminal."""
    obs = torch.randn(NUM_ROWS + 1, OBS_DIM, device=device)
    row = torch.arange(NUM_ROWS, device=device)
    action = torch.rand(NUM_ROWS, ACTION_DIM, device=device)
    reward, terminal = torch.rand(2, NUM_ROWS, device=device)
    for members in populations(device):
        seed = torch.arange(members, device=device)
        updates = [torch.tensor([update], device=device) for update in range(ROTATION)]
        indices = [draw(seed, update, 0, NUM_ROWS, BATCH_SIZE) for update in updates]
        for scales in ((), SCALES):
            scale = torch.tensor(scales, device=device)

            ours = Gatherer(row, obs, scale, None, None, 2, [action, reward, terminal], [],
                            reuses=True)  # fmt: skip

            def eager(index: Tensor, scale: Tensor = scale) -> list[Tensor]:
                flat = index.view(-1)
                first = row.index_select(0, flat)
                encoded = [obs.index_select(0, first), obs.index_select(0, first + 1)]
                if scale.numel() > 0:
                    encoded = [torch.tanh(x.unsqueeze(-1) * scale).flatten(-2) for x in encoded]
                columns = [column.index_select(0, flat) for column in (action, reward, terminal)]
                return [x.view(*index.shape, *x.shape[1:]) for x in (*encoded, *columns)]

            numbers = 2 * OBS_DIM * (1 + max(1, len(scales))) + 2 * (ACTION_DIM + 2)
            size_bytes = members * BATCH_SIZE * (8 + 4 * numbers)
            size = f"{members} x {BATCH_SIZE} x {OBS_DIM}" + (", encoded" if scales else "")
            variants = {"ours": ours, "eager": eager, **compiled(eager)}
            for variant, call in variants.items():
                calls = [lambda index=index, call=call: call(index) for index in indices]
                yield Case("gather", size, variant, calls, size_bytes)
