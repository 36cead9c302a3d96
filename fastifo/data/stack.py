"""Several datasets as one, for a population whose members learn from different ones."""

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes


def check_together(datasets: Sequence[Dataset]) -> None:
    """Raises ValueError where datasets cannot share a run."""
    first = datasets[0]
    for place, other in enumerate(datasets[1:], 1):
        for name, mine, found in (
            ("env_id", first.env_id, other.env_id),
            ("observation width", first.obs_dim, other.obs_dim),
            ("action width", first.action_dim, other.action_dim),
            ("action_low", _bound(first.action_low), _bound(other.action_low)),
            ("action_high", _bound(first.action_high), _bound(other.action_high)),
            ("expert", first.expert is not None, other.expert is not None),
        ):
            if mine != found:
                raise ValueError(
                    f"dataset {place}: {name} is {found}, that of the first is {mine}; only "
                    "datasets of one task train together"
                )


def stacked(datasets: Sequence[Dataset], own: Sequence[int]) -> Dataset:
    """All of them end to end, with the range of transitions that each member draws from.

    own: [P], the place of each member's dataset; members of one dataset stand side by side.
    """
    if len(datasets) == 1:
        return datasets[0]
    background = _joined([dataset.background for dataset in datasets], own)
    experts = [dataset.expert for dataset in datasets if dataset.expert is not None]
    expert = _joined(experts, own) if len(experts) == len(datasets) else None
    return dataclasses.replace(datasets[0], background=background, expert=expert)


def _joined(parts: Sequence[Episodes], own: Sequence[int]) -> Episodes:
    different: list[Episodes] = []  # SIBench's sets share their demonstrations
    place = []
    for part in parts:
        same = [i for i, other in enumerate(different) if _equal(part, other)]
        place.append(same[0] if same else len(different))
        if not same:
            different.append(part)
    counts = torch.tensor([part.num_transitions for part in different])
    first = counts.cumsum(0) - counts
    chosen = torch.tensor([place[dataset] for dataset in own])
    ranges = torch.stack([first[chosen], counts[chosen]], 1)
    return dataclasses.replace(Episodes.joined(different), ranges=ranges)


def _equal(a: Episodes, b: Episodes) -> bool:
    mine, other = a.columns(), b.columns()
    return mine.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in mine.items())


def _bound(value: Tensor | None) -> list[float] | None:
    return None if value is None else value.tolist()


def member_ranges(episodes: Episodes, members: int) -> Iterator[tuple[slice, int, int]]:
    """(members, first transition, count) of each run of members that share a range."""
    if episodes.ranges is None:
        yield slice(0, members), 0, episodes.num_transitions
        return
    ranges = [(int(first), int(count)) for first, count in episodes.ranges.tolist()]
    begun = 0
    for place in range(1, members + 1):
        if place == members or ranges[place] != ranges[begun]:
            yield slice(begun, place), *ranges[begun]
            begun = place
