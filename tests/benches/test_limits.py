"""The limit of an update and of its parts, from given peaks."""

import pytest

from bench.limits import flop_per_s, limit_rate, part_limits
from bench.peers import problem
from bench.train import precision_of

PEAKS = {"fma": 1e12, "avx512bf16": 2e12, "adam": 1e9}


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", 1e12), ("bf16", 2e12), ("fp32x", 2e12 / 3)]
)
def test_a_precision_is_limited_by_its_unit_and_number_of_products(
    precision: str, expected: float
) -> None:
    assert flop_per_s(PEAKS, precision) == expected


def test_without_bf16_units_multiply_adds_limit_bf16() -> None:
    assert flop_per_s({"fma": 1e12, "adam": 1e9}, "bf16") == 1e12


def test_the_limit_is_the_time_of_the_products_and_of_adam() -> None:
    expected_s = problem.flops(512) / 1e12 + problem.parameters(512) / 1e9
    assert 1 / limit_rate(PEAKS, 512, "fp32") == pytest.approx(expected_s)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp32x"])
def test_the_limits_of_the_parts_add_up_to_that_of_the_update(precision: str) -> None:
    total_s = sum(part_limits(PEAKS, 512, precision).values())
    assert total_s == pytest.approx(1 / limit_rate(PEAKS, 512, precision))


@pytest.mark.parametrize(
    ("name", "precision"),
    [("fastifo native fp32x P=4", "fp32x"), ("JAX scan bf16", "bf16"), ("limit fp32", "fp32")],
)
def test_a_variant_names_its_precision(name: str, precision: str) -> None:
    assert precision_of(name) == precision
