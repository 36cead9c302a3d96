"""Windows of successive (observation, action) rows, one starting at every transition."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastifo.data.episodes import Episodes
from fastifo.utils.records import Record

EPSILON = 1e-3  # added to standard deviations, so that nearly constant values are not blown up
LIMIT = 10.0  # scaled values are clipped to [-LIMIT, LIMIT]


@dataclass(frozen=True, eq=False, repr=False)
class Scale(Record):
    """Mean and standard deviation that rows of C values are standardized with."""

    mean: Tensor  # [C]
    deviation: Tensor  # [C], EPSILON added

    @staticmethod
    def of(background: Episodes, *, actions: bool) -> "Scale":
        """Statistics of the background's observations, followed by its actions' if asked for."""
        columns = [background.obs]
        if actions:
            assert background.action is not None
            columns.append(background.action)
        moments = [torch.std_mean(column, 0, correction=0) for column in columns]
        deviation, mean = (torch.cat(parts) for parts in zip(*moments, strict=True))
        return Scale(mean, deviation + EPSILON)


def window_rows(episodes: Episodes, horizon: int, scale: Scale) -> Episodes:
    """Episodes whose `obs` are scaled rows, padded so that a window starts at every transition.

    A row is an observation followed by its action, as far as `scale` has entries for one; missing
    actions are 0. After its last transition an episode is padded with that transition's
    observation and action 0. A window of `horizon` rows covers `window_length(horizon)` transitions
    of the result, which has neither actions nor rewards nor terminals.
    """
    extra, count = window_length(horizon), episodes.num_transitions
    lengths = episodes.lengths
    padded = lengths + extra
    begin = padded.cumsum(0) - padded
    episode = torch.repeat_interleave(torch.arange(episodes.num_episodes, device="cpu"), padded)
    within = torch.arange(int(padded.sum()), device="cpu") - begin[episode]
    last = lengths[episode] - 1
    step = episodes.start[:-1][episode] + torch.minimum(within, last)
    rows = episodes.obs[step + episode]
    width = len(scale.mean) - rows.shape[1]
    if width:
        action = rows.new_zeros(len(rows), width)
        if episodes.action is not None:
            live = within <= last
            action[live] = episodes.action[step[live]]
        rows = torch.cat([rows, action], 1)
    rows -= scale.mean
    rows /= scale.deviation
    rows.clamp_(-LIMIT, LIMIT)
    start = torch.cat([begin, padded.sum(0, keepdim=True)]) - torch.arange(
        len(lengths) + 1, device="cpu"
    )
    no_end = torch.zeros(int(start[-1]), dtype=torch.bool, device="cpu")
    ranges = episodes.ranges
    if ranges is not None:
        edges = torch.stack([ranges[:, 0], ranges.sum(1)])  # [2, P]: first transition and end
        first, end = start[torch.searchsorted(episodes.start, edges)]
        ranges = torch.stack([first, end - first], 1)
    assert count == 0 or int(start[-1]) == count + len(lengths) * (extra - 1)
    return Episodes(obs=rows, start=start, terminal=no_end, timeout=no_end, ranges=ranges)


def window_length(horizon: int) -> int:
    """Number of transitions in a window of `horizon` rows, at least 1.

    `Episodes` has one row more than transitions and cannot hold an episode without any.
    """
    return max(1, horizon - 1)


def first_rows(episodes: Episodes, horizon: int) -> Tensor:
    """Row of `window_rows(episodes, horizon, ...)` where each transition's window starts, [N]."""
    lengths = episodes.lengths
    padded = lengths + window_length(horizon)
    begin = padded.cumsum(0) - padded
    episode = torch.repeat_interleave(torch.arange(episodes.num_episodes, device="cpu"), lengths)
    step = torch.arange(episodes.num_transitions, device="cpu") - episodes.start[episode]
    return begin[episode] + step


def window_starts(episodes: Episodes, horizon: int, placement: str) -> Tensor:
    """The transition at which the window of each transition starts, int64 [N].

    starts: the window starts at its transition and is padded after the episode's end.  ends: it
    ends at its transition, but starts no earlier than the episode.  fits: as starts, but at the
    latest at the episode's last window without padding.
    """
    step = torch.arange(episodes.num_transitions, device="cpu")
    episode = torch.repeat_interleave(
        torch.arange(episodes.num_episodes, device="cpu"), episodes.lengths
    )
    begin = episodes.start[:-1][episode]
    if placement == "ends":
        return torch.maximum(step - horizon + 1, begin)
    if placement == "fits":
        return torch.minimum(step, torch.maximum(begin, episodes.start[1:][episode] - horizon))
    return step
