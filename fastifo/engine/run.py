"""A finished or resumable run: its members, their policies, its folder."""

import dataclasses
import errno
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastifo import algos
from fastifo.algos.config import from_json, to_json
from fastifo.algos.learner import InputSpec, Learner
from fastifo.engine.checkpoint import Checkpoints
from fastifo.engine.metrics import read_metrics
from fastifo.engine.population import Group, Member, group_members
from fastifo.envs.envpool import versions
from fastifo.envs.policy import Policy
from fastifo.envs.returns import MEAN_OF, PROTOCOLS, Returns, evaluate_policies
from fastifo.utils.devices import choose_device
from fastifo.utils.files import read_json, write_json

FORMAT = "fastifo-run"
VERSION = 1
KEYS = (
    "algorithm",
    "num_updates",
    "precision",
    "env_id",
    "obs_dim",
    "action_dim",
    "action_bounds",
    "datasets",
    "failed",
    "members",
)


@dataclass
class Run:
    """What `fastifo.train` returns and `fastifo.open_run` reads.

    action_low, action_high: [A], the environment's bounds; None where actions lie in [-1, 1].
    """

    algorithm: str
    members: list[Member]
    num_updates: int
    precision: str
    spec: InputSpec
    env_id: str | None
    action_low: Tensor | None
    action_high: Tensor | None
    datasets: list[dict[str, Any]]  # fingerprint and summary of what it was trained on
    learners: list[Learner] = field(default_factory=list)  # one per population
    groups: list[Group] = field(default_factory=list)
    failed: dict[int, int] = field(default_factory=dict)  # member -> update where it broke
    path: Path | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    engine: str = "torch"  # what trained it last: torch | native
    fused: bool = True  # compiled ops, or their references
    notes: dict[str, Any] = field(default_factory=dict)  # what a method said of its first stages

    def evaluate(
        self,
        num_episodes: int = 100,
        deterministic: bool = False,
        *,
        protocol: str = "final",
        seed: int = 0,
        members: Sequence[int] | None = None,
        progress: bool = True,
    ) -> Returns:
        """Undiscounted returns [P, E] of E = `num_episodes` episodes of every member, played side
        by side; all members see the same starts.

        deterministic: play modes, not samples.  seed: of the environments.  members: some of them;
        all unless given.  protocol: final plays the weights as they are; last_tenth plays nothing,
        but gives the mean returns that `EvaluateEvery` found in the last tenth of training, one
        each time.

        Members that broke in training are not played; their returns are nan. With a run folder,
        the result is kept in `returns.npz` (`returns-deterministic.npz`).
        Raises ValueError without an environment id, or where no member is left.
        """
        env_id = self.require_env()
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol: expected {' or '.join(PROTOCOLS)}, found {protocol!r}")
        if protocol == "last_tenth":
            return self._last_tenth(deterministic, members)
        chosen = list(range(len(self.members)) if members is None else members)
        alive = [place for place, member in enumerate(chosen) if member not in self.failed]
        if not alive:
            raise ValueError("evaluate: every member broke in training; none can be played")
        cpu = torch.device("cpu")  # where environments are, and small nets act in compiled code
        played = evaluate_policies(
            [self.policy(chosen[place]).to(cpu) for place in alive],
            env_id,
            num_episodes,
            deterministic,
            seed=seed,
            progress=progress,
        )
        columns = np.full((len(chosen), num_episodes), np.nan)
        lengths = np.zeros((len(chosen), num_episodes), np.int64)
        columns[alive], lengths[alive] = played.returns, played.lengths
        returns = dataclasses.replace(
            played, returns=columns, lengths=lengths, num_updates=self.updates_done
        )
        if self.path is not None and members is None:
            name = "returns-deterministic.npz" if deterministic else "returns.npz"
            returns.save(self.path / name)
        return returns

    def _last_tenth(self, deterministic: bool, members: Sequence[int] | None) -> Returns:
        """What was found while training, [P, evaluations]; a member that broke has nan."""
        name, first = MEAN_OF[deterministic], 0.9 * self.updates_done
        rows = [] if self.path is None else read_metrics(self.path / "metrics.jsonl")
        found = {
            (row["member"], row["update"]): row[name]
            for row in rows
            if name in row and row["update"] > first
        }
        updates = sorted({update for _, update in found})
        if not updates:
            raise ValueError(
                "protocol: last_tenth averages what EvaluateEvery finds after update "
                f"{first:.0f}, the run has nothing; train into a folder with "
                f"callbacks=[EvaluateEvery(..., deterministic={deterministic})]"
                + ("" if deterministic else " or --eval-every")
            )
        chosen = range(len(self.members)) if members is None else members
        values = [[found.get((member, update)) for update in updates] for member in chosen]
        returns = np.array([[np.nan if x is None else x for x in row] for row in values])
        return Returns(
            returns=returns, lengths=np.zeros(returns.shape, np.int64), env_id=self.require_env(),
            deterministic=deterministic, versions=versions(), num_updates=self.updates_done,
        )  # fmt: skip

    @property
    def updates_done(self) -> int:
        """Updates that every population has made."""
        return min(learner.num_updates for learner in self.learners)

    def require_env(self) -> str:
        """The environment's name.  Raises ValueError where the dataset named none."""
        if self.env_id is None:
            raise ValueError(
                "evaluate: the dataset names no environment; pass env_id='Hopper-v4', say, to "
                "Dataset.from_episodes"
            )
        return self.env_id

    def policy(self, member: int = 0) -> Policy:
        """The policy of one member.  Raises IndexError, or ValueError for one that broke."""
        if not 0 <= member < len(self.members):
            raise IndexError(f"member: expected 0 to {len(self.members) - 1}, found {member}")
        if member in self.failed:
            raise ValueError(
                f"member {member} ({self.describe(member)}) broke by update {self.failed[member]}: "
                "its losses were not finite"
            )
        group = next(g for g in self.groups if member in g.members)
        learner = self.learners[group.index]
        return Policy(learner, group.members.index(member), self.action_low, self.action_high)

    def describe(self, member: int) -> str:
        """Seed, and the fields in which the run's members differ."""
        mine = self.members[member]
        differing = [
            f"{name}={value}"
            for name, value in vars(mine.config).items()
            if any(getattr(other.config, name) != value for other in self.members)
        ]
        if len(self.datasets) > 1:
            differing.append(f"dataset={mine.dataset}")
        return ", ".join([f"member {member}", f"seed={mine.seed}", *differing])

    def save(self, path: str | Path) -> None:
        """Writes a run folder that `fastifo.open_run` reads.

        Raises ValueError if one is there, OSError where it cannot be written.
        """
        folder = Path(path)
        if self.path is not None and folder.resolve() == self.path.resolve():
            return
        refuse_occupied(folder)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            try:
                self._write(temporary)
                temporary.chmod(0o755)
                temporary.replace(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        except OSError as error:
            raise OSError(
                error.errno or errno.EIO,
                f"{folder}/: could not be written ({error.strerror or error}); nothing was left "
                "there. Free some space or choose another folder",
            ) from error

    def _write(self, folder: Path) -> None:
        """The whole run below an empty folder."""
        self.write_config(folder)
        checkpoints = Checkpoints(folder / "checkpoint")
        if self.path is not None:
            checkpoints.train_s = Checkpoints(self.path / "checkpoint").train_s
            kept = [*self.path.glob("*.jsonl"), *self.path.glob("*.npz")]
            for file in kept:
                shutil.copyfile(file, folder / file.name)
        metrics = folder / "metrics.jsonl"
        size = metrics.stat().st_size if metrics.exists() else 0
        for group, learner in zip(self.groups, self.learners, strict=True):
            checkpoints.save(f"{group.index}-train", learner, {}, size)

    def write_config(self, folder: Path) -> None:
        write_json(folder / "config.json", self.to_json())

    def to_json(self) -> dict[str, Any]:
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
        """One learner per population, on the run's device, before any update."""
        self.groups = group_members(self.members)
        backbone = getattr(self.members[0].config, "backbone", None)
        learner_class = algos.find(self.algorithm, backbone)
        self.learners = [
            learner_class(
                group.configs, group.seeds, self.spec, self.precision, fused=self.fused
            ).to_device(self.device)
            for group in self.groups
        ]


def refuse_occupied(folder: Path) -> None:
    """Raises ValueError where `folder` has anything in it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        kind = "another run" if (folder / "config.json").exists() else "other files"
        raise ValueError(f"{folder}: expected a new or empty folder, found {kind}; choose another")


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a run folder.  Raises ValueError where it is another program's or newer."""
    path = folder / "config.json"
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: expected the config of a fastifo run, found another file")
    if content.get("version", 0) > VERSION:
        raise ValueError(
            f"{path}: expected version {VERSION} or older, found {content['version']}; update "
            "fastifo"
        )
    missing = [key for key in KEYS if key not in content]
    if missing:
        raise ValueError(f"{path}: expected {', '.join(KEYS)}; {', '.join(missing)} is missing")
    return content


def open_run(path: str | Path, device: str = "cpu") -> Run:
    """The run in a folder, with its newest checkpoint, on `device`: cpu | cuda | auto.

    Raises FileNotFoundError or ValueError naming the file that is missing, cut or foreign.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: no run here (no config.json)")
    content = read_config(folder)
    backbone = content["members"][0]["config"].get("backbone")
    learner_class = algos.find(content["algorithm"], backbone)
    members = [
        Member(
            entry["seed"], from_json(learner_class.Config, entry["config"]), entry.get("dataset", 0)
        )
        for entry in content["members"]
    ]
    bounds = content["action_bounds"]
    low, high = (None if bounds[k] is None else torch.tensor(bounds[k]) for k in ("low", "high"))
    run = Run(
        algorithm=content["algorithm"],
        members=members,
        num_updates=content["num_updates"],
        precision=content["precision"],
        spec=InputSpec(content["obs_dim"], content["action_dim"]),
        env_id=content["env_id"],
        action_low=low,
        action_high=high,
        datasets=content["datasets"],
        failed={int(member): update for member, update in content["failed"].items()},
        path=folder,
        device=choose_device(device),
    )
    run.build_learners()
    checkpoints = Checkpoints(folder / "checkpoint")
    for group, learner in zip(run.groups, run.learners, strict=True):
        broken = all(member in run.failed for member in group.members)
        if checkpoints.load(f"{group.index}-train", learner) is None and not broken:
            raise FileNotFoundError(f"{folder}/checkpoint: no weights of population {group.index}")
    return run
