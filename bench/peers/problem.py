"""The problem on which all engines are timed: VfO-bin with HalfCheetah's sizes and random data."""

from __future__ import annotations

import numpy as np

OBS_DIM, ACTION_DIM, NUM_BINS = 17, 6, 101
BATCH_SIZE = 256  # rows of each source
SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
GAMMA, TEMPERATURE, MAX_WEIGHT, ALPHA = 0.99, 1.0, 100.0, 0.5
LEARNING_RATE, TARGET_PERIOD = 3e-4, 200
KERNEL_WIDTH = 0.04
NUM_BACKGROUND, NUM_EXPERT = 1_000_000, 50_000  # transitions
WIDTH = OBS_DIM * len(SCALES)  # of an encoded observation


def columns(seed: int = 0) -> dict[str, np.ndarray]:
    """Random columns: observations and next observations, actions in [-1, 1] and as bins."""
    rng = np.random.default_rng(seed)
    data = {}
    for name, count in (("background", NUM_BACKGROUND), ("expert", NUM_EXPERT)):
        for column in ("obs", "next_obs"):
            data[f"{name}_{column}"] = rng.standard_normal((count, OBS_DIM), dtype=np.float32)
    action = rng.uniform(-1, 1, (NUM_BACKGROUND, ACTION_DIM)).astype(np.float32)
    half = 0.5 * (NUM_BINS - 1)
    data["action"] = action
    data["bin"] = np.clip(np.floor((action + 1) * half + 0.5), 0, NUM_BINS - 1).astype(np.int64)
    return data


def kernel() -> np.ndarray:
    """The head's smoothing matrix, [K, K]: Gaussian, cut at four deviations, rows sum to 1."""
    centre = np.linspace(-1, 1, NUM_BINS)
    offset = centre[:, None] - centre[None, :]
    matrix = np.exp(-0.5 * (offset / KERNEL_WIDTH) ** 2) * (np.abs(offset) <= 4.25 * KERNEL_WIDTH)
    matrix /= matrix.sum(1, keepdims=True)
    return np.asarray(matrix, dtype=np.float32)


def flops(hidden: int) -> float:
    """FLOP of the matrix products in one update of one member."""
    trunk = WIDTH * hidden + hidden * hidden
    value, policy = trunk + hidden, trunk + hidden * ACTION_DIM * NUM_BINS
    not_first = hidden * hidden
    rows, policy_rows = 2 * BATCH_SIZE, BATCH_SIZE
    forward = rows * value * 2 + policy_rows * policy  # value net and target, policy
    backward = rows * (value + not_first + hidden)
    backward += policy_rows * (policy + policy - WIDTH * hidden)
    return 2.0 * (forward + backward)


def parameters(hidden: int) -> int:
    """The number of parameters in the two trained nets."""
    trunk = WIDTH * hidden + hidden + hidden * hidden + hidden
    return 2 * trunk + hidden + 1 + (hidden + 1) * ACTION_DIM * NUM_BINS
