"""The end of a sweep: its best setting, trained anew with fresh seeds, and its result."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastifo.engine.options import TrainOptions
from fastifo.engine.reopen import open_run
from fastifo.engine.repack import repack
from fastifo.engine.setup import run_of_settings, settings_of_members
from fastifo.envs.returns import FILE_OF, Returns
from fastifo.studies.schedulers import Entry, rank_settings
from fastifo.studies.search import Search, Wave
from fastifo.studies.space import Setting
from fastifo.studies.sweep_results import RungResult, Sweep, SweepMember

FOLDER = "final"  # the run folder of the final members


def finish(search: Search, waves: Sequence[Wave]) -> Sweep:
    """Chooses the best setting, trains it anew and returns the result.

    Raises FloatingPointError if every member diverged.
    """
    plan = search.plan
    best, winners = choose(search, waves)
    schedule = values_of(waves, best)
    members = [m for wave in waves for m in _members(wave, plan.rungs[-1], winners)]
    count = sum(len(member.rungs) for member in members)
    returns = train_final(search, schedule) if plan.final_seeds else None
    final = [] if returns is None else _final_members(search, schedule[-1], returns)
    is_finite = returns is not None and not np.isnan(returns.returns).all()
    return Sweep(
        algorithm=plan.algorithm,
        env_id=search.env_id,
        members=members,
        best=schedule[-1],
        final=final,
        num_evaluations=count,
        num_episodes=count * plan.training.episodes,
        episodes=plan.training.episodes,
        final_episodes=plan.final_episodes,
        deterministic=plan.training.deterministic,
        final_interval=returns.interval if is_finite and returns is not None else None,
    )


def choose(search: Search, waves: Sequence[Wave]) -> tuple[int, set[int]]:
    """A member of the best setting, and all of them.

    With population-based training every member has values of its own, and one member is the best.
    """
    entries = [entry for wave in waves for entry in wave.entries]
    means = {entry.member: wave.mean(entry.member) for wave in waves for entry in wave.entries}
    if search.plan.scheduler == "pbt":
        entries = [replace(entry, setting=entry.member) for entry in entries]
    setting, value = rank_settings(entries, means)[0]
    if np.isnan(value):
        raise FloatingPointError(
            f"{search.plan.algorithm}: no setting's losses are finite; lower learning_rate, or "
            "raise temperature"
        )
    members = [entry.member for entry in entries if entry.setting == setting]
    return members[0], set(members)


def values_of(waves: Sequence[Wave], member: int) -> list[Setting]:
    """The values that led to a member's weights, at each rung."""
    wave = next(wave for wave in waves if member in wave.rungs)
    values: list[Setting] = []
    for rung in reversed(range(len(wave.rungs[member]))):
        result = wave.rungs[member][rung]
        values.insert(0, result.values)
        member = member if result.parent is None else result.parent
    return values


def train_final(search: Search, schedule: Sequence[Setting]) -> Returns:
    """Trains fresh seeds with the values of each rung, and evaluates them.

    The start states are others than those of the search. The folder `final` then holds one run with
    all members.
    """
    plan, folder = search.plan, search.folder / FOLDER
    ends = [
        (until, values)
        for rung, (until, values) in enumerate(zip(plan.rungs, schedule, strict=True))
        if rung + 1 == len(schedule) or schedule[rung + 1] != values
    ]
    entries = [Entry(i, 0, seed, schedule[0]) for i, seed in enumerate(plan.final_seeds)]
    wave = search.wave(plan.waves, "final", entries, ends)
    path = folder / FILE_OF[plan.training.deterministic]
    shape = (len(plan.final_seeds), plan.final_episodes)
    if path.exists() and (returns := Returns.load(path)).returns.shape == shape:
        return returns
    _merge(search, wave)
    run = open_run(folder)
    if len(run.failed) == len(run.members):
        nothing = np.full(shape, np.nan), np.zeros(shape, np.int64)
        mode = plan.training.deterministic
        return Returns(*nothing, search.env_id, mode, {}, plan.rungs[-1])
    return run.evaluate(
        plan.final_episodes, plan.training.deterministic, env=plan.training.env,
        env_kwargs=plan.training.env_kwargs, progress=False,
    )  # fmt: skip


def _merge(search: Search, wave: Wave) -> None:
    """Makes one run folder of the final populations."""
    plan, training = search.plan, search.plan.training
    members = [plan.member(entry.seed, entry.values) for entry in wave.entries]
    results = [wave.rungs[entry.member][-1] for entry in wave.entries]
    options = TrainOptions(
        plan.rungs[-1], device="cpu", precision=training.precision, fused=training.fused,
        out=search.folder / FOLDER, env=training.env, env_kwargs=training.env_kwargs,
        progress=False,
    )  # fmt: skip
    settings = settings_of_members(
        plan.algorithm, members, device="cpu", precision=training.precision
    )
    run, _ = run_of_settings(settings, [search.folder / training.dataset], options)
    run.failed = {m: result.num_updates for m, result in enumerate(results) if result.mean is None}
    repack(run, [(search.folder / result.folder / "run", result.index) for result in results])


def _members(wave: Wave, last: int, winners: set[int]) -> list[SweepMember]:
    members = []
    for number, rungs in sorted(wave.rungs.items()):
        entry, result = wave.first[number], rungs[-1]
        status = "complete" if result.num_updates == last else "stopped"
        status = "diverged" if result.mean is None else "best" if number in winners else status
        members.append(
            SweepMember(number, wave.number, entry.setting, entry.seed, tuple(rungs), status)
        )
    return members


def _final_members(search: Search, values: Setting, returns: Returns) -> list[SweepMember]:
    members = []
    for index, seed in enumerate(search.plan.final_seeds):
        result = RungResult.of(returns, index, values=values, parent=None, folder=FOLDER)
        status = "diverged" if result.mean is None else "final"
        members.append(SweepMember(index, search.plan.waves, -1, seed, (result,), status))
    return members
