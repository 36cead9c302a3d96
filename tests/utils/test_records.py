"""Records compare arrays by content and print only their sizes."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from fastifo.utils.records import Record, brief, same


@dataclass(frozen=True, eq=False, repr=False)
class Sample(Record):
    values: Any
    name: str = "a"
    spent_s: float = field(default=0.0, compare=False)


@dataclass
class Settings:
    rate: float = 0.1
    widths: tuple[int, ...] = (8, 8)
    names: list[str] = field(default_factory=list)


ARRAYS: list[Any] = [
    np.arange(6.0).reshape(2, 3),
    np.array([1.0, np.nan]),
    torch.arange(4),
    torch.tensor([float("nan"), 2.0]),
    [np.ones(2), np.ones(3)],
    {"a": torch.ones(2), "b": None},
    float("nan"),
]


@pytest.mark.parametrize("value", ARRAYS, ids=brief)
def test_equal_content_is_equal(value: Any) -> None:
    def copied(x: Any) -> Any:
        if isinstance(x, list):
            return [copied(each) for each in x]
        if isinstance(x, dict):
            return {key: copied(each) for key, each in x.items()}
        return x.clone() if isinstance(x, torch.Tensor) else np.copy(x)[()]

    first, second = Sample(value, spent_s=1.0), Sample(copied(value))
    assert first == second
    assert hash(first) == hash(second)
    assert first != dataclasses.replace(second, name="b")
    assert first != 3
    assert first in [second]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones(2), np.ones(3)),
        (np.ones(2), np.ones(2, np.float32)),
        (np.ones(2), torch.ones(2)),
        (torch.ones(2), torch.ones(2).double()),
        (torch.ones(2), torch.tensor([1.0, 2.0])),
        ([1, 2], (1, 2)),
        ({"a": 1}, {"b": 1}),
        ([np.zeros(1)], [np.ones(1)]),
        (None, np.ones(1)),
    ],
    ids=str,
)
def test_other_content_differs(a: Any, b: Any) -> None:
    assert not same(a, b)
    assert Sample(a) != Sample(b)


def test_the_text_of_a_record_has_sizes_and_no_numbers() -> None:
    text = repr(Sample(np.zeros((300, 4), np.float32), "b" * 100))
    assert text == f"Sample(values=float32[300, 4], name='{'b' * 57}...', spent_s=0.0)"
    assert brief([torch.zeros(2, dtype=torch.int64)]) == "[int64[2]]"
    assert brief(list(range(100))) == "[0, 1, 2, 3, 4, 5, ... 100 in all]"
    assert brief({"a": np.zeros(2)}) == "{'a': float64[2]}"
    assert brief(Settings(0.2)) == "Settings(rate=0.2, names=[])"
    assert brief(None) == "None"
