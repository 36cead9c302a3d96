"""Returns of evaluated policies, with their scores, success rates and confidence intervals."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastifo.envs.recording import RolloutTime
from fastifo.envs.returns_file import read_returns, write_returns
from fastifo.envs.scores import normalized_score, score_remark
from fastifo.utils.arguments import as_index
from fastifo.utils.folders import as_path
from fastifo.utils.records import Record
from fastifo.utils.statistics import bootstrap_interval, mean_of_rows, wilson_interval
from fastifo.utils.text import counted, number_texts

MEAN_OF = {  # name of the mean return in metrics.jsonl, by `deterministic`
    False: "return_mean",
    True: "return_mode",
}
FILE_OF = {  # name of a run's evaluation in its folder, by `deterministic`
    False: "returns.npz",
    True: "returns-deterministic.npz",
}
SUCCESS_OF = {False: "success_mean", True: "success_mode"}  # rate of success, likewise
# Protocol of evaluation -> share of training, at its end, of which it averages evaluations. Source:
# arXiv 2507.06701, the last 1e5 of 1e6 updates on D4RL, the last 5e5 on Robomimic.
LOGGED_SHARE = {"last_tenth": 0.1, "last_half": 0.5}
PROTOCOLS = ("final", *LOGGED_SHARE)  # see `Run.evaluate`


@dataclass(frozen=True, eq=False, repr=False)
class Returns(Record):
    """Undiscounted episode returns of P members, E episodes each.

    Members that diverged in training have nan returns and zero lengths. A single nan is a lost
    episode, whose process died. With a protocol in LOGGED_SHARE, the E columns are the mean returns
    of evaluations during training, and lengths are 0. `len` is P, and `returns[i]` are
    the returns of member i, [E].
    """

    returns: NDArray[np.float64]  # [P, E]
    lengths: NDArray[np.int64]  # [P, E], in environment steps
    env_id: str
    deterministic: bool  # the policies played their mode, not samples
    versions: dict[str, str]  # of the packages that define the environment's physics
    num_updates: int = 0  # updates the policies had made when they were evaluated
    reference: tuple[float, float] | None = None  # returns of scores 0 and 100; None: D4RL's
    successes: NDArray[np.float64] | None = None  # [P, E], 1 if the task succeeded at any step of
    # the episode, else 0; nan as in returns. None: the environment has no measure of success
    seeds: tuple[int, ...] = ()  # [P], of the members; empty where they are not known
    settings: tuple[str, ...] = ()  # [P], what distinguishes members besides seeds; empty: nothing
    clock: RolloutTime = field(  # time spent; not kept in files
        default_factory=RolloutTime, compare=False
    )
    strips: tuple[list[NDArray[np.uint8]], ...] = field(  # [P], frames of each member's first
        default=(),
        compare=False,
        repr=False,  # episode, [H, W, 3]; not kept in files
    )

    def __len__(self) -> int:
        """P, the number of members."""
        return len(self.returns)

    def __getitem__(self, member: int) -> NDArray[np.float64]:
        """Returns of one member's episodes, [E].  Raises IndexError if there is no such member."""
        row: NDArray[np.float64] = self.returns[as_index("member", member, len(self))]
        return row

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        """The returns of each member's episodes in order, [E]."""
        return iter(self.returns)

    def __repr__(self) -> str:
        kind = "mode" if self.deterministic else "sampled actions"
        means = self.per_member
        low, high = number_texts([np.nanmin(means), np.nanmax(means)]) if len(means) else ("", "")
        text = f"mean return {low}" if low == high else f"mean returns {low} to {high}"
        return (
            f"Returns({self.env_id}, {kind}, {counted(len(self), 'member')} x "
            f"{counted(self.returns.shape[1], 'episode')}, {text})"
        )

    @property
    def mean(self) -> float:
        """Mean over all episodes, except lost ones and those of members that diverged.

        For a sweep, this mixes settings; `by_setting` separates them.
        """
        return float(np.nanmean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation over all episodes of all members, without those that diverged."""
        return float(np.nanstd(self.returns))

    @property
    def per_member(self) -> NDArray[np.float64]:
        """Mean over each member's episodes, [P]; nan for members that diverged."""
        return mean_of_rows(self.returns)

    @property
    def num_lost(self) -> int:
        """Episodes that were lost because the process that played them died."""
        missing = np.isnan(self.returns)
        return int(missing[~missing.all(1)].sum())

    @property
    def success(self) -> float | None:
        """Share of the episodes in which the task succeeded at any step; None if not known."""
        if self.successes is None or np.isnan(self.successes).all():
            return None
        return float(np.nanmean(self.successes))

    @property
    def success_interval(self) -> tuple[float, float] | None:
        """95 % Wilson interval of `success`, (low, high); None if not known.

        Under a protocol that reads the training log, a bootstrap interval of the logged rates.
        """
        if self.success is None or self.successes is None:
            return None
        known = self.successes[~np.isnan(self.successes)]
        if not self.lengths.any():
            return bootstrap_interval(self.successes[~np.isnan(self.successes).all(1)])
        return wilson_interval(float(known.sum()), known.size)

    @property
    def success_per_member(self) -> NDArray[np.float64] | None:
        """Success rate of each member, [P]; nan for members that diverged."""
        return None if self.successes is None else mean_of_rows(self.successes)

    @property
    def score(self) -> float | None:
        """Normalised score of the mean: 0 is random, 100 expert; None without reference returns.

        The reference returns are the dataset's if it states them, otherwise D4RL's.
        """
        return self.score_of(self.mean)

    def score_of(self, return_: float) -> float | None:
        """The score of any return in this environment, as in `score`."""
        return normalized_score(self.env_id, return_, self.reference)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the mean, (low, high); see `bootstrap_interval`."""
        return bootstrap_interval(self.returns[~np.isnan(self.returns).all(1)])

    def by_setting(self) -> dict[str, "Returns"]:
        """The returns of each setting of a sweep, in the order of the members.

        Without a sweep there is one entry, whose key is "".
        """
        if not self.settings:
            return {"": self}
        members: dict[str, list[int]] = {}
        for member, setting in enumerate(self.settings):
            members.setdefault(setting, []).append(member)
        return {setting: self.part(indices) for setting, indices in members.items()}

    def __str__(self) -> str:
        return describe_returns(self)

    def part(self, members: Sequence[int]) -> "Returns":
        """The rows of some members.  members: indices into P."""
        rows = list(members)
        return dataclasses.replace(
            self,
            returns=self.returns[rows],
            lengths=self.lengths[rows],
            successes=None if self.successes is None else self.successes[rows],
            seeds=tuple(self.seeds[i] for i in rows) if self.seeds else (),
            settings=tuple(self.settings[i] for i in rows) if self.settings else (),
            strips=tuple(self.strips[i] for i in rows) if self.strips else (),
        )

    def save(self, path: str | Path) -> None:
        """Writes an `.npz` file for `load`, atomically and without pickle.

        path: the file, replaced if it exists.
        Raises OSError if it cannot be written; the old file is kept then.
        """
        header = {
            "env_id": self.env_id,
            "deterministic": bool(self.deterministic),
            "versions": self.versions,
            "num_updates": self.num_updates,
            "reference": self.reference,
            "seeds": self.seeds,
            "settings": self.settings,
        }
        columns = {"returns": self.returns, "lengths": self.lengths}
        if self.successes is not None:
            columns["successes"] = self.successes
        write_returns(as_path(path), header, columns)

    @staticmethod
    def load(path: str | Path) -> "Returns":
        """Reads a file that `save` wrote.

        Raises FileNotFoundError if there is none; ValueError if it is damaged or something else.
        """
        return Returns(**read_returns(as_path(path)))


def describe_returns(returns: Returns) -> str:
    """The text of `print(returns)`: a line, or for a sweep one line per setting and the best."""
    parts = returns.by_setting()
    kind = "mode" if returns.deterministic else "sampled"
    remark = score_remark(returns.env_id, returns.reference)
    last = [f"  {remark}"] if remark else []
    if len(parts) == 1:
        return "\n".join([f"{returns.env_id}: return {_describe_setting(returns, kind)}", *last])
    width = max(map(len, parts))
    lines = [f"{returns.env_id}: return of each setting ({kind})"]
    lines += [f"  {name:{width}}  {_describe_setting(part)}" for name, part in parts.items()]
    if not np.isnan(returns.per_member).all():
        best = int(np.nanargmax(returns.per_member))
        seed = f", seed={returns.seeds[best]}" if returns.seeds else ""
        (mean,) = number_texts([returns.per_member[best]])
        lines.append(f"  best: member {best}{seed}, {returns.settings[best]}, return {mean}")
    return "\n".join(lines + last)


def _describe_setting(returns: Returns, kind: str = "") -> str:
    """Mean, interval, sizes and score of members that differ in their seeds only."""
    if np.isnan(returns.returns).all():
        return f"none: {counted(len(returns), 'member')} diverged"
    members = returns.per_member
    texts = number_texts([returns.mean, *returns.interval, *members], spread=returns.interval)
    mean, low, high = texts[:3]
    name = "D4RL score" if returns.reference is None else "score"
    score = "" if returns.score is None else f", {name} {returns.score:.1f}"
    unit, when = ("episode", "") if returns.lengths.any() else ("evaluation", " in training")
    size = f"{counted(len(members), 'member')} x {counted(returns.returns.shape[1], unit)}{when}"
    success = ""
    if returns.success is not None and returns.success_interval is not None:
        rates = returns.success, *returns.success_interval
        success = ", success {:.0%} [{:.0%}, {:.0%}]".format(*rates)
    lost = f", {counted(returns.num_lost, 'episode')} lost" if returns.num_lost else ""
    seeds = f"; by seed {' '.join(texts[3:])}" if len(members) > 1 else ""
    size += f" ({kind})" if kind else ""
    return f"{mean} [{low}, {high}] over {size}{score}{success}{lost}{seeds}"
