"""Uniform random indices per member: a pure function of the member's seed, update and purpose."""

from __future__ import annotations

import torch
from torch import Tensor

from fastifo.ops.registry import expect, launch, op

MAX_SIZE = 2**33  # the first word of Philox's counter counts pairs of indices

_WORD = 0xFFFFFFFF


def philox_reference(
    counter: tuple[int, int, int, int], key: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The four 32-bit words of Philox4x32-10.

    counter, key: 32-bit words.
    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4.3.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product0, product1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (
            product1 >> 32 ^ c1 ^ k0,
            product1 & _WORD,
            product0 >> 32 ^ c3 ^ k1,
            product0 & _WORD,
        )
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return c0, c1, c2, c3


def draw_reference(seed: Tensor, update: Tensor, purpose: int, high: int, size: int) -> Tensor:
    """`draw` in Python integers. It is slow; the tests compare the kernels with it."""
    count = int(update)
    rows = []
    for key in seed.tolist():
        row: list[int] = []
        for pair in range((size + 1) // 2):
            words = philox_reference(
                (pair & _WORD, purpose, count & _WORD, count >> 32 & _WORD),
                (key & _WORD, key >> 32 & _WORD),
            )
            row += [(words[k] | words[k + 1] << 32) * high >> 64 for k in (0, 2)]
        rows.append(row[:size])
    return torch.tensor(rows, dtype=torch.int64, device=seed.device).reshape(len(rows), size)


def draw_windows_reference(
    seed: Tensor, update: Tensor, purpose: int, first: Tensor, before: Tensor, size: int
) -> Tensor:
    """`draw_windows` in plain torch: draws among all windows, then finds the window's episode."""
    window = draw_reference(seed, update, purpose, int(before[-1]), size)
    episode = torch.searchsorted(before, window, right=True) - 1
    return first[episode] + window - before[episode]


def _check_stream(seed: Tensor, update: Tensor, purpose: int, size: int) -> None:
    """Checks the arguments that `draw` and `draw_windows` share."""
    expect("seed", seed, torch.int64, (None,))  # [P]
    expect("update", update, torch.int64, (1,), seed.device)
    if not 0 <= purpose <= _WORD:
        raise ValueError(f"purpose: expected 0 to 2^32 - 1, found {purpose}.")
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"size: expected 0 to 2^33, found {size}.")


@op(
    "draw(Tensor seed, Tensor update, int purpose, int high, int size) -> Tensor",
    reference=draw_reference,
    fake=lambda seed, update, purpose, high, size: seed.new_empty((seed.shape[0], size)),
)
def draw(seed: Tensor, update: Tensor, purpose: int, high: int, size: int) -> Tensor:
    """Random indices uniform in [0, high), int64 [P, size]; every device gives the same ones.

    Row p depends only on seed[p], update and purpose, not on p, other members or earlier calls.

    seed: one per member, int64 [P].  update: the update counter, int64 [1], on the seed's device;
    the kernel reads it there, so a replayed CUDA graph sees the new value.  purpose: distinguishes
    the draws within one update, in [0, 2^32).  high: exclusive bound in [1, 2^63).  size: indices
    per member, in [0, 2^33].
    Raises TypeError for a wrong dtype and ValueError for any other mismatch.
    """
    _check_stream(seed, update, purpose, size)
    if not 1 <= high < 2**63:
        raise ValueError(f"high: expected 1 to 2^63 - 1, found {high}.")
    members = seed.shape[0]
    out = seed.new_empty(members, size)
    launch("draw", seed.device, seed, update, out, members, size, purpose, high)
    return out


@op(
    "draw_windows(Tensor seed, Tensor update, int purpose, Tensor first, Tensor before, int size)"
    " -> Tensor",
    reference=draw_windows_reference,
    fake=lambda seed, update, purpose, first, before, size: seed.new_empty((seed.shape[0], size)),
)
def draw_windows(
    seed: Tensor, update: Tensor, purpose: int, first: Tensor, before: Tensor, size: int
) -> Tensor:
    """First transitions of random windows, uniform over all windows inside one episode.

    Uses the same random stream as `draw(..., high=before[-1])`. `Episodes.windows` makes `first`
    and `before` for single transitions, for 2 or 3 successive ones, for windows of any length, and
    for episode starts.

    first: the first transition of each episode, int64 [E].  before: the number of windows in the
    preceding episodes, int64 [E + 1]; it starts at 0 and is non-decreasing, and its last entry, the
    total, is at least 1 (checked on the CPU only).  seed, update, purpose, size: as in `draw`.
    Returns int64 [P, size].
    Raises TypeError for a wrong dtype and ValueError for any other mismatch.
    """
    _check_stream(seed, update, purpose, size)
    expect("first", first, torch.int64, (None,), seed.device)  # [E]
    episodes = first.shape[0]
    expect("before", before, torch.int64, (episodes + 1,), seed.device)
    if episodes < 1:
        raise ValueError("first: expected at least one episode, found none.")
    members = seed.shape[0]
    out = seed.new_empty(members, size)
    launch(
        "draw_windows", seed.device, seed, update, first, before, out, members, size, purpose,
        episodes,
    )  # fmt: skip
    return out
