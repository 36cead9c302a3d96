"""A finished or resumable run: its members, their policies, its folder."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastifo import algos
from fastifo.config import from_json, to_json
from fastifo.data.sampler import purpose, uniform
from fastifo.engine.checkpoint import Checkpoints
from fastifo.engine.population import Group, Member, group_members
from fastifo.evaluate import Returns, evaluate_policies
from fastifo.files import read_json, write_json
from fastifo.learner import Learner, Spec

FORMAT = "fastifo-run"


@dataclass
class Run:
    """What `fastifo.train` returns and `fastifo.open_run` reads."""

    algorithm: str
    members: list[Member]
    num_updates: int
    precision: str
    spec: Spec
    env_id: str | None
    action_low: Tensor | None
    action_high: Tensor | None
    dataset: dict[str, Any]  # fingerprint and summary of what it was trained on
    learners: list[Learner] = field(default_factory=list)  # one per population
    groups: list[Group] = field(default_factory=list)
    failed: dict[int, int] = field(default_factory=dict)  # member -> update where it broke
    path: Path | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def evaluate(
        self,
        num_episodes: int = 100,
        deterministic: bool = False,
        *,
        seed: int = 0,
        members: Sequence[int] | None = None,
        progress: bool = True,
    ) -> Returns:
        """Plays `num_episodes` with every member in one EnvPool; all members see the same starts.

        With a run folder, the result is kept in `returns.npz` (`returns-deterministic.npz`).
        Raises ValueError without an environment id.
        """
        if self.env_id is None:
            raise ValueError(
                "evaluate: the dataset names no environment; pass env_id='Hopper-v4', say, to "
                "Dataset.from_episodes"
            )
        chosen = range(len(self.members)) if members is None else members
        policies = [self.policy(member) for member in chosen]
        returns = evaluate_policies(
            policies, self.env_id, num_episodes, deterministic, seed=seed, progress=progress
        )
        if self.path is not None and members is None:
            name = "returns-deterministic.npz" if deterministic else "returns.npz"
            returns.save(self.path / name)
        return returns

    def policy(self, member: int = 0) -> "Policy":
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
        return ", ".join([f"member {member}", f"seed={mine.seed}", *differing])

    def save(self, path: str | Path) -> None:
        """Writes a run folder that `fastifo.open_run` reads.  Raises ValueError if one is there."""
        folder = Path(path)
        if self.path is not None and folder.resolve() == self.path.resolve():
            return
        refuse_occupied(folder)
        self._write_config(folder)
        checkpoints = Checkpoints(folder / "checkpoint")
        size = 0
        if self.path is not None:
            for name in ("metrics.jsonl", "returns.npz", "returns-deterministic.npz"):
                if (self.path / name).exists():
                    shutil.copyfile(self.path / name, folder / name)
            if (folder / "metrics.jsonl").exists():
                size = (folder / "metrics.jsonl").stat().st_size
        for group, learner in zip(self.groups, self.learners, strict=True):
            checkpoints.save(f"{group.index}-train", learner, {}, size)

    def _write_config(self, folder: Path) -> None:
        write_json(folder / "config.json", self.to_json())

    def to_json(self) -> dict[str, Any]:
        bounds = {
            name: None if value is None else value.tolist()
            for name, value in (("low", self.action_low), ("high", self.action_high))
        }
        return {
            "format": FORMAT,
            "version": 1,
            "algorithm": self.algorithm,
            "num_updates": self.num_updates,
            "precision": self.precision,
            "device": str(self.device),
            "torch": torch.__version__,
            "env_id": self.env_id,
            "obs_dim": self.spec.obs_dim,
            "action_dim": self.spec.action_dim,
            "action_bounds": bounds,
            "dataset": self.dataset,
            "failed": {str(member): update for member, update in self.failed.items()},
            "members": [{"seed": m.seed, "config": to_json(m.config)} for m in self.members],
        }

    def build_learners(self) -> None:
        """One learner per population, on the run's device, before any update."""
        self.groups = group_members(self.members)
        learner_class = algos.find(self.algorithm)
        self.learners = [
            learner_class(group.configs, group.seeds, self.spec, self.precision).to_device(
                self.device
            )
            for group in self.groups
        ]


