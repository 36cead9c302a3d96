"""Several datasets as one, for a population whose members learn from different datasets."""

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes


def check_compatible(datasets: Sequence[Dataset]) -> None:
    """Raises ValueError if the datasets differ in a way that keeps them from sharing a run.

    They must agree in environment and its settings, observation and action width, cameras, action
    bounds, and in whether they have expert episodes.
    """
    expected = _signature(datasets[0])
    for index, dataset in enumerate(datasets[1:], 1):
        for name, value in _signature(dataset).items():
            if value != expected[name]:
                raise ValueError(
                    f"dataset {index}: expected {name} {expected[name]} as in dataset 0, "
                    f"found {value}; only datasets of the same task can train together"
                )


def _signature(dataset: Dataset) -> dict[str, object]:
    """What all datasets of a run must have in common."""
    return {
        "env_id": dataset.env_id,
        "env_kwargs": dict(dataset.env_kwargs),
        "obs_keys": list(dataset.obs_keys),
        "observation width": dataset.obs_dim,
        "cameras": list(dataset.cameras),
        "action width": dataset.action_dim,
        "action_low": _bound(dataset.action_low),
        "action_high": _bound(dataset.action_high),
        "expert": dataset.expert is not None,
    }


def _bound(value: Tensor | None) -> list[float] | None:
    return None if value is None else value.tolist()


def stacked(datasets: Sequence[Dataset], dataset_of_member: Sequence[int]) -> Dataset:
    """All datasets end to end, with the range of transitions that each member draws from.

    dataset_of_member: [P], index into `datasets`; members of the same dataset must be neighbours.
    """
    if len(datasets) == 1:
        return datasets[0]
    background = _joined([dataset.background for dataset in datasets], dataset_of_member)
    experts = [dataset.expert for dataset in datasets if dataset.expert is not None]
    expert = _joined(experts, dataset_of_member) if len(experts) == len(datasets) else None
    return dataclasses.replace(datasets[0], background=background, expert=expert)


def _joined(parts: Sequence[Episodes], part_of_member: Sequence[int]) -> Episodes:
    """The parts end to end; equal parts are stored once, as SIBench's demonstrations often are."""
    unique: list[Episodes] = []
    index_of_part = []
    for part in parts:
        equal = [i for i, other in enumerate(unique) if part == other]
        index_of_part.append(equal[0] if equal else len(unique))
        if not equal:
            unique.append(part)
    counts = torch.tensor([part.num_transitions for part in unique], device="cpu")
    first = counts.cumsum(0) - counts
    index_of_member = torch.tensor([index_of_part[part] for part in part_of_member], device="cpu")
    ranges = torch.stack([first[index_of_member], counts[index_of_member]], 1)
    return dataclasses.replace(Episodes.joined(unique), ranges=ranges)


def member_ranges(episodes: Episodes, members: int) -> Iterator[tuple[slice, int, int]]:
    """Yields (members, first transition, count) for each run of members that share a range.

    members: the population's size P.  Without `Episodes.ranges` all members share all transitions.
    """
    if episodes.ranges is None:
        yield slice(0, members), 0, episodes.num_transitions
        return
    ranges = [(int(first), int(count)) for first, count in episodes.ranges.tolist()]
    begin = 0
    for end in range(1, members + 1):
        if end == members or ranges[end] != ranges[begin]:
            yield slice(begin, end), *ranges[begin]
            begin = end
