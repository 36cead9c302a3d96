"""Aggregate statistics against rliable, the library of the paper's authors."""

import numpy as np
import pytest
from rliable import library, metrics

from fastifo.utils.statistics import interquartile_mean, stratified_interval


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (5, 7), (2, 9)])
def test_interquartile_mean(shape: tuple[int, int]) -> None:
    scores = np.random.default_rng(0).standard_normal(shape)
    assert interquartile_mean(scores) == pytest.approx(metrics.aggregate_iqm(scores), rel=1e-12)


def test_interval() -> None:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((5, 12)) + np.arange(12)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.array([metrics.aggregate_iqm(values)])

    np.random.seed(0)  # noqa: NPY002  rliable uses the global generator
    _, intervals = library.get_interval_estimates({"a": scores}, mean, reps=4000)
    low, high = stratified_interval(scores, resamples=4000)
    width = float(intervals["a"][1, 0] - intervals["a"][0, 0])
    assert low == pytest.approx(float(intervals["a"][0, 0]), abs=0.05 * width)
    assert high == pytest.approx(float(intervals["a"][1, 0]), abs=0.05 * width)


def test_the_interval_of_equal_runs_is_a_point() -> None:
    assert stratified_interval(np.full((3, 2), 7.0)) == (7.0, 7.0)
