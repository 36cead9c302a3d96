"""The members of a run, and how they split into populations that train together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastifo.algos.config import Config, expand, shape_key
from fastifo.utils.arguments import as_seeds
from fastifo.utils.records import Record


@dataclass(frozen=True, repr=False)
class Member(Record):
    """One policy of a run: its seed, its config and the dataset it learns from."""

    seed: int  # of initial weights and batches
    config: Config  # its fields of the method
    dataset: int = 0  # index into the run's datasets


@dataclass(frozen=True, repr=False)
class Group(Record):
    """One population: members whose configs differ only in float fields."""

    index: int  # among the run's populations
    members: tuple[int, ...]  # indices into the run's members
    seeds: tuple[int, ...]  # of its members
    configs: tuple[Config, ...]  # of its members
    datasets: tuple[int, ...]  # indices into the run's datasets


def make_members(
    algorithm: str,
    config: type[Config],
    seeds: Sequence[int],
    overrides: Mapping[str, Any],
    num_datasets: int = 1,
) -> list[Member]:
    """The product of datasets, overridden values and seeds; seeds vary fastest.

    algorithm: named in error messages.
    overrides: values of config fields; a list gives one member per value.
    Raises TypeError or ValueError naming the argument that is wrong.
    """
    seed_list = as_seeds(seeds)
    configs = expand(config, overrides, owner=algorithm)
    return [
        Member(seed, member_config, dataset)
        for dataset in range(num_datasets)
        for member_config in configs
        for seed in seed_list
    ]


def group_members(members: Sequence[Member]) -> list[Group]:
    """The populations that the members form, in the order of their first member."""
    indices_of: dict[Any, list[int]] = {}
    for index, member in enumerate(members):
        indices_of.setdefault(shape_key(member.config), []).append(index)
    return [
        Group(
            index=group,
            members=tuple(indices),
            seeds=tuple(members[index].seed for index in indices),
            configs=tuple(members[index].config for index in indices),
            datasets=tuple(members[index].dataset for index in indices),
        )
        for group, indices in enumerate(indices_of.values())
    ]
