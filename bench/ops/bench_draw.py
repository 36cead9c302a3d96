"""`draw` and `draw_windows` against torch.randint, whose numbers are not a function of the seed.

For windows torch.randint is followed by a look-up in a table of all windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from bench.timing import Case
from fastifo.ops import draw, draw_windows

BATCH_SIZE = 256
NUM_ROWS = 1_000_000  # transitions to draw from
NUM_EPISODES = 1_000


def cases(device: torch.device) -> Iterator[Case]:
    """The row indices of one training update, for populations of three sizes."""
    for members in (1, 16, 64):
        shape = (members, BATCH_SIZE)
        size, size_bytes = f"{members} x {BATCH_SIZE}", 8 * members * BATCH_SIZE
        seed = torch.arange(members, device=device)
        update = torch.zeros(1, dtype=torch.int64, device=device)
        ours = partial(draw, seed, update, 0, NUM_ROWS, BATCH_SIZE)
        randint = partial(torch.randint, NUM_ROWS, shape, device=device)
        yield Case("draw", size, "ours", [ours], size_bytes)
        yield Case("draw", size, "torch.randint", [randint], size_bytes)

        length = NUM_ROWS // NUM_EPISODES
        first = torch.arange(0, NUM_ROWS, length, device=device)
        before = torch.arange(NUM_EPISODES + 1, device=device) * (length - 2)
        table = (first[:, None] + torch.arange(length - 2, device=device)).flatten()

        def look_up(shape: tuple[int, int] = shape, table: torch.Tensor = table) -> torch.Tensor:
            return table[torch.randint(len(table), shape, device=table.device)]

        ours = partial(draw_windows, seed, update, 0, first, before, BATCH_SIZE)
        yield Case("draw_windows", size, "ours", [ours], size_bytes)
        yield Case("draw_windows", size, "torch.randint and table", [look_up], size_bytes)
