"""Numbers in texts and tables have sensible digits; values of settings are read from text."""

import math
from typing import Any

import pytest

from fastifo.utils.text import number_texts, parse_value


@pytest.mark.parametrize(
    ("values", "spread", "texts"),
    [
        ([0.6, 0.2], None, ["0.60", "0.20"]),
        ([1.0, 0.05], None, ["1.00", "0.05"]),
        ([0.0, 0.0], None, ["0.0", "0.0"]),
        ([-749.2, -144.1], None, ["-749", "-144"]),
        ([3715.4, 1.2], None, ["3715", "1"]),
        ([9.87, -1.2], None, ["9.87", "-1.20"]),
        ([12.34], None, ["12.3"]),
        ([0.0123, 0.004], None, ["0.012", "0.004"]),
        ([1000.2], (1000.0, 1000.4), ["1000.2"]),
        ([1000.2], (1000.0, 1000.01), ["1000.20"]),
        ([1000.2], (1000.0, 1000.0), ["1000"]),
        ([3715.0], (3712.0, 3718.0), ["3715"]),
        ([math.nan, 2.5], None, ["nan", "2.50"]),
        ([], None, []),
    ],
)
def test_numbers_show_three_digits_or_two_below_one(
    values: list[float], spread: tuple[float, float] | None, texts: list[str]
) -> None:
    assert number_texts(values, spread) == texts


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("-0.5", -0.5), ("1e-3", 1e-3), ("true", True), ("True", True), ("false", False),
        ("null", None), ("None", None), ("[1, 2]", [1, 2]), ("(1, 2)", (1, 2)), ("'a'", "a"),
        ('"a"', "a"), ('{"a": true}', {"a": True}), ("1.4", 1.4), ("1.4.1", "1.4.1"),
        ("text", "text"), ("NaN", "NaN"), ("", ""), ("a(b)", "a(b)"),
        ("[" * 5000, "[" * 5000), ("-", "-"),
    ],
)  # fmt: skip
def test_a_value_is_json_a_literal_or_text(text: str, value: Any) -> None:
    result = parse_value(text)
    assert type(result) is type(value)
    assert result == value
