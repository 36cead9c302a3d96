"""What becomes of a sweep's members between two rungs: all stay, losers leave or are replaced.

Decisions wait for all members of a rung, so that they do not depend on which machine was faster.
Sources: Jamieson and Talwalkar 2016, arXiv:1502.07943 (successive halving); Jaderberg et al. 2017,
arXiv:1711.09846 (population-based training).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fastifo.studies.space import Setting, Space, perturbed

SCHEDULERS = ("none", "halving", "pbt")


@dataclass(frozen=True)
class Entry:
    """A member that trains towards the next rung."""

    member: int  # number within the sweep
    setting: int  # number of its setting
    seed: int
    values: Setting  # of the fields that are searched over
    parent: int | None = None  # member whose weights it continues from; None: its own


@dataclass(frozen=True)
class Scheduler:
    """A rule and its numbers."""

    kind: str  # none, halving or pbt
    keep: float  # halving: share of the settings that stay; pbt: share that is not replaced
    space: Space
    seed: int  # of the draws of population-based training

    def next(
        self, entries: Sequence[Entry], returns: Mapping[int, float], rung: int
    ) -> list[Entry]:
        """The entries of the next rung.

        returns: mean return by member; nan where it diverged.  rung: that has ended, from 0.
        """
        kept = [dataclasses.replace(entry, parent=None) for entry in entries]
        if self.kind == "halving":
            ranked = rank_settings(entries, returns)
            count = max(1, math.ceil(len(ranked) * self.keep - 1e-9))
            finite = [s for s, value in ranked[:count] if not math.isnan(value)]
            winners = set(finite or [ranked[0][0]])
            return [entry for entry in kept if entry.setting in winners]
        return self._replace(kept, returns, rung) if self.kind == "pbt" else kept

    def _replace(
        self, entries: list[Entry], returns: Mapping[int, float], rung: int
    ) -> list[Entry]:
        """Copies of the best members, with settings nearby, take the place of the worst."""
        ranked = sorted(entries, key=lambda e: (-_finite(returns[e.member]), e.member))
        finite = [entry for entry in ranked if not math.isnan(returns[entry.member])]
        count = min(len(ranked) - math.ceil(len(ranked) * self.keep - 1e-9), len(ranked) // 2)
        losers = {entry.member for entry in ranked[len(ranked) - count :]}
        losers |= {entry.member for entry in ranked} - {entry.member for entry in finite}
        best = [entry for entry in finite[: max(1, count)] if entry.member not in losers]
        result = []
        for entry in entries:
            if entry.member not in losers or not best:
                result.append(entry)
                continue
            draws = np.random.default_rng([self.seed, 1 + rung, entry.member]).random(
                1 + len(self.space)
            )
            parent = best[int(draws[0] * len(best))]
            values = perturbed(self.space, parent.values, list(draws[1:]))
            result.append(dataclasses.replace(entry, values=values, parent=parent.member))
        return result


def rank_settings(
    entries: Sequence[Entry], returns: Mapping[int, float]
) -> list[tuple[int, float]]:
    """Settings with the mean return over their members, best first; nan comes last.

    A setting of which a member diverged counts as diverged.
    """
    values: dict[int, list[float]] = {}
    for entry in entries:
        values.setdefault(entry.setting, []).append(returns[entry.member])
    means = {setting: float(np.mean(each)) for setting, each in values.items()}
    return sorted(means.items(), key=lambda pair: (-_finite(pair[1]), pair[0]))


def _finite(value: float) -> float:
    return -math.inf if math.isnan(value) else value
