"""The search of a sweep: waves of settings, and the rungs of each wave."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.envs.returns import Returns
from fastifo.studies.population import Advance, Population, Source, returns_file
from fastifo.studies.proposers import Outcome, propose
from fastifo.studies.schedulers import Entry
from fastifo.studies.space import Setting
from fastifo.studies.sweep_plan import Plan
from fastifo.studies.sweep_results import RungResult
from fastifo.utils.parallel import Executor, run_jobs
from fastifo.utils.progress import say
from fastifo.utils.text import counted, number_texts

Pack = tuple[Path, list[Entry]]  # folder of a population, and its members


@dataclass
class Wave:
    """The members of a wave, and how far they have come."""

    number: int
    folder: Path
    first: dict[int, Entry]  # by member
    entries: list[Entry]  # that reached the newest rung
    rungs: dict[int, list[RungResult]] = field(default_factory=dict)  # by member

    def mean(self, member: int) -> float:
        """Mean return of a member at its last rung; nan if it diverged."""
        mean = self.rungs[member][-1].mean
        return float("nan") if mean is None else mean


class Search:
    """A sweep's driver, under the lease of its folder."""

    def __init__(
        self, plan: Plan, folder: Path, executor: Executor, parts: int, progress: bool
    ) -> None:
        """parts: populations at each rung, at least."""
        self.plan, self.folder, self.executor = plan, folder, executor
        self.parts, self.progress = parts, progress
        self.env_id = ""

    def run(self) -> list[Wave]:
        """Runs all waves, or what is left of them."""
        plan, history = self.plan, list[Outcome]()
        waves = []
        for number in range(plan.waves):
            indices = plan.wave(number)
            settings = propose(plan.proposer, plan.space, indices, plan.seed, history)
            seeds = len(plan.seeds)
            entries = [
                Entry(index * seeds + place, index, seed, values)
                for index, values in zip(indices, settings, strict=True)
                for place, seed in enumerate(plan.seeds)
            ]
            rungs: list[tuple[int, Setting | None]] = [(until, None) for until in plan.rungs]
            waves.append(self.wave(number, f"wave-{number}", entries, rungs))
            history += _outcomes(waves[-1], plan.rungs[-1])
        return waves

    def wave(
        self,
        number: int,
        name: str,
        entries: list[Entry],
        rungs: Sequence[tuple[int, Setting | None]],
    ) -> Wave:
        """Trains members through all rungs.

        rungs: updates, and the values of all members up to there; None: the scheduler decides.
        """
        wave = Wave(number, self.folder / "search" / name, {e.member: e for e in entries}, entries)
        packs: list[Pack] = []
        for rung, (until, values) in enumerate(rungs):
            if values is not None:
                entries = [replace(entry, values=values) for entry in entries]
            before = [(e.member, e.values, None) for e in wave.entries] if rung else []
            if [(e.member, e.values, e.parent) for e in entries] != before:
                packs = self._pack(wave.folder / f"rung-{rung}", entries, packs)
            wave.entries = entries
            returns = self._advance(packs, until)
            for folder, members in packs:
                for index, entry in enumerate(members):
                    wave.rungs.setdefault(entry.member, []).append(
                        RungResult.of(
                            returns[folder], index, values=entry.values, parent=entry.parent,
                            folder=os.path.relpath(folder, self.folder),
                        )
                    )  # fmt: skip
            means = {entry.member: wave.mean(entry.member) for entry in entries}
            if self.progress:
                say(f"{name}, {_rung_text(rung, rungs, len(packs), means)}")
            if rung + 1 < len(rungs) and values is None:
                entries = self.plan.rule().next(entries, means, rung)
        return wave

    def _pack(self, folder: Path, entries: Sequence[Entry], before: Sequence[Pack]) -> list[Pack]:
        """Writes the populations of a rung; members whose nets have one shape share some of them.

        before: the populations of the rung before; none at the first.
        """
        plan = self.plan
        places = {e.member: (path, i) for path, part in before for i, e in enumerate(part)}
        shapes: dict[object, list[Entry]] = {}
        for entry in entries:
            shapes.setdefault(plan.shape(entry.values), []).append(entry)
        share = len(entries) / self.parts
        packs: list[Pack] = []
        for group in shapes.values():
            count = min(len(group), max(1, round(len(group) / share)))
            for part in np.array_split(np.arange(len(group)), count):
                packs.append((folder / f"part-{len(packs)}", [group[i] for i in part]))
        for path, members in packs:
            sources = None
            if places:
                origins = [places[e.member if e.parent is None else e.parent] for e in members]
                sources = [Source(os.path.relpath(f, path), index) for f, index in origins]
            population = Population(
                plan.training, os.path.relpath(self.folder, path),
                [plan.member(e.seed, e.values) for e in members], sources,
            )  # fmt: skip
            population.write(path)
        return packs

    def _advance(self, packs: Sequence[Pack], until: int) -> dict[Path, Returns]:
        """Advances all populations; returns of each."""
        jobs = [Advance(folder, until) for folder, _ in packs]
        waiting = [job for job in jobs if not returns_file(job.folder, until).exists()]
        if waiting:
            run_jobs(waiting, self.executor)
        returns = {folder: Returns.load(returns_file(folder, until)) for folder, _ in packs}
        self.env_id = next(iter(returns.values())).env_id
        return returns


def _rung_text(
    rung: int, rungs: Sequence[tuple[int, Any]], num_packs: int, means: dict[int, float]
) -> str:
    finite = [mean for mean in means.values() if not np.isnan(mean)]
    best = f"best return {number_texts([max(finite)])[0]}" if finite else "all diverged"
    return (
        f"rung {rung + 1} of {len(rungs)} ({rungs[rung][0]:,} updates): "
        f"{counted(len(means), 'member')} in {counted(num_packs, 'population')}, {best}"
    )


def _outcomes(wave: Wave, last: int) -> list[Outcome]:
    """What became of each setting, by the mean over its seeds."""
    members: dict[int, list[int]] = {}
    for member in wave.rungs:
        members.setdefault(wave.first[member].setting, []).append(member)
    return [
        Outcome(
            setting=wave.rungs[group[0]][-1].values,
            num_updates=(updates := wave.rungs[group[0]][-1].num_updates),
            return_=float(np.mean([wave.mean(member) for member in group])),
            is_complete=updates == last,
        )
        for group in members.values()
    ]
