"""What a run tells of itself: its policies by index, its best member, its metrics, short texts."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, SupportsIndex

from fastifo.algos.learner import Learner
from fastifo.engine import summary
from fastifo.engine.checkpoint import checked_metrics
from fastifo.engine.metrics import metric_columns
from fastifo.engine.population import Member
from fastifo.engine.summary import BestMember
from fastifo.envs.policy import Policy
from fastifo.envs.returns import Returns
from fastifo.utils.arguments import as_index


class RunViews(ABC):
    """Base class of `Run`, which has these fields and documents them."""

    algorithm: str
    members: list[Member]
    num_updates: int
    env_id: str | None
    learners: list[Learner]
    failed: dict[int, int]
    path: Path | None
    evaluations: dict[bool, Returns]
    metric_rows: list[dict[str, Any]]

    @abstractmethod
    def policy(self, member: int = 0) -> Policy:
        """One member's policy."""

    def __repr__(self) -> str:
        place = "not saved" if self.path is None else f"in {self.path}"
        failed = f", {len(self.failed)} diverged" if self.failed else ""
        lines = [
            f"Run({self.algorithm} on {self.env_id or 'no environment'}, {self.updates_done:,} of "
            f"{self.num_updates:,} updates, {place})",
            f"  {summary.members_text(self.members)}{failed}",
        ]
        return "\n".join([*lines, *(f"  {returns!r}" for returns in self.evaluations.values())])

    def __len__(self) -> int:
        """The number of members."""
        return len(self.members)

    def __getitem__(self, member: SupportsIndex) -> Policy:
        """The policy of a member, as `policy` gives it; a negative index counts from the end."""
        return self.policy(as_index("member", member, len(self)))

    def __iter__(self) -> Iterator[Policy]:
        """The policies of all members in order.  Raises ValueError at one that diverged."""
        return (self.policy(member) for member in range(len(self)))

    @property
    def updates_done(self) -> int:
        """Updates that every population has made."""
        return min(learner.num_updates for learner in self.learners)

    def best(self, deterministic: bool | None = None) -> BestMember:
        """The member with the highest mean return in the newest `evaluate` of all members.

        deterministic: by the evaluation of the mode; False: of sampled actions; None (default): of
            sampled actions, or of the mode if that is the only one.

        Returns its index, seed, settings and mean return; `print` says by what it was chosen, and
        `run[run.best().member]` is its policy.
        Raises ValueError if there is no such evaluation after the last update, or if every member
        diverged.
        """
        found = summary.find_evaluation(
            self.path, self.evaluations, deterministic, self.updates_done
        )
        return summary.choose_best(found, self.members)

    def metrics(self, stage: str | None = "train", frame: bool | None = None) -> Any:
        """What was logged in training: a pandas DataFrame, or a dict of arrays of equal length.

        stage: which stage's rows: "train" (default), "callback" for what callbacks logged (such as
            `return_mean`), the name of a pre-training stage, or None for all.
        frame: True: a DataFrame; False: a dict; None (default): a DataFrame where pandas is
            installed, otherwise a dict.

        The columns are `update`, `member` and `seed` (int64), `stage` (str) and the metrics
        (float64, nan where a row has none). Rows are in the order of logging.
        Raises ValueError for a stage that logged nothing; ImportError without pandas if `frame`.
        """
        rows = self.metric_rows if self.path is None else checked_metrics(self.path)
        columns = metric_columns(rows, [member.seed for member in self.members], stage)
        if frame is False:
            return columns
        try:
            pandas: Any = importlib.import_module("pandas")
        except ImportError:
            if frame:
                raise ImportError("metrics: frame=True needs pandas: pip install pandas") from None
            return columns
        return pandas.DataFrame(columns)

    def describe(self, member: int) -> str:
        """One line of text: the member's index, seed, and fields in which members differ."""
        text = summary.setting_text(summary.member_settings(self.members)[member])
        seed = f"member {member}, seed={self.members[member].seed}"
        return f"{seed}, {text}" if text else seed
