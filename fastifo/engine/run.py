"""A trained or resumable run: its members, their policies and its folder."""

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex

import torch
from numpy.typing import NDArray
from torch import Tensor

from fastifo import algos
from fastifo.algos.config import to_json
from fastifo.algos.learner import InputSpec, Learner
from fastifo.engine import summary
from fastifo.engine.checkpoint import Checkpoints, checked_metrics
from fastifo.engine.evaluation import evaluate_members, logged_returns
from fastifo.engine.metrics import metric_columns
from fastifo.engine.population import Group, Member, group_members
from fastifo.engine.run_folder import FORMAT, VERSION, new_folder, open_folder, read_config
from fastifo.engine.summary import BestMember
from fastifo.envs.envpool import check_widths
from fastifo.envs.policy import Policy
from fastifo.envs.returns import FILE_OF, PROTOCOLS, Returns
from fastifo.utils.ambient import standard_torch
from fastifo.utils.arguments import as_count, as_flag, as_index
from fastifo.utils.locks import folder_lock
from fastifo.utils.progress import warn


@dataclass(eq=False, repr=False)
class Run:
    """The result of `fastifo.train`; `fastifo.open_run` reads one from its folder.

    A member is one policy: one seed with one config on one dataset. Members whose configs differ
    only in float fields form a population, with one learner. `len` is the number of members, and
    `run[i]` the policy of member i.
    """

    algorithm: str  # without backbone, which is a config field
    members: list[Member]  # in the order of all per-member results
    num_updates: int  # asked for; `updates_done` were made
    precision: str
    spec: InputSpec  # sizes and statistics of the data
    env_id: str | None  # the environment that the dataset names
    action_low: Tensor | None  # bounds of the environment's actions, [A]; None: [-1, 1]
    action_high: Tensor | None
    datasets: list[dict[str, Any]]  # fingerprint and summary of each dataset
    env_kwargs: dict[str, Any] = field(default_factory=dict)  # the environment's settings
    reference_returns: tuple[float, float] | None = None  # of scores 0 and 100, if data state them
    learners: list[Learner] = field(default_factory=list)  # one per population
    groups: list[Group] = field(default_factory=list)  # the populations
    failed: dict[int, int] = field(default_factory=dict)  # diverged member -> update
    path: Path | None = None  # the run folder
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    engine: str = "torch"  # that trained it last: torch | native
    fused: bool = True  # compiled ops; False: their references
    notes: dict[str, Any] = field(default_factory=dict)  # values that a method recorded
    evaluations: dict[bool, Returns] = field(default_factory=dict)  # newest, by `deterministic`
    metric_rows: list[dict[str, Any]] = field(default_factory=list)  # of a run without a folder

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

    @standard_torch()
    def evaluate(
        self,
        num_episodes: int = 100,
        deterministic: bool = False,
        *,
        protocol: str = "final",
        seed: int = 0,
        members: Sequence[int] | None = None,
        env: str | None = None,
        progress: bool = True,
    ) -> Returns:
        """Plays episodes with every member and returns their undiscounted returns.

        All members play in parallel and from the same start states.

        num_episodes: per member.
        deterministic: play the policy's mode; False (default) plays samples.
        protocol: "final" (default) plays the current weights. "last_tenth" plays nothing: it
            returns the means that `EvaluateEvery` logged in the last tenth of training, one column
            per evaluation.
        seed: of the environments, and so of the start states.
        members: indices of the members to play; default all. The result has their order.
        env: EnvPool's name of the environment, for a run that names none or a wrong one. It
            becomes the run's environment, also in its folder. None (default): the run's.
        progress: show a progress bar.

        Returns `Returns` of shape [members, num_episodes]; members that diverged have nan. With a
        run folder and all members, "final" also writes the result to `returns.npz`, or to
        `returns-deterministic.npz`.
        Raises ValueError if the run names no environment or one that does not fit, if every member
        diverged, or if last_tenth has no logged evaluations.
        """
        deterministic = as_flag("deterministic", deterministic)
        num_episodes = as_count("num_episodes", num_episodes)
        if env is not None:
            self._correct_env(env)
        env_id = self.require_env()
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol: expected {' or '.join(PROTOCOLS)}, found {protocol!r}")
        chosen = list(range(len(self.members)) if members is None else members)
        if protocol == "last_tenth":
            logged = logged_returns(self.path, env_id, chosen, deterministic, self.updates_done)
            logged = dataclasses.replace(logged, reference=self.reference_returns)
            return summary.with_members(logged, self.members, chosen)
        cpu = torch.device("cpu")  # where environments run, and small nets act in compiled code
        policies = [None if m in self.failed else self.policy(m).to(cpu) for m in chosen]
        returns = dataclasses.replace(
            evaluate_members(
                policies,
                env_id,
                num_episodes,
                deterministic,
                seed=seed,
                env_kwargs=self.env_kwargs,
                progress=progress,
            ),
            num_updates=self.updates_done,
            reference=self.reference_returns,
        )
        returns = summary.with_members(returns, self.members, chosen)
        if members is None:
            self.evaluations[deterministic] = returns
        if self.path is not None and members is None:
            try:
                returns.save(self.path / FILE_OF[deterministic])
            except OSError as error:  # hours of play are worth more than the file
                warn(f"{error.strerror or error}")
        return returns

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

    def metrics(self, stage: str | None = "train") -> dict[str, NDArray[Any]]:
        """What was logged in training, as columns of equal length: `pandas.DataFrame` takes them.

        stage: which stage's rows: "train" (default), "callback" for what callbacks logged (such as
            `return_mean`), the name of a pre-training stage, or None for all.

        The columns are `update`, `member` and `seed` (int64), `stage` (str) and the metrics
        (float64, nan where a row has none). Rows are in the order of logging.
        Raises ValueError for a stage that logged nothing.
        """
        rows = self.metric_rows if self.path is None else checked_metrics(self.path)
        return metric_columns(rows, [member.seed for member in self.members], stage)

    def _correct_env(self, env_id: str) -> None:
        """Replaces the run's environment, also in its folder.  Raises ValueError if it misfits."""
        check_widths(env_id, self.spec.obs_dim, self.spec.action_dim, self.env_kwargs)
        self.env_id = env_id
        if self.path is None or read_config(self.path)["env_id"] == env_id:
            return
        with folder_lock(self.path):
            content, checkpoints = open_folder(self.path)
            checkpoints.write_config(content | {"env_id": env_id})

    @property
    def updates_done(self) -> int:
        """Updates that every population has made."""
        return min(learner.num_updates for learner in self.learners)

    def require_env(self) -> str:
        """The name of the environment.  Raises ValueError if the dataset named none."""
        if self.env_id is None:
            raise ValueError(
                "evaluate: the dataset names no environment; pass env='Hopper-v4' (for example) to "
                "evaluate, or env_id to Dataset.from_episodes"
            )
        return self.env_id

    @standard_torch()
    def policy(self, member: int = 0) -> Policy:
        """A copy of one member's policy, on the run's device.

        member: index into `members`.
        Raises IndexError if there is no such member; ValueError if it diverged in training.
        """
        if not 0 <= member < len(self.members):
            raise IndexError(f"member: expected 0 to {len(self.members) - 1}, found {member}")
        if member in self.failed:
            raise ValueError(
                f"{self.describe(member)}: diverged in training, its losses were not finite by "
                f"update {self.failed[member]}"
            )
        group = next(g for g in self.groups if member in g.members)
        learner = self.learners[group.index]
        index = group.members.index(member)
        return Policy(
            learner, index, self.action_low, self.action_high, label=self.describe(member)
        )

    def describe(self, member: int) -> str:
        """One line of text: the member's index, seed, and fields in which members differ."""
        text = summary.setting_text(summary.member_settings(self.members)[member])
        seed = f"member {member}, seed={self.members[member].seed}"
        return f"{seed}, {text}" if text else seed

    @standard_torch()
    def save(self, path: str | Path) -> None:
        """Writes a run folder for `fastifo.open_run`; does nothing if it is the run's own folder.

        path: a folder that does not exist or is empty. It appears complete or not at all.
        Raises ValueError if it holds something; OSError if it cannot be written.
        """
        target = Path(path)
        if self.path is not None and target.resolve() == self.path.resolve():
            return
        with new_folder(target) as folder:
            checkpoints = Checkpoints(folder / "checkpoint")
            checkpoints.write_config(self.to_json())
            if self.path is not None:
                checkpoints.train_s = Checkpoints(self.path / "checkpoint").train_s
                for file in [*self.path.glob("*.jsonl"), *self.path.glob("*.npz")]:
                    shutil.copyfile(file, folder / file.name)
            metrics = folder / "metrics.jsonl"
            size = metrics.stat().st_size if metrics.exists() else 0
            for group, learner in zip(self.groups, self.learners, strict=True):
                checkpoints.save(f"{group.index}-train", learner, {}, size)

    def to_json(self) -> dict[str, Any]:
        """The content of `config.json`."""
        bounds = {
            name: None if value is None else value.tolist()
            for name, value in (("low", self.action_low), ("high", self.action_high))
        }
        return {
            "format": FORMAT,
            "version": VERSION,
            "algorithm": self.algorithm,
            "num_updates": self.num_updates,
            "precision": self.precision,
            "device": str(self.device),
            "engine": self.engine,
            "fused": self.fused,
            "notes": self.notes,
            "torch": torch.__version__,
            "env_id": self.env_id,
            "env_kwargs": self.env_kwargs,
            "reference_returns": self.reference_returns,
            "obs_dim": self.spec.obs_dim,
            "action_dim": self.spec.action_dim,
            "action_bounds": bounds,
            "datasets": self.datasets,
            "failed": {str(member): update for member, update in self.failed.items()},
            "members": [
                {"seed": m.seed, "dataset": m.dataset, "config": to_json(m.config)}
                for m in self.members
            ],
        }

    def build_learners(self) -> None:
        """Builds one learner per population on the run's device, with initial weights."""
        self.groups = group_members(self.members)
        backbone = getattr(self.members[0].config, "backbone", None)
        learner_class = algos.find(self.algorithm, backbone)
        self.learners = [
            learner_class(
                group.configs, group.seeds, self.spec, self.precision, fused=self.fused
            ).to_device(self.device)
            for group in self.groups
        ]