class Policy:
    """Acts for one member. Sampling starts afresh with each Policy object."""

    def __init__(
        self, learner: Learner, place: int, low: Tensor | None, high: Tensor | None
    ) -> None:
        self.learner = learner.member(place)
        self.low = low
        self.high = high
        self.device = learner.encoder.mean.device
        self.seed = torch.tensor([learner.seeds[place]], dtype=torch.int64, device=self.device)
        self.counter = torch.zeros(1, dtype=torch.int64, device=self.device)

    def act(self, obs: Any, deterministic: bool = True) -> Any:
        """Actions in the environment's bounds, of the same kind (torch or numpy) as `obs`.

        obs: [D] or [B, D].  Returns [A] or [B, A].  deterministic: the mode; else a sample.
        Raises ValueError for another width.
        """
        tensor = obs if isinstance(obs, Tensor) else torch.as_tensor(np.asarray(obs))
        width = self.learner.spec.obs_dim
        if tensor.ndim not in (1, 2) or tensor.shape[-1] != width:
            raise ValueError(
                f"obs: expected shape ({width},) or (B, {width}), found {tuple(tensor.shape)}"
            )
        batch = tensor.reshape(-1, width)
        noise = None
        if not deterministic:
            noise = self.noise(purpose("act", "sample"), int(self.counter), len(batch))
            self.counter += 1
        action = self.act_rows(batch, noise)
        action = action[0] if tensor.ndim == 1 else action
        return action if isinstance(obs, Tensor) else action.numpy()

    def noise(self, stream: int, step: int, rows: int) -> Tensor:
        """The sampling numbers of one step, [rows, 2A]: a function of seed, stream and step."""
        width = 2 * self.learner.spec.action_dim
        counter = torch.tensor([step], dtype=torch.int64, device=self.device)
        numbers = uniform(self.seed, counter, stream, rows * width, self.learner.dtype)
        return numbers.view(rows, width)

    def act_rows(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """[B, D] -> [B, A] float32 on the device of `obs`; with `noise` [B, 2A] a sample."""
        own = None if noise is None else noise[None]
        action = self.learner.act(obs[None].to(self.device), own)[0].float().to(obs.device)
        if self.low is None or self.high is None:
            return action
        low, high = self.low.to(action.device), self.high.to(action.device)
        return low + 0.5 * (action + 1.0) * (high - low)


def refuse_occupied(folder: Path) -> None:
    """Raises ValueError where `folder` has anything in it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        kind = "another run" if (folder / "config.json").exists() else "other files"
        raise ValueError(f"{folder}: expected a new or empty folder, found {kind}; choose another")


def open_run(path: str | Path, device: str = "cpu") -> Run:
    """The run in a folder, with its newest checkpoint.

    Raises FileNotFoundError or ValueError naming the file that is missing, cut or foreign.
    """
    folder = Path(path)
    config = folder / "config.json"
    if not config.is_file():
        raise FileNotFoundError(f"{folder}: no run here (no config.json)")
    content = read_json(config)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{config}: expected the config of a fastifo run, found another file")
    learner_class = algos.find(content["algorithm"])
    members = [
        Member(entry["seed"], from_json(learner_class.Config, entry["config"]))
        for entry in content["members"]
    ]
    bounds = content["action_bounds"]
    low, high = (None if bounds[k] is None else torch.tensor(bounds[k]) for k in ("low", "high"))
    run = Run(
        algorithm=content["algorithm"],
        members=members,
        num_updates=content["num_updates"],
        precision=content["precision"],
        spec=Spec(content["obs_dim"], content["action_dim"]),
        env_id=content["env_id"],
        action_low=low,
        action_high=high,
        dataset=content["dataset"],
        failed={int(member): update for member, update in content["failed"].items()},
        path=folder,
        device=torch.device(device),
    )
    run.build_learners()
    checkpoints = Checkpoints(folder / "checkpoint")
    for group, learner in zip(run.groups, run.learners, strict=True):
        if checkpoints.load(f"{group.index}-train", learner) is None:
            raise FileNotFoundError(f"{folder}/checkpoint: no weights of population {group.index}")
    return run
