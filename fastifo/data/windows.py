"""Windows of successive (observation, action) rows, one from every transition on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastifo.data.episodes import Episodes

EPSILON = 1e-3  # added to deviations
LIMIT = 10.0  # of a scaled number


@dataclass(frozen=True)
class Scale:
    """Mean of each number of a row, and its deviation with 1e-3 added, [C] each."""

    mean: Tensor
    deviation: Tensor

    @staticmethod
    def of(background: Episodes, *, actions: bool) -> "Scale":
        """Of the background, whose near-constant numbers are not blown up."""
        columns = [background.obs]
        if actions:
            assert background.action is not None
            columns.append(background.action)
        found = [torch.std_mean(column, 0, correction=0) for column in columns]
        deviation, mean = (torch.cat(parts) for parts in zip(*found, strict=True))
        return Scale(mean, deviation + EPSILON)


def window_rows(episodes: Episodes, horizon: int, scale: Scale) -> Episodes:
    """Episodes whose `obs` are rows, so long that a window starts at every transition.

    Behind its last row an episode goes on with that row's observation and action 0.  Rows hold as
    many numbers as the scale, observations first; actions that are not there are 0.
    Windows of `horizon` rows are those of `window_length(horizon)` transitions.
    """
    extra, count = window_length(horizon), episodes.num_transitions
    lengths = episodes.lengths
    grown = lengths + extra
    begin = grown.cumsum(0) - grown
    episode = torch.repeat_interleave(torch.arange(episodes.num_episodes), grown)
    within = torch.arange(int(grown.sum())) - begin[episode]
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
    start = torch.cat([begin, grown.sum(0, keepdim=True)]) - torch.arange(len(lengths) + 1)
    over = torch.zeros(int(start[-1]), dtype=torch.bool)
    ranges = episodes.ranges
    if ranges is not None:
        first, behind = ranges[:, 0], ranges.sum(1)
        of_episode = torch.searchsorted(episodes.start, torch.stack([first, behind]))
        first, behind = start[of_episode]
        ranges = torch.stack([first, behind - first], 1)
    assert count == 0 or int(start[-1]) == count + len(lengths) * (extra - 1)
    return Episodes(obs=rows, start=start, terminal=over, timeout=over, ranges=ranges)


def window_length(horizon: int) -> int:
    """Transitions of a window; one at least, since `Episodes` has no rows without them."""
    return max(1, horizon - 1)


def first_rows(episodes: Episodes, horizon: int) -> Tensor:
    """The first row of the window of every transition, in `window_rows` of the same, [N]."""
    lengths = episodes.lengths
    grown = lengths + window_length(horizon)
    begin = grown.cumsum(0) - grown
    episode = torch.repeat_interleave(torch.arange(episodes.num_episodes), lengths)
    return begin[episode] + torch.arange(episodes.num_transitions) - episodes.start[episode]
