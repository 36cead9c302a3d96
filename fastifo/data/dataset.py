"""Expert episodes (observations only) and background episodes, as flat columns."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fastifo.data.build import build_dataset
from fastifo.data.episodes import Episodes
from fastifo.data.formats import d4rl
from fastifo.data.pack import read_pack, verify, write_pack


@dataclass(frozen=True)
class Dataset:
    """What a run learns from: expert observations and background transitions.

    Rewards of the background serve reports and oracles, actions of the expert privileged methods;
    imitation methods never see them.
    """

    background: Episodes
    expert: Episodes | None = None
    env_id: str | None = None  # EnvPool's name, for evaluation
    action_low: Tensor | None = None  # [A]; actions in the columns are mapped from here to [-1, 1]
    action_high: Tensor | None = None  # [A]
    info: Mapping[str, Any] = field(default_factory=dict)  # provenance, JSON values
    unverified: tuple[Path, ...] = ()  # large files whose blocks nobody has checked yet

    @staticmethod
    def from_episodes(
        background: Sequence[Mapping[str, Any]],
        expert: Sequence[Mapping[str, Any]] = (),
        env_id: str | None = None,
        *,
        action_low: Any = None,
        action_high: Any = None,
        min_steps: int = 2,
    ) -> "Dataset":
        """A dataset from arrays in memory: numpy, torch, or anything `torch.from_dlpack` takes.

        expert: {"obs": [T+1, D], "terminal": bool} each; "reward" may be there and is left out,
        "action" too, which is kept unchecked for `sqil` where every episode has it.
        background: {"obs": [T+1, D], "action": [T, A], "reward": [T], "terminal": bool} each.
        Reward and terminal may be left out; an episode that is not terminal ended at its time
        limit.  Actions lie in [action_low, action_high], each a number or [A], [-1, 1] unless
        given.  env_id: EnvPool's name; without it a run cannot be evaluated.  An episode needs
        `min_steps` transitions.
        Raises ValueError or TypeError naming the episode, what was expected and what was found.
        """
        return Dataset(
            **build_dataset(background, expert, env_id, action_low, action_high, min_steps)
        )

    @property
    def obs_dim(self) -> int:
        return self.background.obs_dim

    @property
    def action_dim(self) -> int:
        return 0 if self.background.action is None else self.background.action.shape[1]

    def save(self, path: str | Path) -> None:
        """Writes one file; what was there before stays until the new one is complete.

        Raises OSError where it cannot be written.
        """
        parts = {"background": self.background}
        if self.expert is not None:
            parts["expert"] = self.expert
        bounds = {"action_low": self.action_low, "action_high": self.action_high}
        given = {name: bound for name, bound in bounds.items() if bound is not None}
        write_pack(Path(path), parts, given, self.env_id, self.info)

    def save_d4rl(self, path: str | Path) -> None:
        """Writes the background as D4RL does, one HDF5 file that offline RL programs read.

        Actions are in the environment's bounds again, where those are known.
        Raises ValueError without rewards or actions, OSError where it cannot be written.
        """
        d4rl.write(Path(path), self.background, self.action_low, self.action_high)

    def verify(self) -> None:
        """Checks what was left when large files were opened.  Raises ValueError naming a file."""
        for path in self.unverified:
            verify(path)

    def fingerprint(self) -> str:
        """A hash of every column, so that a resumed run is known to see the same data."""
        digest = hashlib.sha256()
        for source in ("expert", "background"):
            episodes = getattr(self, source)
            for name, value in {} if episodes is None else episodes.columns().items():
                digest.update(f"{source}.{name}{tuple(value.shape)}{value.dtype}".encode())
                digest.update(np.ascontiguousarray(value.numpy()).view(np.uint8).data)
        return digest.hexdigest()

    def summary(self) -> str:
        """Sizes, lengths and returns of both parts, as text."""
        lines = [f"environment  {self.env_id or '(none: cannot be evaluated)'}"]
        lines.append(f"observation  {self.obs_dim} wide    action  {self.action_dim} wide")
        for name in ("expert", "background"):
            episodes = getattr(self, name)
            lines.append(f"{name:12} {'none' if episodes is None else _describe(episodes)}")
        for what, count in self.info.get("notes", {}).items():
            lines.append(f"{what}: {count}")
        if "expert_returns" in self.info:
            alone, shown = self.info["expert_returns"], self.info["demonstration_return_mean"]
            mean = sum(alone) / len(alone)
            lines.append(f"expert's return {mean:.1f}, that of its demonstrations {shown:.1f}")
        return "\n".join(lines)


def load_dataset(path: Path) -> Dataset:
    """The dataset that `Dataset.save` wrote, its columns mapped into memory.

    Raises FileNotFoundError, or ValueError naming the file and what is damaged.
    """
    return Dataset(**read_pack(path))


def _describe(episodes: Episodes) -> str:
    length = episodes.lengths.double()
    text = (
        f"{episodes.num_episodes} episodes, {episodes.num_transitions} transitions, "
        f"length {length.mean():.0f} ({int(length.min())} to {int(length.max())}), "
        f"{int(episodes.terminal.sum())} terminal, {int(episodes.timeout.sum())} timeout"
    )
    returns = episodes.returns()
    if returns is not None:
        spread = returns.std(correction=0)
        text += f", return {returns.mean():.1f} ± {spread:.1f}"
    return text + ("" if episodes.action is not None else ", no actions")
