"""Sizes and data of the step that all engines are timed on: VfO-bin on HalfCheetah's sizes."""

from __future__ import annotations

import numpy as np

OBS_DIM, ACTION_DIM, NUM_BINS = 17, 6, 101
BATCH_SIZE = 256  # of each source
SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
GAMMA, TEMPERATURE, MAX_WEIGHT, ALPHA = 0.99, 1.0, 100.0, 0.5
LEARNING_RATE, TARGET_PERIOD = 3e-4, 200
KERNEL_WIDTH = 0.04
NUM_BACKGROUND, NUM_EXPERT = 1_000_000, 50_000  # transitions
WIDTH = OBS_DIM * len(SCALES)


def columns(seed: int = 0) -> dict[str, np.ndarray]:
    """Random columns: observations as each peer wants them, actions in [-1, 1] and as bins."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, count in (("background", NUM_BACKGROUND), ("expert", NUM_EXPERT)):
        for column in ("obs", "next_obs"):
            found[f"{name}_{column}"] = rng.standard_normal((count, OBS_DIM), dtype=np.float32)
    action = rng.uniform(-1, 1, (NUM_BACKGROUND, ACTION_DIM)).astype(np.float32)
    half = 0.5 * (NUM_BINS - 1)
    found["action"] = action
    found["bin"] = np.clip(np.floor((action + 1) * half + 0.5), 0, NUM_BINS - 1).astype(np.int64)
    return found


def kernel() -> np.ndarray:
    """The head's smoothing matrix, [K, K], cut at four deviations and with rows that sum to 1."""
    centre = np.linspace(-1, 1, NUM_BINS)
    offset = centre[:, None] - centre[None, :]
    matrix = np.exp(-0.5 * (offset / KERNEL_WIDTH) ** 2) * (np.abs(offset) <= 4.25 * KERNEL_WIDTH)
    matrix /= matrix.sum(1, keepdims=True)
    return np.asarray(matrix, dtype=np.float32)


def flops(hidden: int) -> float:
    """Of the matrix products of one update of one member."""
    trunk = WIDTH * hidden + hidden * hidden
    value, policy = trunk + hidden, trunk + hidden * ACTION_DIM * NUM_BINS
    not_first = hidden * hidden
    rows, own = 2 * BATCH_SIZE, BATCH_SIZE
    forward = rows * value * 2 + own * policy  # online and target, policy
    backward = rows * (value + not_first + hidden) + own * (policy + policy - WIDTH * hidden)
    return 2.0 * (forward + backward)


def parameters(hidden: int) -> int:
    """Of the two nets that train."""
    trunk = WIDTH * hidden + hidden + hidden * hidden + hidden
    return 2 * trunk + hidden + 1 + (hidden + 1) * ACTION_DIM * NUM_BINS
