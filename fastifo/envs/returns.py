"""Returns of evaluated policies, their D4RL scores and confidence intervals."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.envs.pool import RolloutTime
from fastifo.utils.files import UNREADABLE, check_regular, parse_json, write_atomic
from fastifo.utils.schema import Map, Optional, check_schema
from fastifo.utils.statistics import wilson_interval

HEADER = {
    "env_id": str,
    "deterministic": bool,
    "versions": Map(str),
    "num_updates": Optional(int),
    "reference": Optional(([float], None)),
}
MEAN_OF = {  # name of the mean return in metrics.jsonl, by `deterministic`
    False: "return_mean",
    True: "return_mode",
}
PROTOCOLS = ("final", "last_tenth")  # of evaluation; see `Run.evaluate`

# (random, expert): the D4RL score of a return is 100 * (return - random) / (expert - random).
# Source: D4RL (Fu et al. 2020, arXiv:2004.07219), v2 tasks, Adroit v1; commonly used for later
# versions too. The rewards of Adroit's door, hammer and relocate differ in later versions.
REFERENCE_RETURNS = {
    "HalfCheetah": (-280.178953, 12135.0),
    "Hopper": (-20.272305, 3234.3),
    "Walker2d": (1.629008, 4592.3),
    "Ant": (-325.6, 3879.7),
    "AdroitHandPen": (96.262799, 3076.8331017826877),
    "AdroitHandDoor": (-56.512833, 2880.5693087298737),
    "AdroitHandHammer": (-274.856578, 12794.134825156867),
    "AdroitHandRelocate": (-6.425911, 4233.877797728884),
}


@dataclass(frozen=True)
class Returns:
    """Undiscounted episode returns of P members, E episodes each.

    Members that diverged in training have nan returns and zero lengths. A single nan is a lost
    episode: the process that played it died. With the protocol last_tenth, the E columns are mean
    returns of evaluations during training, and lengths are 0.
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
    clock: RolloutTime = field(  # time spent; not kept in files
        default_factory=RolloutTime, compare=False
    )

    @property
    def mean(self) -> float:
        """Mean over all episodes, without members that diverged and lost episodes."""
        return float(np.nanmean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation over all episodes of all members, without those that diverged."""
        return float(np.nanstd(self.returns))

    @property
    def per_member(self) -> list[float]:
        """Mean over each member's episodes, [P]; nan for members that diverged."""
        return mean_of_rows(self.returns)

    @property
    def num_lost(self) -> int:
        """Episodes that were lost because the process that played them died."""
        missing = np.isnan(self.returns)
        return int(missing[~missing.all(1)].sum())

    @property
    def success(self) -> float | None:
        """Share of the episodes in which the task succeeded at any step; None without a measure."""
        if self.successes is None or np.isnan(self.successes).all():
            return None
        return float(np.nanmean(self.successes))

    @property
    def success_interval(self) -> tuple[float, float] | None:
        """95 % Wilson interval of `success`, (low, high); None without a measure."""
        if self.success is None or self.successes is None:
            return None
        known = self.successes[~np.isnan(self.successes)]
        return wilson_interval(float(known.sum()), known.size)

    @property
    def success_per_member(self) -> list[float] | None:
        """Share of each member's episodes, [P]; nan for members that diverged."""
        return None if self.successes is None else mean_of_rows(self.successes)

    @property
    def score(self) -> float | None:
        """Score of the mean: 0 is random, 100 expert; None where there is no reference.

        The reference is the dataset's where it states one, and otherwise D4RL's.
        """
        return self.score_of(self.mean)

    def score_of(self, return_: float) -> float | None:
        """The score of any return in this environment, as in `score`."""
        return normalized_score(self.env_id, return_, self.reference)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the mean, (low, high); see `bootstrap_interval`."""
        return bootstrap_interval(self.returns[~np.isnan(self.returns).all(1)])

    def __str__(self) -> str:
        low, high = self.interval
        name = "D4RL score" if self.reference is None else "score"
        score = "" if self.score is None else f", {name} {self.score:.1f}"
        mode = "mode" if self.deterministic else "sampled"
        unit = "episodes" if self.lengths.any() else "evaluations in training"
        success = ""
        if self.success is not None and self.success_interval is not None:
            ends = "{:.0%}, {:.0%}".format(*self.success_interval)
            success = f", success {self.success:.0%} [{ends}]"
        lost = f", {self.num_lost} episodes lost" if self.num_lost else ""
        return (
            f"{self.env_id}: return {self.mean:.1f} [{low:.1f}, {high:.1f}] over "
            f"{self.returns.shape[0]} members x {self.returns.shape[1]} {unit} ({mode})"
            f"{score}{success}{lost}"
        )

    def part(self, members: Sequence[int]) -> "Returns":
        """The rows of some members.  members: indices into P."""
        rows = list(members)
        return dataclasses.replace(
            self,
            returns=self.returns[rows],
            lengths=self.lengths[rows],
            successes=None if self.successes is None else self.successes[rows],
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
        }
        columns: dict[str, Any] = {"returns": self.returns, "lengths": self.lengths}
        if self.successes is not None:
            columns["successes"] = self.successes
        text = np.array(json.dumps(header))

        def write(temporary: Path) -> None:
            with open(temporary, "wb") as file:
                np.savez(file, header=text, **columns)

        write_atomic(Path(path), write)

    @staticmethod
    def load(path: str | Path) -> "Returns":
        """Reads a file that `save` wrote.

        Raises FileNotFoundError if there is none; ValueError if it is damaged or something else.
        """
        try:
            check_regular(Path(path))
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                header = parse_json(str(file["header"]), Path(path))
                returns, lengths = file["returns"], file["lengths"]
                successes = file["successes"] if "successes" in file.files else None
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such file") from None
        except UNREADABLE as error:
            raise ValueError(
                f"{path}: expected the returns of a run, found a damaged or unrelated file "
                f"({error!r}); evaluate again"
            ) from None
        check_schema(header, HEADER, Path(path), "evaluate again", "header")
        kinds = returns.dtype.kind + lengths.dtype.kind
        if returns.ndim != 2 or returns.shape != lengths.shape or kinds != "fi":
            raise ValueError(
                f"{path}: returns, lengths: expected numbers [members, episodes], found "
                f"{returns.dtype} {list(returns.shape)} and {lengths.dtype} "
                f"{list(lengths.shape)}; evaluate again"
            )
        if successes is not None and (successes.shape, successes.dtype.kind) != (
            returns.shape,
            "f",
        ):
            raise ValueError(
                f"{path}: successes: expected numbers {list(returns.shape)}, found "
                f"{successes.dtype} {list(successes.shape)}; evaluate again"
            )
        known = {k: header[k] for k in HEADER if k in header}
        if known.get("reference") is not None:
            low, high = known["reference"]
            known["reference"] = (float(low), float(high))
        return Returns(returns, lengths, successes=successes, **known)


def normalized_score(
    env_id: str, return_: float, reference: Sequence[float] | None = None
) -> float | None:
    """The score of an undiscounted return; None where there is no reference for the task.

    reference: returns of scores 0 and 100; by default D4RL's for the task.
    """
    pair = reference or REFERENCE_RETURNS.get(env_id.partition("-")[0])
    return None if pair is None else 100.0 * (return_ - pair[0]) / (pair[1] - pair[0])


def bootstrap_interval(
    values: NDArray[np.float64], level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Stratified percentile bootstrap of the mean: episodes are redrawn within each member.

    values: [P, E]; nan is left out.
    level: share of resampled means inside the interval.

    Returns (low, high). The interval covers evaluation noise of these members, not variation
    between seeds; tables show the spread between seeds in a separate column.
    """
    rng = np.random.default_rng(seed)
    members, episodes = values.shape
    means, mean_of = np.empty(resamples), np.nanmean if np.isnan(values).any() else np.mean
    for i in range(resamples):
        index = rng.integers(0, episodes, (members, episodes))
        means[i] = mean_of(np.take_along_axis(values, index, 1))
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return float(low), float(high)


def mean_of_rows(values: NDArray[np.float64]) -> list[float]:
    """Mean of each row without nan, [P]; nan where a row has nothing else."""
    return [float(np.nanmean(row)) if not np.isnan(row).all() else np.nan for row in values]
