"""Bootstrap intervals of mean returns, and aggregate scores over tasks and seeds.

Source: Agarwal et al. 2021, arXiv:2108.13264 (interquartile mean, stratified bootstrap); Wilson
1927 (interval of a rate).
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def interquartile_mean(scores: Floats) -> float:
    """Mean of the middle half of all scores.  scores: any shape."""
    flat = np.sort(scores, axis=None)
    cut = int(0.25 * flat.size)
    return float(flat[cut : flat.size - cut].mean())


def stratified_interval(
    scores: Floats,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    statistic: Callable[[Floats], float] = interquartile_mean,
) -> tuple[float, float]:
    """Stratified percentile bootstrap of a statistic: runs are resampled per task.

    scores: [runs, tasks].  statistic: of such an array.  Returns (low, high).  The interval covers
    variation between seeds on these tasks, not variation between tasks.
    """
    rng = np.random.default_rng(seed)
    runs, tasks = scores.shape
    column = np.arange(tasks)
    means = [
        statistic(scores[rng.integers(0, runs, (runs, tasks)), column]) for _ in range(resamples)
    ]
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return float(low), float(high)


def bootstrap_interval(
    values: Floats, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Stratified percentile bootstrap of the mean: episodes are redrawn within each member.

    values: [P, E]; nan is left out.
    level: share of resampled means inside the interval.

    Returns (low, high). The interval covers evaluation noise of these members, not variation
    between seeds; tables show the spread between seeds in a separate column.
    """
    rng = np.random.default_rng(seed)
    members, episodes = values.shape
    means, mean_of = np.empty(resamples), np.nanmean if np.isnan(values).any() else np.mean
    for i in range(resamples):
        index = rng.integers(0, episodes, (members, episodes))
        means[i] = mean_of(np.take_along_axis(values, index, 1))
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return float(low), float(high)


def wilson_interval(successes: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a rate, (low, high).

    It is never empty, and stays within [0, 1] for rates near the ends.
    successes: among `count` independent trials.  z: normal quantile; by default of 95 %.
    Raises ValueError for no trials.
    """
    if count < 1:
        raise ValueError(f"count: expected at least 1, found {count}")
    rate, scale = successes / count, z * z / count
    center = (rate + 0.5 * scale) / (1.0 + scale)
    half = z * math.sqrt((rate * (1.0 - rate) + 0.25 * scale) / count) / (1.0 + scale)
    return max(0.0, center - half), min(1.0, center + half)


def mean_of_rows(values: Floats) -> Floats:
    """Mean of each row without nan, [P]; nan where a row has nothing else.  values: [P, E]."""
    means = [np.nanmean(row) if not np.isnan(row).all() else np.nan for row in values]
    return np.array(means, np.float64)
