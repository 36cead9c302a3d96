"""Episodes stored end to end, as flat columns."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, SupportsIndex, overload

import torch
from numpy.typing import NDArray
from torch import Tensor

from fastifo.data.frames import Frames, as_frames
from fastifo.utils.arguments import as_index
from fastifo.utils.records import Record
from fastifo.utils.text import counted

# Special window lengths of `Episodes.windows`.
EPISODE_START = 0  # one window per episode, at its first transition
WITH_NEXT_ACTION = -1  # one window per transition whose next action is known or not needed
STATISTICS_ROWS = 1 << 16  # observations that `obs_statistics` converts to float64 at a time


@dataclass(frozen=True, eq=False, repr=False)
class Episode(Record):
    """One episode of T transitions, as `Episodes` returns it; the tensors share its memory.

    `Dataset.from_episodes` takes it in place of a mapping.
    """

    obs: Tensor  # [T + 1, D] float32, with the final observation
    terminal: bool  # the task ended with the last transition; False: the episode was cut there
    action: Tensor | None = None  # [T, A] float32 in [-1, 1]; [P, T, A] if each member has its own
    reward: Tensor | None = None  # [T] float32; [P, T] if each population member has its own
    images: Mapping[str, Tensor] = field(  # camera -> frames, [T + 1, H, W, C] uint8, as `obs`
        default_factory=dict
    )

    def __len__(self) -> int:
        """T, the number of transitions."""
        return len(self.obs) - 1

    def columns(self) -> dict[str, Any]:
        """The values that are present, by their names in `Dataset.from_episodes`."""
        values = {name: value for name, value in vars(self).items() if value is not None}
        images = values.pop("images")
        return values | ({"image": images} if images else {})


@dataclass(frozen=True, eq=False, repr=False)
class Episodes(Record):
    """E episodes with N transitions in total, stored end to end.

    An episode of T transitions has T + 1 observations, so the true final observation is available
    after a timeout. The observation and the next observation of a transition are successive rows
    of `obs`; `rows` gives the first of the two. Episodes are equal if all columns are.
    """

    obs: Tensor  # [N + E, D] float32
    start: Tensor  # [E + 1] int64; episode e has transitions start[e] .. start[e + 1] - 1
    terminal: Tensor  # [N] bool: the task ended with this transition
    timeout: Tensor  # [N] bool: the episode was cut here, by a time limit or the end of the data
    action: Tensor | None = None  # [N, A] float32 in [-1, 1]; [P, N, A] if each member has its own
    reward: Tensor | None = None  # [N] float32; [P, N] if each population member has its own
    success: Tensor | None = None  # [E] bool: the task succeeded in the episode; None: not known
    ranges: Tensor | None = None  # [P, 2] int64: first transition and count of a member's part
    # Frames of each camera, [N + E, H, W, C] uint8, one for every row of `obs`.
    images: Mapping[str, Frames] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images:  # tensors are accepted too
            frames = {camera: as_frames(value) for camera, value in self.images.items()}
            object.__setattr__(self, "images", frames)

    def __repr__(self) -> str:
        width = f"observations {self.obs_dim} wide"
        if self.action is not None:
            width += f", actions {self.action.shape[-1]} wide"
        rewards = "" if self.reward is None else ", with rewards"
        cameras = f", frames of {' and '.join(self.images)}" if self.images else ""
        return f"Episodes({self.counts()}, {width}{rewards}{cameras})"

    def counts(self) -> str:
        """The numbers of episodes and of transitions, as text."""
        transitions = counted(self.num_transitions, "transition")
        return f"{counted(self.num_episodes, 'episode')}, {transitions}"

    def __len__(self) -> int:
        """E, the number of episodes."""
        return self.num_episodes

    @overload
    def __getitem__(self, index: SupportsIndex) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> "Episodes": ...
    def __getitem__(self, index: SupportsIndex | slice) -> "Episode | Episodes":
        """The episode with this index, which may count from the end; or those of a slice.

        Raises IndexError if there is no such episode.
        """
        if isinstance(index, slice):
            return self.take(range(*index.indices(self.num_episodes)))
        number = as_index("episode", index, self.num_episodes)
        first, last = int(self.start[number]), int(self.start[number + 1])
        return Episode(
            obs=self.obs[first + number : last + number + 1],
            terminal=bool(self.terminal[last - 1]),
            action=None if self.action is None else self.action[..., first:last, :],
            reward=None if self.reward is None else self.reward[..., first:last],
            images={
                camera: frames[first + number : last + number + 1]
                for camera, frames in self.images.items()
            },
        )

    def __iter__(self) -> Iterator[Episode]:
        """The episodes in order."""
        return (self[index] for index in range(self.num_episodes))

    @property
    def num_transitions(self) -> int:
        """N, the number of transitions."""
        return len(self.terminal)

    @property
    def num_episodes(self) -> int:
        """E, the number of episodes."""
        return len(self.start) - 1

    @property
    def obs_dim(self) -> int:
        """D, the width of an observation."""
        return self.obs.shape[1]

    @property
    def lengths(self) -> Tensor:
        """Number of transitions of each episode, [E] int64."""
        return self.start.diff()

    def rows(self) -> Tensor:
        """Row of `obs` that holds each transition's observation, [N] int64.

        The next observation is in the row after it.
        """
        number = torch.arange(self.num_episodes, device="cpu")
        episode = torch.repeat_interleave(number, self.lengths)
        return torch.arange(self.num_transitions, device="cpu") + episode

    def obs_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the transitions' observations, [D] each, as `obs`.

        An episode's final observation does not count: no transition starts from it.
        """
        total, squares = (torch.zeros(self.obs_dim, dtype=torch.float64) for _ in range(2))
        blocks = self.rows().split(STATISTICS_ROWS)
        for rows in blocks:
            total += self.obs[rows].double().sum(0)
        mean = total / self.num_transitions
        for rows in blocks:
            squares += (self.obs[rows].double() - mean).square().sum(0)
        deviation = (squares / self.num_transitions).sqrt()
        return mean.to(self.obs.dtype), deviation.to(self.obs.dtype)

    def windows(
        self, length: int, first: int = 0, count: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Where windows of successive transitions start, in the form that `draw_windows` takes.

        length: transitions in a window, which never crosses an episode's end; or `EPISODE_START`;
        or `WITH_NEXT_ACTION`, which omits the last transition of an episode that timed out.
        first, count: only the episodes within this range of transitions; all of them by default.
        Returns the first transition of each of the K episodes, [K] int64, and the number of windows
        in all episodes before it, [K + 1] int64; the last entry is the total.
        Raises ValueError if no episode is long enough.
        """
        start = self.start[:-1]
        end = self.num_transitions if count is None else first + count
        in_range = (start >= first) & (start < end)
        lengths = self.lengths[in_range]
        if length == WITH_NEXT_ACTION:
            timed_out = ~self.terminal[self.start[1:][in_range] - 1]
            counts = lengths - timed_out.long()
        elif length == EPISODE_START:
            counts = torch.ones_like(lengths)
        else:
            counts = (lengths - length + 1).clamp(min=0)
        before = _from_zero(counts.cumsum(0))
        if length < WITH_NEXT_ACTION or int(before[-1]) == 0:
            raise ValueError(
                f"length: expected 1 to {int(lengths.max())}, the length of the longest episode, "
                f"found {length}"
            )
        return start[in_range].clone(), before

    def returns(self) -> Tensor | None:
        """Undiscounted sum of rewards of each episode, [E] float64; None without rewards."""
        if self.reward is None:
            return None
        total = self.reward.double().cumsum(0)
        total = torch.cat([total.new_zeros(1), total])
        return total[self.start[1:]] - total[self.start[:-1]]

    def take(self, episodes: Sequence[int] | NDArray[Any]) -> "Episodes":
        """The episodes with these indices, in that order; their columns are copied, frames not.

        An index may count from the end.  Raises TypeError for booleans, IndexError if there is no
        such episode.
        """
        index = torch.as_tensor(episodes, device="cpu")
        if index.dtype == torch.bool:
            raise TypeError("episodes: expected indices, found booleans; pass mask.nonzero()[0]")
        count, index = self.num_episodes, index.long()
        if len(outside := index[(index < -count) | (index >= count)]):
            raise IndexError(f"episodes: expected {-count} to {count - 1}, found {outside[0]}")
        index = index % max(count, 1)
        first, length = self.start[index], self.lengths[index]
        start = _from_zero(length.cumsum(0))
        within = torch.arange(int(start[-1]), device="cpu")
        within -= torch.repeat_interleave(start[:-1], length)
        step = torch.repeat_interleave(first, length) + within
        rows_start = start + torch.arange(len(start), device="cpu")
        within = torch.arange(int(rows_start[-1]), device="cpu") - torch.repeat_interleave(
            rows_start[:-1], length + 1
        )
        row = torch.repeat_interleave(first + index, length + 1) + within
        other = ("obs", "start", "success")
        taken = {k: v[step] for k, v in self.columns().items() if k not in other}
        success = None if self.success is None else self.success[index]
        images = {camera: frames.take(row) for camera, frames in self.images.items()}
        return Episodes(obs=self.obs[row], start=start, success=success, images=images, **taken)

    @staticmethod
    def joined(parts: Sequence["Episodes"]) -> "Episodes":
        """All episodes of all parts, in order.

        Every part must have the same columns and cameras; `success` is kept if all parts have it.
        """
        before = torch.tensor([0, *(part.num_transitions for part in parts)], device="cpu").cumsum(
            0
        )
        starts = [part.start[:-1] + first for part, first in zip(parts, before, strict=False)]
        columns = {
            name: torch.cat([getattr(part, name) for part in parts])
            for name in parts[0].columns()
            if name != "start" and (name != "success" or all(p.success is not None for p in parts))
        }
        images = {
            camera: Frames.joined([part.images[camera] for part in parts])
            for camera in parts[0].images
        }
        return Episodes(start=torch.cat([*starts, before[-1:]]), images=images, **columns)

    def without_rewards(self) -> "Episodes":
        """The same episodes without rewards, as an expert's are stored.

        Actions are kept, if there are any: privileged methods such as `sqil` need them.
        """
        return Episodes(
            self.obs, self.start, self.terminal, self.timeout, self.action, images=self.images
        )

    def columns(self) -> dict[str, Tensor]:
        """The columns that are present, by field name; without `ranges` and `images`."""
        fields = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return {k: v for k, v in fields if v is not None and k not in ("ranges", "images")}


def _from_zero(positions: Tensor) -> Tensor:
    """[0, *positions], on the CPU whatever torch's default device is."""
    return torch.cat([torch.zeros(1, dtype=torch.int64, device="cpu"), positions])
