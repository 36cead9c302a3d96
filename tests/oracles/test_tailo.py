"""The TAILO oracle equals values worked out by hand."""

import math
from typing import Any

import pytest

from . import tailo
from .problems import make_config


def config(**changed: Any) -> dict[str, Any]:
    fields = {"ratio_exponent": 1.0, "negative_share": 0.8, "gradient_penalty": 10}
    return make_config(gamma=0.5) | fields | changed


def test_weights_of_two_short_episodes() -> None:
    log2 = math.log(2.0)
    # Ratios 1, 2 and 4; the last one of an episode counts twice, because 1 / (1 - gamma) is 2.
    result = tailo.weights([[0.0, log2], [2 * log2]], config())
    assert result[0] == pytest.approx([(1 + 0.5 * 4) / 8, 4 / 8])
    assert result[1] == pytest.approx([1.0])


def test_a_ratio_exponent_of_0_weights_all_transitions_alike() -> None:
    result = tailo.weights([[3.0, -1.0, 7.0], [0.2]], config(ratio_exponent=0.0))
    assert [w for each in result for w in each] == pytest.approx([1.0] * 4)


def test_negatives_are_below_the_interpolated_quantile() -> None:
    scores = [[4.0], [0.0, 2.0], [3.0], [2.0], [0.0]]  # means 4, 1, 3, 2, 0
    assert tailo.negatives(scores, config(negative_share=0.8)) == [1, 2, 3, 4]  # limit 3.2
    assert tailo.negatives(scores, config(negative_share=0.5)) == [1, 4]  # limit 2
    assert tailo.negatives(scores, config(negative_share=0.01)) == [4]
    assert tailo.negatives([[1.0], [1.0]], config()) == [0]
