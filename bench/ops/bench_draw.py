"""`draw` against torch.randint, which is no function of the seed, and against its reference."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from bench.timing import Case
from fastifo.ops import draw
from fastifo.ops.draw import draw_reference

BATCH_SIZE = 256
NUM_ROWS = 1_000_000  # transitions to draw from


def cases(device: torch.device) -> Iterator[Case]:
    """One training update's row indices for populations of three sizes."""
    for members in (1, 16, 64):
        shape = (members, BATCH_SIZE)
        seed = torch.arange(members, device=device)
        update = torch.zeros(1, dtype=torch.int64, device=device)
        variants = {
            "ours": partial(draw, seed, update, 0, NUM_ROWS, BATCH_SIZE),
            "torch.randint": partial(torch.randint, NUM_ROWS, shape, device=device),
            "reference": partial(draw_reference, seed, update, 0, NUM_ROWS, BATCH_SIZE),
        }
        for variant, call in variants.items():
            yield Case(
                "draw", f"{members} x {BATCH_SIZE}", variant, [call], 8 * members * BATCH_SIZE
            )
