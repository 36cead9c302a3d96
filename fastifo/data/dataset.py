"""Expert episodes (observations only) and background episodes, as flat columns."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLLOWED = -1  # a length of windows: one transition, and the next where the task goes on


@dataclass(frozen=True)
class Episodes:
    """Episodes laid end to end: N transitions, E episodes.

    An episode of T transitions keeps its T + 1 observations, so the true final observation is
    there after a timeout, and (obs, next_obs) of a transition are neighbouring rows.
    """

    obs: Tensor  # [N + E, D] float32
    start: Tensor  # [E + 1] int64; episode e holds transitions start[e] .. start[e + 1] - 1
    terminal: Tensor  # [N] bool: the task ended with this transition
    timeout: Tensor  # [N] bool: the clock ran out here; the task would have gone on
    action: Tensor | None = None  # [N, A] float32, in [-1, 1], or [P, N, A] as the reward
    reward: Tensor | None = None  # [N] float32, or [P, N] where each population member has its own
    ranges: Tensor | None = None  # [P, 2] first and count of the transitions each member draws from

    @property
    def num_transitions(self) -> int:
        return len(self.terminal)

    @property
    def num_episodes(self) -> int:
        return len(self.start) - 1

    @property
    def obs_dim(self) -> int:
        return self.obs.shape[1]

    @property
    def lengths(self) -> Tensor:
        """Transitions of each episode, [E]."""
        return self.start.diff()

    def rows(self) -> Tensor:
        """Row in `obs` of each transition's observation, [N]; the next observation follows it."""
        episode = torch.repeat_interleave(torch.arange(self.num_episodes), self.lengths)
        return torch.arange(self.num_transitions) + episode

    def windows(
        self, length: int, first: int = 0, count: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Windows of `length` successive transitions of one episode, as `draw_windows` wants them;
        at length 0 one a whole episode, from its start; at FOLLOWED every transition but the one
        that the clock ended.

        first, count: a range of whole episodes, in transitions.
        (first transition of each episode [E], windows in the episodes before it [E + 1]), int64.
        Raises ValueError where no episode is so long.
        """
        start = self.start[:-1]
        last = self.num_transitions if count is None else first + count
        own = (start >= first) & (start < last)
        lengths = self.lengths[own]
        if length == FOLLOWED:
            counts = lengths - (~self.terminal[self.start[1:][own] - 1]).long()
        else:
            counts = (lengths - length + 1).clamp(min=0) if length else torch.ones_like(lengths)
        before = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        if length < FOLLOWED or int(before[-1]) == 0:
            raise ValueError(
                f"length: expected 1 to {int(lengths.max())}, the longest episode's transitions, "
                f"found {length}"
            )
        return start[own].clone(), before

    def returns(self) -> Tensor | None:
        """Undiscounted reward sum of each episode, [E] float64."""
        if self.reward is None:
            return None
        total = self.reward.double().cumsum(0)
        total = torch.cat([total.new_zeros(1), total])
        return total[self.start[1:]] - total[self.start[:-1]]

    def take(self, episodes: Sequence[int]) -> "Episodes":
        """The named episodes, in that order."""
        index = torch.as_tensor(episodes, dtype=torch.int64)
        first, length = self.start[index], self.lengths[index]
        start = torch.cat([torch.zeros(1, dtype=torch.int64), length.cumsum(0)])
        within = torch.arange(int(start[-1])) - torch.repeat_interleave(start[:-1], length)
        step = torch.repeat_interleave(first, length) + within
        rows_start = start + torch.arange(len(start))
        within = torch.arange(int(rows_start[-1])) - torch.repeat_interleave(
            rows_start[:-1], length + 1
        )
        row = torch.repeat_interleave(first + index, length + 1) + within
        taken = {k: v[step] for k, v in self.columns().items() if k not in ("obs", "start")}
        return Episodes(obs=self.obs[row], start=start, **taken)

    @staticmethod
    def joined(parts: Sequence["Episodes"]) -> "Episodes":
        """All of them, end to end; every part has the same columns."""
        before = torch.tensor([0, *(part.num_transitions for part in parts)]).cumsum(0)
        starts = [part.start[:-1] + first for part, first in zip(parts, before, strict=False)]
        columns = {
            name: torch.cat([getattr(part, name) for part in parts])
            for name in parts[0].columns()
            if name != "start"
        }
        return Episodes(start=torch.cat([*starts, before[-1:]]), **columns)

    def without_rewards(self) -> "Episodes":
        """An expert's part of a dataset. Its actions, where known, are for privileged methods."""
        return Episodes(self.obs, self.start, self.terminal, self.timeout, self.action)

    def columns(self) -> dict[str, Tensor]:
        """The tensors that are there, by name."""
        named = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return {k: v for k, v in named if v is not None and k != "ranges"}


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
        from fastifo.data.build import build_dataset

        return build_dataset(background, expert, env_id, action_low, action_high, min_steps)

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
        from fastifo.data.pack import save_dataset

        save_dataset(self, Path(path))

    def save_d4rl(self, path: str | Path) -> None:
        """Writes the background as D4RL does, one HDF5 file that offline RL programs read.

        Actions are in the environment's bounds again, where those are known.
        Raises ValueError without rewards or actions, OSError where it cannot be written.
        """
        from fastifo.data.d4rl import write

        write(self, Path(path))

    def verify(self) -> None:
        """Checks what was left when large files were opened.  Raises ValueError naming a file."""
        from fastifo.data.pack import verify

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
