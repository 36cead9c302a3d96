"""Summaries of a run: its members, their settings, and the best member."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.engine.population import Member
from fastifo.envs.returns import FILE_OF, Returns
from fastifo.utils.text import number_texts


@dataclass(frozen=True)
class BestMember:
    """The member of a run with the highest mean return: what `Run.best` returns.

    The member was chosen by this mean, so the mean is biased upwards; evaluate the member again
    with another seed for an unbiased estimate.
    """

    member: int  # index into the run's members
    seed: int  # of the member
    settings: dict[str, Any]  # fields in which the run's members differ, with this member's values
    return_: float  # mean return of its episodes
    num_episodes: int  # episodes of this member; with last_tenth, evaluations
    deterministic: bool  # by the policies' modes; False: by sampled actions
    num_updates: int  # updates that the policies had made
    env_id: str  # the environment

    def __str__(self) -> str:
        kind = "the mode" if self.deterministic else "sampled actions"
        fields = "".join(f", {name}={value}" for name, value in self.settings.items())
        (mean,) = number_texts([self.return_])
        return (
            f"member {self.member} (seed={self.seed}{fields}): mean return {mean} over "
            f"{self.num_episodes} episodes of {self.env_id} with {kind}, after "
            f"{self.num_updates:,} updates"
        )


def differing_fields(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields in which configs differ, in the order of the first."""
    first = configs[0]
    return [name for name in first if any(config.get(name) != first[name] for config in configs)]


def member_settings(members: Sequence[Member]) -> list[dict[str, Any]]:
    """What distinguishes each member besides its seed: fields, and the index of its dataset."""
    configs = [vars(member.config) for member in members]
    names = differing_fields(configs)
    settings = [{name: config[name] for name in names} for config in configs]
    if len({member.dataset for member in members}) > 1:
        settings = [s | {"dataset": m.dataset} for s, m in zip(settings, members, strict=True)]
    return settings


def setting_text(setting: Mapping[str, Any]) -> str:
    """A member's settings in a line: temperature=0.3, alpha=0.5."""
    return ", ".join(f"{name}={value}" for name, value in setting.items())


def with_members(returns: Returns, members: Sequence[Member], chosen: Sequence[int]) -> Returns:
    """Returns that know the seed and the setting of each row.  chosen: the members in the rows."""
    texts = [setting_text(setting) for setting in member_settings(members)]
    swept = len(set(texts)) > 1
    return dataclasses.replace(
        returns,
        seeds=tuple(members[i].seed for i in chosen),
        settings=tuple(texts[i] for i in chosen) if swept else (),
    )


def find_evaluation(
    folder: Path | None,
    evaluations: Mapping[bool, Returns],
    deterministic: bool | None,
    num_updates: int,
) -> Returns:
    """The evaluation of all members, of this process or in the run folder.

    deterministic: which one; None: of sampled actions, or of the mode if there is no other.
    Raises ValueError if the members have not been evaluated after their last update.
    """
    outdated = None
    for kind in (False, True) if deterministic is None else (deterministic,):
        returns = evaluations.get(kind)
        if returns is None and folder is not None and (folder / FILE_OF[kind]).exists():
            returns = Returns.load(folder / FILE_OF[kind])
        if returns is not None and returns.num_updates == num_updates:
            return returns
        outdated = outdated if returns is None else returns.num_updates
    kind_text = "" if deterministic is None else f"deterministic={deterministic}"
    found = "no evaluation" if outdated is None else f"one after {outdated:,} updates only"
    raise ValueError(
        f"best: expected an evaluation after {num_updates:,} updates, found {found}; call "
        f"run.evaluate({kind_text}) first"
    )


def choose_best(returns: Returns, members: Sequence[Member]) -> BestMember:
    """The member with the highest mean.  Raises ValueError if every member diverged."""
    means = returns.per_member
    if np.isnan(means).all():
        raise ValueError("best: every member diverged in training")
    best = int(np.nanargmax(means))
    return BestMember(
        member=best,
        seed=members[best].seed,
        settings=member_settings(members)[best],
        return_=float(means[best]),
        num_episodes=returns.returns.shape[1],
        deterministic=returns.deterministic,
        num_updates=returns.num_updates,
        env_id=returns.env_id,
    )


def members_text(members: Sequence[Member]) -> str:
    """The members in a line: how many, their seeds and the values of swept fields."""
    values: dict[str, list[str]] = {"seed": [str(m.seed) for m in members]}
    for setting in member_settings(members):
        for name, value in setting.items():
            values.setdefault(name, []).append(str(value))
    cells = []
    for name, texts in values.items():
        distinct = list(dict.fromkeys(texts))
        shown = distinct[:8] + [f"... {len(distinct)} in all"] * (len(distinct) > 8)
        cells.append(f"{name} {' '.join(shown)}")
    return f"{len(members)} member{'s' * (len(members) > 1)}: {'; '.join(cells)}"
