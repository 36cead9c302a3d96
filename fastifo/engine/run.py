"""A trained or resumable run: its members, their policies and its folder."""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastifo import algos
from fastifo.algos.config import to_json
from fastifo.algos.learner import InputSpec, Learner
from fastifo.engine.checkpoint import Checkpoints
from fastifo.engine.evaluation import evaluate_members, logged_returns
from fastifo.engine.pictures import write_episodes
from fastifo.engine.population import Group, Member, group_members
from fastifo.engine.run_folder import FORMAT, VERSION, new_folder, open_folder, read_config
from fastifo.engine.summary import with_members
from fastifo.engine.views import RunViews
from fastifo.envs.checks import check_env
from fastifo.envs.policy import Policy
from fastifo.envs.returns import FILE_OF, LOGGED_SHARE, PROTOCOLS, Returns
from fastifo.envs.spec import EnvSpec, as_spec
from fastifo.utils import provenance
from fastifo.utils.ambient import standard_torch
from fastifo.utils.arguments import as_count, as_flag, as_index, as_indices
from fastifo.utils.folders import as_path
from fastifo.utils.locks import folder_lock
from fastifo.utils.progress import warn


@dataclass(eq=False, repr=False)
class Run(RunViews):
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
    env_id: str | None  # the environment, as the dataset or the user names it
    action_low: Tensor | None  # bounds of the environment's actions, [A]; None: [-1, 1]
    action_high: Tensor | None
    datasets: list[dict[str, Any]]  # fingerprint and summary of each dataset
    env_kwargs: dict[str, Any] = field(default_factory=dict)  # the environment's settings
    # As `train` got them, before `evaluate` changed any; None: trained by an earlier version.
    given_env_kwargs: dict[str, Any] | None = None
    reference_returns: tuple[float, float] | None = None  # of scores 0 and 100, if data state them
    obs_keys: tuple[str, ...] = ()  # parts of a Dict observation, as in `Dataset`
    env: EnvSpec | None = None  # as given by the user in this process; not kept in the folder
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

    @standard_torch()
    def evaluate(
        self,
        num_episodes: int = 100,
        deterministic: bool = False,
        *,
        protocol: str = "final",
        seed: int = 0,
        members: Sequence[int] | None = None,
        env: Any = None,
        env_kwargs: Mapping[str, Any] | None = None,
        num_workers: int = 0,
        progress: bool = True,
    ) -> Returns:
        """Plays episodes with every member and returns their undiscounted returns.

        All members play in parallel and from the same start states.

        num_episodes: per member.
        deterministic: play the policy's mode; False (default) plays samples.
        protocol: "final" (default) plays the current weights. "last_tenth" and
            "last_half" instead return the means that `EvaluateEvery` logged in that part of
            training, one column per evaluation.
        seed: of the environments, and so of the start states.
        members: indices of the members to play; default all. The result has their order.
        env: an environment that replaces the run's, also in its folder: an id of EnvPool or
            Gymnasium, "module:function", a function or class that makes a `gymnasium.Env`, or
            Gymnasium's `EnvSpec`. None (default): the run's. Code that is only named in the run
            folder is not executed.
        env_kwargs: settings of the environment, as JSON values, stored with its name.
            max_episode_steps is its time limit.
        num_workers: number of processes that step environments outside EnvPool; 0 (default): chosen
            by the backend. Results do not depend on it.
        progress: show a progress bar.

        Returns `Returns` of shape [members, num_episodes]; members that diverged have nan. With a
        run folder and all members, "final" also writes the result to `returns.npz`, or to
        `returns-deterministic.npz`.
        An episode whose process died is nan as well, with a warning.
        Raises ValueError if the run names no environment or one that does not fit, if every member
        diverged, if observations are not finite, or if the protocol has no logged evaluations;
        ImportError naming the extra to install; TypeError for an `env` of another kind.
        """
        deterministic = as_flag("deterministic", deterministic)
        num_episodes = as_count("num_episodes", num_episodes)
        if env is not None or env_kwargs is not None:
            self._correct_env(env, env_kwargs)
        spec = self.require_env()
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol: expected {' or '.join(PROTOCOLS)}, found {protocol!r}")
        chosen = as_indices("members", members, len(self.members))
        if protocol in LOGGED_SHARE:
            logged = logged_returns(
                self.path, spec, chosen, deterministic, self.updates_done, protocol
            )
            logged = dataclasses.replace(logged, reference=self.reference_returns)
            return with_members(logged, self.members, chosen)
        cpu = torch.device("cpu")  # where environments run, and small nets act in compiled code
        policies = [None if m in self.failed else self.policy(m).to(cpu) for m in chosen]
        returns = dataclasses.replace(
            evaluate_members(
                policies,
                spec,
                num_episodes,
                deterministic,
                seed=seed,
                num_workers=num_workers,
                progress=progress,
            ),
            num_updates=self.updates_done,
            reference=self.reference_returns,
        )
        returns = with_members(returns, self.members, chosen)
        if members is None:
            self.evaluations[deterministic] = returns
        if self.path is not None and members is None:
            try:
                returns.save(self.path / FILE_OF[deterministic])
                write_episodes(self.path, returns)
            except OSError as error:  # hours of play are worth more than the file
                warn(f"{error.strerror or error}")
        return returns

    def _correct_env(self, env: Any, env_kwargs: Mapping[str, Any] | None) -> None:
        """Replaces the run's environment, also in its folder.  Raises ValueError if it misfits."""
        spec = as_spec(
            self.require_env() if env is None else env,
            kwargs=env_kwargs, settings=self.env_kwargs, obs_keys=self.obs_keys,
        )  # fmt: skip
        sizes = (self.spec.obs_dim, self.spec.action_dim)
        check_env(spec, *sizes, self.action_low, self.action_high, self.spec.images)
        self.env, self.env_id = spec, spec.id
        self.env_kwargs = {**self.env_kwargs, **spec.kwargs}
        new = {"env_id": self.env_id, "env_kwargs": self.env_kwargs}
        if self.path is None or new.items() <= read_config(self.path).items():
            return
        with folder_lock(self.path):
            content, checkpoints = open_folder(self.path)
            checkpoints.write_config(content | new)

    def require_env(self) -> EnvSpec:
        """The environment.  Raises ValueError if neither the dataset nor the user named one."""
        if self.env is not None and self.env.id == self.env_id:
            return self.env
        if self.env_id is None:
            raise ValueError(
                "evaluate: the dataset names no environment; pass env='Hopper-v4' (for example) to "
                "evaluate, env_id to Dataset.from_episodes, or --env-id on the command line"
            )
        return as_spec(
            self.env_id, settings=self.env_kwargs, obs_keys=self.obs_keys, is_trusted=False
        )

    @standard_torch()
    def policy(self, member: int = 0) -> Policy:
        """A copy of one member's policy, on the run's device.

        member: index into `members`; a negative one counts from the end.
        Raises IndexError if there is no such member; TypeError if it is no integer; ValueError if
        it diverged in training.
        """
        member = as_index("member", member, len(self.members))
        if member in self.failed:
            raise ValueError(
                f"{self.describe(member)}: diverged in training, its losses were not finite by "
                f"update {self.failed[member]}"
            )
        group = next(g for g in self.groups if member in g.members)
        learner = self.learners[group.index]
        index = group.members.index(member)
        return Policy(
            learner, index, self.action_low, self.action_high,
            label=self.describe(member), facts=self._facts(member),
        )  # fmt: skip

    def _facts(self, member: int) -> dict[str, Any]:
        """What an exported policy says of its run."""
        content = self.to_json()
        names = ("algorithm", "env_id", "env_kwargs", "obs_keys", "precision", "fastifo", "commit")
        facts = {name: content[name] for name in names}
        entry = content["members"][member]
        return facts | {"member": member, **entry, "num_updates": self.updates_done}

    @standard_torch()
    def save(self, path: str | Path) -> None:
        """Writes a run folder for `fastifo.open_run`; does nothing if it is the run's own folder.

        path: a folder that does not exist or is empty. It appears complete or not at all.
        Raises ValueError if it holds something; OSError if it cannot be written.
        """
        target = as_path(path)
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
            "fastifo": provenance.version(),
            "commit": provenance.commit(),
            "env_id": self.env_id,
            "env_kwargs": self.env_kwargs,
            "given_env_kwargs": self.given_env_kwargs,
            "reference_returns": self.reference_returns,
            "obs_keys": list(self.obs_keys),
            "obs_dim": self.spec.obs_dim,
            "action_dim": self.spec.action_dim,
            **({"images": [list(each) for each in self.spec.images]} if self.spec.images else {}),
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
