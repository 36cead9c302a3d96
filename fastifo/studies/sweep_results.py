"""What a sweep found: every member with its rungs, and the best setting's returns on new seeds."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.engine.summary import setting_text
from fastifo.envs.returns import Returns
from fastifo.studies.space import Setting
from fastifo.utils.files import read_json, write_bytes, write_json
from fastifo.utils.records import Record
from fastifo.utils.text import number_texts

FORMAT = "fastifo-sweep-result"
FILE = "sweep.json"
SHOWN = 10  # members in the text of a sweep
COLUMNS = (
    "kind", "wave", "member", "setting", "seed", "values", "parents", "rungs", "returns",
    "updates", "episodes", "return", "low", "high", "score", "success", "evaluations", "status",
)  # fmt: skip


@dataclass(frozen=True)
class RungResult:
    """A member's evaluation at a rung; None where it diverged."""

    num_updates: int
    mean: float | None  # return
    low: float | None  # 95 % bootstrap interval of the mean over episodes
    high: float | None
    score: float | None  # where the environment has one
    success: float | None  # rate, where the environment measures it
    values: Setting  # that it trained with up to this rung
    parent: int | None  # member whose weights it continued from; None: its own
    folder: str  # of its population, relative to the sweep's
    index: int  # in that population

    @staticmethod
    def of(returns: Returns, index: int, **fields: Any) -> "RungResult":
        """The result of row `index`."""
        part = returns.part([index])
        mean = float(part.per_member[0])
        if np.isnan(mean):
            return RungResult(
                returns.num_updates, None, None, None, None, None, index=index, **fields
            )
        low, high = part.interval
        return RungResult(
            returns.num_updates, mean, low, high, part.score, part.success, index=index, **fields
        )


@dataclass(frozen=True)
class SweepMember:
    """A member of a sweep."""

    member: int  # number within the sweep
    wave: int
    setting: int  # number of its setting
    seed: int
    rungs: tuple[RungResult, ...]  # that it reached
    status: str  # best, complete, stopped or diverged; final: trained anew with the best setting

    @property
    def last(self) -> RungResult:
        """Its last evaluation."""
        return self.rungs[-1]


@dataclass(frozen=True, repr=False)
class Sweep(Record):
    """The result of `fastifo.sweep`."""

    algorithm: str
    env_id: str
    members: list[SweepMember]  # all that were evaluated to choose
    best: Setting  # the fields that were searched over, of the best setting
    final: list[SweepMember]  # trained anew with the best setting and fresh seeds
    num_evaluations: int  # of a member at a rung, to choose
    num_episodes: int  # that these evaluations played
    episodes: int  # of each
    final_episodes: int  # of each final member
    deterministic: bool  # the policies' modes; False: sampled actions
    final_interval: tuple[float, float] | None = None  # of the final mean

    @property
    def return_(self) -> float:
        """Mean return of the final members; nan if there are none or all diverged."""
        means = [m.last.mean for m in self.final if m.last.mean is not None]
        return float(np.mean(means)) if means else float("nan")

    def __str__(self) -> str:
        return describe_sweep(self)

    def save(self, folder: Path) -> None:
        """Writes `sweep.json` and `results.csv`.  Raises OSError."""
        write_json(folder / FILE, {"format": FORMAT} | _to_json(self))
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows(self))
        write_bytes(folder / "results.csv", text.getvalue().encode())

    @staticmethod
    def load(path: Path) -> "Sweep":
        """Reads a `sweep.json`.  Raises ValueError naming the file if it is another one."""
        content = read_json(path, "run it again")
        try:
            if content.pop("format") != FORMAT:
                raise KeyError("format")
            for name in ("members", "final"):
                content[name] = [_member(entry) for entry in content[name]]
            content["best"] = _setting(content["best"])
            interval = content["final_interval"]
            content["final_interval"] = None if interval is None else tuple(interval)
            return Sweep(**content)
        except (AttributeError, KeyError, TypeError):
            raise ValueError(f"{path}: expected a sweep's results; run it again") from None


def _to_json(sweep: Sweep) -> dict[str, Any]:
    content = dict(vars(sweep))
    for name in ("members", "final"):
        content[name] = [
            vars(m) | {"rungs": [vars(rung) for rung in m.rungs]} for m in content[name]
        ]
    return content


