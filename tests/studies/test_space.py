"""Search spaces, proposers and schedulers, without training."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

import fastifo
from fastifo.algos import ALGORITHMS
from fastifo.studies.proposers import Outcome, propose
from fastifo.studies.schedulers import Entry, Scheduler, rank_settings
from fastifo.studies.space import (
    Choice,
    describe,
    grid_settings,
    parse_distribution,
    perturbed,
    random_settings,
    split_space,
)

CONFIG = ALGORITHMS["vfo_bin"].Config


def test_texts_and_functions_name_the_same_distributions() -> None:
    assert parse_distribution("loguniform(0.05, 5)") == fastifo.loguniform(0.05, 5)
    assert parse_distribution(" uniform(-1, 2)") == fastifo.uniform(-1, 2)
    assert parse_distribution("integers(2,8)") == fastifo.integers(2, 8)
    assert parse_distribution("choice((8, 8), (16, 16))") == fastifo.choice((8, 8), (16, 16))
    for text in ("relu", "open('x')", "loguniform", "1 +", "uniform.x(1)"):
        assert parse_distribution(text) is None
    for distribution in (fastifo.loguniform(0.05, 5), fastifo.integers(2, 8)):
        assert parse_distribution(describe(distribution)) == distribution


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loguniform(0, 1)", "loguniform: expected bounds above 0, found 0"),
        ("uniform(2, 1)", "uniform: expected low < high, found 2 and 1"),
        ("uniform(1)", r"uniform\(1\): expected uniform of two numbers or more"),
        ("uniform(1, 'a')", "uniform: expected two numbers, found 1 and 'a'"),
        ("uniform(low=1, high=2)", "expected values without names"),
        ("uniform(0, 1e999)", "uniform: expected low < high"),
        ("integers(0.5, 3)", "integers: expected whole numbers, found 0.5 and 3"),
        ("choice(1)", "choice: expected two or more values, found 1"),
    ],
)
def test_wrong_distributions_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_distribution(text)


def test_draws_have_the_distribution_that_is_asked_for() -> None:
    space: Any = {
        "a": fastifo.loguniform(0.01, 100),
        "b": fastifo.integers(1, 3),
        "c": Choice((5, 6)),
    }
    settings = random_settings(space, range(2000), seed=1)
    logs = np.log10([setting["a"] for setting in settings])
    assert logs.min() >= -2
    assert logs.max() <= 2
    assert np.histogram(logs, 4)[0] == pytest.approx([500] * 4, abs=80)  # 4 deviations
    assert Counter(setting["b"] for setting in settings).keys() == {1, 2, 3}
    assert Counter(setting["c"] for setting in settings)[5] == pytest.approx(1000, abs=90)
    assert random_settings(space, [7], seed=1) == [settings[7]]  # depends on its number alone
    assert random_settings(space, [7], seed=2) != [settings[7]]


def test_a_space_is_split_from_fields_with_one_value() -> None:
    space, fixed = split_space(
        CONFIG,
        {
            "temperature": "loguniform(0.05, 5)", "batch_size": [8, 16], "activation": ["relu"],
            "hidden_sizes": [[8], [16, 16]], "encoder_scales": [0.1, 1], "gamma": np.float32(0.5),
        },
    )  # fmt: skip
    assert space["batch_size"] == Choice((8, 16))
    assert space["hidden_sizes"] == Choice(((8,), (16, 16)))
    assert fixed == {"activation": "relu", "encoder_scales": [0.1, 1], "gamma": 0.5}
    assert list(space) == ["temperature", "batch_size", "hidden_sizes"]
    with pytest.raises(ValueError, match="temperature: expected above 0, found -1"):
        split_space(CONFIG, {"temperature": fastifo.uniform(-1, 1)})
    with pytest.raises(TypeError, match="batch_size: expected int"):
        split_space(CONFIG, {"batch_size": fastifo.uniform(1.5, 3)})
    with pytest.raises(ValueError, match="batch_size: expected different values"):
        split_space(CONFIG, {"batch_size": [8, 8]})
    with pytest.raises(TypeError, match="no field 'temprature'"):
        split_space(CONFIG, {"temprature": [1.0, 2.0]})


def test_a_grid_has_every_combination() -> None:
    space: Any = {"a": Choice((1.0, 2.0)), "b": fastifo.integers(3, 4)}
    expected = [{"a": a, "b": b} for a in (1.0, 2.0) for b in (3, 4)]
    assert grid_settings(space) == expected
    assert propose("grid", space, [1, 3], 0, []) == [expected[1], expected[3]]
    with pytest.raises(ValueError, match=r"c: expected a list .* found uniform\(0, 1\)"):
        grid_settings(space | {"c": fastifo.uniform(0, 1)})


def test_tpe_learns_from_earlier_waves_and_repeats_itself() -> None:
    pytest.importorskip("optuna", reason="the extra optuna is not installed")
    space: Any = {
        "x": fastifo.uniform(0, 1), "net": Choice(((8,), (16,))), "n": fastifo.integers(1, 4)
    }  # fmt: skip
    history = [
        Outcome(s, 100, math.nan if i == 0 else -abs(s["x"] - 0.8), i % 2 == 0)
        for i, s in enumerate(random_settings(space, range(40), 0))
    ]
    proposed = propose("tpe", space, range(40, 60), 3, history)
    assert proposed == propose("tpe", space, range(40, 60), 3, history)
    assert all(
        0 <= s["x"] <= 1 and s["net"] in ((8,), (16,)) and 1 <= s["n"] <= 4 for s in proposed
    )
    assert np.median([abs(s["x"] - 0.8) for s in proposed]) < 0.15  # of random draws: 0.3
    assert propose("tpe", space, [0], 3, []) == random_settings(space, [0], 3)


def scheduler(kind: str, keep: float) -> Scheduler:
    return Scheduler(kind, keep, {"x": fastifo.loguniform(0.1, 10), "n": Choice((8, 16))}, 5)


def entries(count: int, seeds: int = 1) -> list[Entry]:
    return [
        Entry(i, i // seeds, i % seeds, {"x": 1.0 + i, "n": 8 if i < 4 else 16})
        for i in range(count)
    ]


def test_halving_keeps_the_best_settings_over_their_seeds() -> None:
    members = entries(8, seeds=2)  # settings 0 to 3
    returns = dict(enumerate([9.0, 1.0, 4.0, 8.0, 7.0, 7.0, math.nan, 99.0]))
    assert rank_settings(members, returns)[:3] == [(2, 7.0), (1, 6.0), (0, 5.0)]
    kept = scheduler("halving", 0.5).next(members, returns, 0)
    assert [entry.member for entry in kept] == [2, 3, 4, 5]
    third = scheduler("halving", 1 / 3).next(entries(9), dict.fromkeys(range(9), 1.0), 0)
    assert [entry.member for entry in third] == [0, 1, 2]  # ties go to the first
    all_lost = scheduler("halving", 0.5).next(members, dict.fromkeys(range(8), math.nan), 0)
    assert [entry.member for entry in all_lost] == [0, 1]
    assert scheduler("none", 0.5).next(members, returns, 0) == members


def test_population_based_training_replaces_the_worst() -> None:
    members = entries(10)
    returns = {i: float(i) for i in range(10)} | {7: math.nan}
    after = scheduler("pbt", 0.8).next(members, returns, 0)
    replaced = {e.member: e for e in after if e.parent is not None}
    assert set(replaced) == {0, 7}  # a diverged member is the worst
    for member, entry in replaced.items():
        assert entry.parent in {8, 9}
        assert entry.seed == members[member].seed
        assert entry.values["n"] == 16  # the weights have the parent's shape
        parent = members[entry.parent or 0].values["x"]
        assert entry.values["x"] in {round(0.8 * parent, 6), min(10.0, round(1.25 * parent, 6))}
    assert [e for e in after if e.parent is None] == [e for e in members if e.member not in {0, 7}]
    assert after == scheduler("pbt", 0.8).next(members, returns, 0)
    assert after != scheduler("pbt", 0.8).next(members, returns, 1)
    lost = dict.fromkeys(range(10), math.nan)
    assert scheduler("pbt", 0.8).next(members, lost, 0) == members


def test_perturbed_values_stay_in_the_space() -> None:
    space: Any = {
        "x": fastifo.loguniform(0.1, 10),
        "y": Choice((0.1, 1.0, 0.5)),
        "n": Choice((1, 2)),
    }
    assert perturbed(space, {"x": 9.0, "y": 0.5, "n": 1}, [0.9, 0.9, 0.9]) == {
        "x": 10.0, "y": 1.0, "n": 1,
    }  # fmt: skip
    assert perturbed(space, {"x": 0.11, "y": 0.1, "n": 2}, [0.1, 0.1, 0.1]) == {
        "x": 0.1, "y": 0.1, "n": 2,
    }  # fmt: skip
