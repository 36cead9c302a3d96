"""What the rows of a study say: returns with intervals, and comparisons of two of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Cell = tuple[str, str, str]  # task, set, method


@dataclass(frozen=True)
class Sample:
    """A mean with a 95 % interval of its evaluation noise, and the mean of each seed."""

    mean: float
    low: float
    high: float
    seeds: tuple[float, ...] = ()  # empty for data, which have none


@dataclass(frozen=True)
class Finding:
    """One comparison that a claim needs."""

    holds: bool | None  # None: the rows do not decide it, or are missing
    text: str
    is_missing: bool = False


@dataclass(frozen=True)
class Source:
    """The rows of one file, at one size."""

    file: str  # in bench/results
    size: str  # of the networks, and the updates
    is_small: bool  # below the size of the study
    figure: str = ""  # file, or none
    document: str = ""  # describes a small study
    policies: Mapping[Cell, Sample] = field(default_factory=dict)
    backgrounds: Mapping[tuple[str, str], Sample] = field(default_factory=dict)
    experts: Mapping[tuple[str, str], float] = field(default_factory=dict)
    # The background of each policy: every machine builds a set anew, and builds differ.
    builds: Mapping[Cell, Sample] = field(default_factory=dict)
    digits: int = 0  # decimals of the numbers

    def find(self, task: str, which: str, method: str) -> Sample | None:
        """A policy's return, or the data's for the method `background`."""
        if method == "background":
            return self.backgrounds.get((task, which))
        return self.policies.get((task, which, method))

    def build(self, task: str, which: str, method: str, other: str) -> Sample | None:
        """The data that a method was trained on; of the data itself, that of the other method."""
        name = other if method == "background" else method
        return self.builds.get((task, which, name))

    def compare(
        self,
        task: str,
        which: str,
        first: str,
        second: str,
        *,
        factor: float = 1.0,
        offset: float = 0.0,
        expects: bool = True,
    ) -> Finding:
        """Whether `first` is above factor x `second` + offset.

        expects: what the claim says; False: it is below.
        """
        place = f"{task} {which}".strip()
        one, two = self.find(task, which, first), self.find(task, which, second)
        build = self.build(task, which, first, second)
        if build is not None:
            one, two = (build if m == "background" else x for m, x in ((first, one), (second, two)))
        name = f"{factor:g} x {second}" if factor != 1.0 else second
        name += f" {offset:+g}" if offset else ""
        if one is None or two is None:
            lacking = [n for n, x in ((first, one), (second, two)) if x is None]
            return Finding(None, f"{place}: {' and '.join(lacking)} missing", is_missing=True)
        if build != self.build(task, which, second, first):
            text = f"{place}: {first} and {second} learnt from different builds of the set"
            return Finding(None, text, is_missing=True)
        bound = Sample(
            factor * two.mean + offset,
            factor * two.low + offset,
            factor * two.high + offset,
            tuple(factor * x + offset for x in two.seeds),
        )
        decided, low, high = is_above(one, bound)
        numbers = (one.mean, bound.mean)
        shown = [f"{x:.{self.digits}f}" for x in numbers]
        spread = " to ".join(f"{x:+.{self.digits}f}" for x in (low, high))
        text = f"{place}: {first} {shown[0]} vs. {name} {shown[1]} ({spread})"
        return Finding(None if decided is None else decided == expects, text)


def is_above(one: Sample, two: Sample) -> tuple[bool | None, float, float]:
    """Whether a mean is above another, and the 95 % interval of the difference.

    True or False needs an interval without 0 and all seeds on one side; else None. The interval
    joins those of the two means (Zou & Donner 2008), as their episodes are independent.
    """
    difference = one.mean - two.mean
    low = difference - math.hypot(one.mean - one.low, two.high - two.mean)
    high = difference + math.hypot(one.high - one.mean, two.mean - two.low)
    paired = len(one.seeds) == len(two.seeds)
    others = two.seeds if paired else (two.mean,) * len(one.seeds)
    signs = [a > b for a, b in zip(one.seeds, others, strict=True)]
    if low > 0 and all(signs):
        return True, low, high
    if high < 0 and not any(signs):
        return False, low, high
    return None, low, high


def decide(findings: Sequence[Finding], share: float = 1.0) -> bool | None:
    """Whether a claim holds: at least this share of its comparisons does.

    False if it cannot any more, whatever the undecided ones are.
    """
    if not findings:
        return None
    count = len(findings)
    if sum(f.holds is True for f in findings) >= share * count:
        return True
    if sum(f.holds is not False for f in findings) < share * count:
        return False
    return None


def mean_sample(seeds: Sequence[float], deviations: Sequence[float], episodes: int) -> Sample:
    """The mean over seeds, with the noise of their episodes.

    deviations: of the episodes of each seed.  Without them the interval is the range of the seeds.
    """
    mean = sum(seeds) / len(seeds)
    if not deviations:
        return Sample(mean, min(seeds), max(seeds), tuple(seeds))
    half = 1.96 * math.sqrt(sum(x * x / episodes for x in deviations)) / len(seeds)
    return Sample(mean, mean - half, mean + half, tuple(seeds))