def _member(entry: dict[str, Any]) -> SweepMember:
    rungs = [rung | {"values": _setting(rung["values"])} for rung in entry["rungs"]]
    return SweepMember(**entry | {"rungs": tuple(RungResult(**rung) for rung in rungs)})


def _setting(values: dict[str, Any]) -> Setting:
    """Values as they were before JSON made lists of tuples."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def rows(sweep: Sweep) -> list[dict[str, Any]]:
    """The rows of `results.csv`: one for every member, in their order, and then the final ones.

    values: of the fields that are searched over; with population-based training those of its last
    rung, and `parents` whose weights it took over before which rung.  rungs, returns: updates and
    mean return of each evaluation.  return, low, high: of the last one, with a 95 % bootstrap
    interval.  evaluations: that this member cost to choose; 0 for final ones.
    """
    return [_row("search", member, sweep.episodes) for member in sweep.members] + [
        _row("final", member, sweep.final_episodes) for member in sweep.final
    ]


def _row(kind: str, member: SweepMember, episodes: int) -> dict[str, Any]:
    last = member.last
    parents = [
        f"{rung.parent}@{before.num_updates}"
        for before, rung in zip(member.rungs, member.rungs[1:], strict=False)
        if rung.parent is not None
    ]
    return {
        "kind": kind,
        "wave": member.wave,
        "member": member.member,
        "setting": member.setting,
        "seed": member.seed,
        "values": setting_text(last.values),
        "parents": " ".join(parents),
        "rungs": " ".join(str(rung.num_updates) for rung in member.rungs),
        "returns": " ".join(_number(rung.mean) for rung in member.rungs),
        "updates": last.num_updates,
        "episodes": episodes,
        "return": _number(last.mean),
        "low": _number(last.low),
        "high": _number(last.high),
        "score": _number(last.score),
        "success": _number(last.success),
        "evaluations": len(member.rungs) if kind == "search" else 0,
        "status": member.status,
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def describe_sweep(sweep: Sweep) -> str:
    """The text of `print(sweep)`: the best settings, and the final returns."""
    ranked = ranked_members(sweep.members)
    width = max(len(setting_text(m.last.values)) for m in ranked[:SHOWN])
    lines = [f"{sweep.env_id}: {sweep.algorithm}, {len(sweep.members)} members"]
    for member in ranked[:SHOWN]:
        last = member.last
        text = "diverged"
        if last.mean is not None and last.low is not None and last.high is not None:
            mean, low, high = number_texts([last.mean, last.low, last.high])
            text = f"{mean} [{low}, {high}]"
        lines.append(
            f"  {setting_text(last.values):{width}}  seed={member.seed}  {text} after "
            f"{last.num_updates:,} updates, {member.status}"
        )
    if len(ranked) > SHOWN:
        lines.append(f"  ... {len(ranked) - SHOWN} more in results.csv")
    lines.append(budget_text(sweep))
    if sweep.final:
        lines.append(final_text(sweep))
    return "\n".join(lines)


def budget_text(sweep: Sweep) -> str:
    """What choosing has cost."""
    return (
        f"chosen with {sweep.num_evaluations:,} evaluations ({sweep.num_episodes:,} episodes), "
        "whose returns are biased upwards for the winners"
    )


def final_text(sweep: Sweep) -> str:
    """The returns of the best setting on fresh seeds."""
    interval = ""
    if sweep.final_interval is not None:
        mean, low, high = number_texts([sweep.return_, *sweep.final_interval])
        interval = f"{mean} [{low}, {high}]"
    seeds = ", ".join(str(member.seed) for member in sweep.final)
    return (
        f"best setting {setting_text(sweep.best)}, trained anew with seeds {seeds}: return "
        f"{interval or 'none, as they diverged'} over {len(sweep.final)} x {sweep.final_episodes} "
        "episodes"
    )


def ranked_members(members: Sequence[SweepMember]) -> list[SweepMember]:
    """Members by updates and then by return, best first."""

    def key(member: SweepMember) -> tuple[float, float, int]:
        mean = member.last.mean
        return (-member.last.num_updates, np.inf if mean is None else -mean, member.member)

    return sorted(members, key=key)
