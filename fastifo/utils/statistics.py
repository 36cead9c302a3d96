"""Bootstrap intervals of mean returns, and aggregate scores over tasks and seeds.

Source: Agarwal et al. 2021, arXiv:2108.13264 (interquartile mean, stratified bootstrap); Wilson
1927 (interval of a rate).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
QUANTILE = 1.959964  # of the standard normal distribution, for 95 %


def interquartile_mean(scores: Floats) -> float:
    """Mean of the middle half of all scores.  scores: any shape."""
    flat = np.sort(scores, axis=None)
    cut = int(0.25 * flat.size)
    return float(flat[cut : flat.size - cut].mean())


def stratified_interval(
    scores: Floats,
    resamples: int = 2000,
    statistic: Callable[[Floats], float] = interquartile_mean,
) -> tuple[float, float]:
    """95 % stratified percentile bootstrap of a statistic: runs are resampled per task.

    scores: [runs, tasks].  statistic: of such an array.  Returns (low, high).  The interval covers
    variation between seeds on these tasks, not variation between tasks.
    """
    rng = np.random.default_rng(0)
    runs, tasks = scores.shape
    column = np.arange(tasks)
    values = [
        statistic(scores[rng.integers(0, runs, (runs, tasks)), column]) for _ in range(resamples)
    ]
    return _middle(values)


def bootstrap_interval(values: Floats, resamples: int = 2000) -> tuple[float, float]:
    """95 % stratified percentile bootstrap of the mean: episodes are redrawn within each member.

    values: [P, E]; nan is left out.

    Returns (low, high). The interval covers evaluation noise of these members, not variation
    between seeds; tables show the spread between seeds in a separate column.
    """
    rng = np.random.default_rng(0)
    members, episodes = values.shape
    means, mean_of = np.empty(resamples), np.nanmean if np.isnan(values).any() else np.mean
    for i in range(resamples):
        index = rng.integers(0, episodes, (members, episodes))
        means[i] = mean_of(np.take_along_axis(values, index, 1))
    return _middle(means)


def _middle(values: Sequence[float] | Floats) -> tuple[float, float]:
    """Ends of the middle 95 % of resampled values."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def wilson_interval(successes: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a rate, (low, high).

    It is never empty, and stays within [0, 1] for rates near the ends.
    successes: among `count` independent trials.
    Raises ValueError for no trials.
    """
    if count < 1:
        raise ValueError(f"count: expected at least 1, found {count}")
    rate, scale = successes / count, QUANTILE**2 / count
    center = (rate + 0.5 * scale) / (1.0 + scale)
    half = QUANTILE * math.sqrt((rate * (1.0 - rate) + 0.25 * scale) / count) / (1.0 + scale)
    return max(0.0, center - half), min(1.0, center + half)


def mean_of_rows(values: Floats) -> Floats:
    """Mean of each row without nan, [P]; nan where a row has nothing else.  values: [P, E]."""
    means = [np.nanmean(row) if not np.isnan(row).all() else np.nan for row in values]
    return np.array(means, np.float64)
