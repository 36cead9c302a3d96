"""Members of a run, and how they split into populations that train together."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastifo.algos.config import Config, expand, shape_key


@dataclass(frozen=True)
class Member:
    """One policy of a run."""

    seed: int
    config: Config
    dataset: int = 0  # its place in the run's datasets


@dataclass(frozen=True)
class Group:
    """Members whose configs differ in floats only: one population."""

    index: int
    members: tuple[int, ...]  # places in the run's list of members
    seeds: tuple[int, ...]
    configs: tuple[Config, ...]
    datasets: tuple[int, ...]


def make_members(
    algorithm: str,
    config: type[Config],
    seeds: int | Sequence[int],
    overrides: Mapping[str, Any],
    num_datasets: int = 1,
) -> list[Member]:
    """The product of datasets, overridden values and seeds; seeds vary fastest.

    Raises TypeError or ValueError naming the argument.
    """
    try:
        wanted = [operator.index(s) for s in (seeds if isinstance(seeds, Iterable) else [seeds])]
    except TypeError:
        raise TypeError(f"seeds: expected an integer or several, found {seeds!r}") from None
    if not wanted:
        raise ValueError("seeds: expected one or more, found none")
    for seed in wanted:
        if not 0 <= seed < 2**32:
            raise ValueError(f"seeds: expected integers from 0 to 2**32 - 1, found {seed!r}")
    values = expand(config, overrides, owner=algorithm)
    return [
        Member(seed, value, dataset)
        for dataset in range(num_datasets)
        for value in values
        for seed in wanted
    ]


def group_members(members: Sequence[Member]) -> list[Group]:
    """Populations in the order of their first member."""
    places: dict[Any, list[int]] = {}
    for place, member in enumerate(members):
        places.setdefault(shape_key(member.config), []).append(place)
    return [
        Group(
            index=index,
            members=tuple(own),
            seeds=tuple(members[place].seed for place in own),
            configs=tuple(members[place].config for place in own),
            datasets=tuple(members[place].dataset for place in own),
        )
        for index, own in enumerate(places.values())
    ]
