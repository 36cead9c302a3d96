"""Config fields: types, ranges, sweeps, names, and conversion to and from JSON."""

import dataclasses
import json
import math
import re
from typing import Any

import pytest

from fastifo.algos import ALGORITHMS
from fastifo.algos.awr import AWR
from fastifo.algos.config import (
    LIMITS,
    Config,
    expand,
    field_help,
    float_fields,
    from_json,
    shape_key,
    to_json,
)
from fastifo.utils.text import did_you_mean

CONFIGS = [learner.Config for learner in ALGORITHMS.values()]


def test_without_overrides_there_is_one_default_config() -> None:
    assert expand(Config, {}) == [Config()]


def test_lists_give_every_combination_and_the_last_varies_fastest() -> None:
    configs = expand(Config, {"learning_rate": [1e-3, 1e-4], "kernel_width": [0.02, 0.08]})
    assert [(c.learning_rate, c.kernel_width) for c in configs] == [
        (1e-3, 0.02),
        (1e-3, 0.08),
        (1e-4, 0.02),
        (1e-4, 0.08),
    ]


def test_a_list_of_sizes_is_one_value_and_a_list_of_lists_is_a_sweep() -> None:
    assert [c.hidden_sizes for c in expand(Config, {"hidden_sizes": [8, 4]})] == [(8, 4)]
    configs = expand(Config, {"hidden_sizes": [[8], (4, 4), []]})
    assert [c.hidden_sizes for c in configs] == [(8,), (4, 4), ()]
    assert expand(Config, {"encoder_scales": []})[0].encoder_scales == ()


@pytest.mark.parametrize(
    ("method", "field", "value", "message"),
    [
        ("smodice", "disc_activation", "gelu", "expected one of relu, elu, silu, tanh, found"),
        ("tailo", "disc_activation", "gelu", "expected one of relu, elu, silu, tanh, found"),
        ("tailo", "disc_hidden_sizes", (0,), "expected widths of at least 1, found (0,)"),
        ("pw_dice", "embedding_hidden_sizes", (0,), "expected widths of at least 1, found (0,)"),
        ("smodice", "disc_init", "zeros", "expected one of fan_in_uniform, orthogonal"),
    ],
)
def test_fields_of_a_stages_net_are_checked_before_it_trains(
    method: str, field: str, value: object, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{field}: {message}")):
        expand(ALGORITHMS[method].Config, {field: value})


def test_whole_numbers_are_converted_to_the_type_of_their_field() -> None:
    (config,) = expand(Config, {"learning_rate": 1, "batch_size": 64.0})
    assert isinstance(config.learning_rate, float)
    assert isinstance(config.batch_size, int)


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("learning_rate", "fast", TypeError, "learning_rate: expected float, found 'fast' (str)"),
        ("learning_rate", True, TypeError, "learning_rate: expected float, found True (bool)"),
        ("learning_rate", math.nan, ValueError, "learning_rate: expected a number, found nan"),
        (
            "learning_rate",
            math.inf,
            ValueError,
            "learning_rate: expected a finite number, found inf",
        ),
        ("learning_rate", 0.0, ValueError, "learning_rate: expected above 0, found 0.0"),
        ("learning_rate", [], ValueError, "learning_rate: expected one or more values"),
        ("weight_decay", -1.0, ValueError, "weight_decay: expected at least 0, found -1.0"),
        ("batch_size", 0, ValueError, "batch_size: expected at least 1, found 0"),
        ("batch_size", 2.5, TypeError, "batch_size: expected int, found 2.5 (float)"),
        ("batch_size", math.inf, TypeError, "batch_size: expected int, found inf (float)"),
        ("standardize_obs", 1, TypeError, "standardize_obs: expected bool, found 1 (int)"),
        ("hidden_sizes", 512, TypeError, "hidden_sizes: expected tuple[int, ...], found 512"),
        ("hidden_sizes", (512, "a"), TypeError, "hidden_sizes: expected int, found 'a' (str)"),
        ("hidden_sizes", (512, 0), ValueError, "hidden_sizes: expected widths of at least 1"),
        ("encoder_scales", (1.0, -1.0), ValueError, "encoder_scales: expected all above 0"),
        ("num_bins", 1, ValueError, "num_bins: expected at least 2, found 1"),
        ("kernel_width", 0.0, ValueError, "kernel_width: expected above 0"),
        ("activation", "gelu", ValueError, "activation: expected one of relu, elu, silu"),
        (
            "init",
            "zeros",
            ValueError,
            "init: expected one of fan_in_uniform, orthogonal, xavier_uniform",
        ),
        ("kernel_reading", "logit", ValueError, "kernel_reading: expected one of logits"),
    ],
)
def test_the_error_of_a_bad_value_names_field_expectation_and_value(
    field: str, value: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        expand(Config, {field: value})
    assert str(caught.value).startswith(message)


def test_the_error_of_an_unknown_field_suggests_the_nearest_name() -> None:
    with pytest.raises(TypeError, match="has no field 'temprature'; did you mean 'temperature'"):
        expand(AWR.Config, {"temprature": 1.0})


def test_a_name_without_near_match_lists_all_names() -> None:
    assert did_you_mean("zzz", ["beta", "alpha"]) == "known: alpha, beta"


@pytest.mark.parametrize("config", CONFIGS)
def test_every_field_has_help(config: type[Config]) -> None:
    assert [name for name, text in field_help(config).items() if not text] == []


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_survives_the_round_trip_through_json(config: type[Config]) -> None:
    limits: dict[str, Any] = {name: math.inf for name in LIMITS if hasattr(config(), name)}
    before = config(hidden_sizes=(3, 2), **limits)
    assert from_json(config, json.loads(json.dumps(to_json(before), allow_nan=False))) == before


def test_a_field_of_a_newer_version_is_refused() -> None:
    with pytest.raises(ValueError, match="Config has no field 'momentum'; update fastifo"):
        from_json(Config, {"momentum": 0.9})


@pytest.mark.parametrize("config", CONFIGS)
def test_only_floats_vary_inside_a_population(config: type[Config]) -> None:
    default = config()
    varying = float_fields(config)
    assert "learning_rate" in varying
    for name in varying:
        assert isinstance(getattr(default, name), float)
    changed = dataclasses.replace(default, learning_rate=1.0)
    assert shape_key(changed) == shape_key(default)
    for other in ({"batch_size": 8}, {"hidden_sizes": (1,)}, {"activation": "elu"}):
        assert shape_key(dataclasses.replace(default, **other)) != shape_key(default)


def test_configs_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().batch_size = 3  # type: ignore[misc]
