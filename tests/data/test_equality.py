"""Equality of datasets, and independence of torch's defaults."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastifo
from data.formats.files import episodes, write_d4rl
from helpers import random_dataset


def test_datasets_are_equal_if_their_episodes_and_settings_are(tmp_path: Path) -> None:
    first = random_dataset(action_low=-2, action_high=2)
    assert first == random_dataset(action_low=-2, action_high=2)
    assert hash(first) == hash(random_dataset(action_low=-2, action_high=2))
    first.save(tmp_path / "a.fastifo")
    assert fastifo.load(tmp_path / "a.fastifo") == first
    changes: list[dict[str, Any]] = [
        {"env_id": "Hopper-v4"},
        {"env_kwargs": {"max_episode_steps": 7}},
        {"reference_returns": (0.0, 1.0)},
        {"action_low": torch.tensor([-2.0, -3.0])},
        {"action_high": None},
        {"expert": None},
        {"background": first.background.take([0, 1])},
        {"background": dataclasses.replace(first.background, reward=None)},
    ]
    for change in changes:
        other = dataclasses.replace(first, **change)
        assert (first == other, first != other) == (False, True), change
    assert dataclasses.replace(first, info={"any": 1}) == first
    assert first != 3
    assert first.background != first.expert


def test_nan_equals_nan() -> None:
    parts = episodes()
    for part in parts:
        part["reward"][0] = np.nan
    first, second = (fastifo.Dataset.from_episodes(parts) for _ in range(2))
    assert first == second
    parts[1]["reward"][1] += 1
    assert first != fastifo.Dataset.from_episodes(parts)


@contextmanager
def default(name: str) -> Iterator[None]:
    """Another default device or dtype of torch."""
    if name == "meta":
        torch.set_default_device(name)
    else:
        torch.set_default_dtype(getattr(torch, name))
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


def everything(folder: Path) -> list[Any]:
    """What data code makes of the same episodes."""
    parts = episodes()
    bounds: Any = {"action_low": [-2, -3], "action_high": 2}
    dataset = fastifo.Dataset.from_episodes(parts, parts, min_steps=1, **bounds)
    background = dataset.background
    dataset.save(folder / "a.fastifo")
    dataset.save_d4rl(folder / "a.hdf5")
    write_d4rl(folder / "b.hdf5", parts, next_observations=None)
    lists = [{key: np.asarray(value).tolist() for key, value in part.items()} for part in parts]
    return [
        dataset,
        fastifo.Dataset.from_episodes(lists, env_id="a"),
        fastifo.load(folder / "a.fastifo"),
        fastifo.load(f"d4rl:{folder / 'a.hdf5'},episodes=2"),
        fastifo.load(f"d4rl:{folder / 'b.hdf5'},action_low=-2,action_high=3"),
        fastifo.load(expert=f"d4rl:{folder / 'a.hdf5'}", background=f"d4rl:{folder / 'b.hdf5'}"),
        background.take([0, 2]),
        type(background).joined([background, background]),
        *background.windows(2),
        background.rows(),
        background.returns(),
        dataset.summary(),
    ]


@pytest.mark.parametrize("name", ["meta", "float64", "bfloat16"])
def test_data_do_not_depend_on_the_defaults_of_torch(tmp_path: Path, name: str) -> None:
    expected = everything(tmp_path)
    with default(name):
        values = everything(tmp_path)
        for value, reference in zip(values, expected, strict=True):
            is_tensor = isinstance(value, torch.Tensor)
            assert torch.equal(value, reference) if is_tensor else value == reference
