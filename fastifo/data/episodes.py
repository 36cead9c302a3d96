"""Episodes laid end to end, as flat columns."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

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
