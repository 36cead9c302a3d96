"""The last step of every reader: drops damaged episodes, rescales actions, counts changes."""

from collections.abc import Sequence
from typing import Any

import torch

from fastifo.data.episodes import Episodes
from fastifo.data.formats.actions import choose_bounds, clip_actions, to_unit
from fastifo.data.formats.source import Ints, ReadResult, Source

LARGEST_OBSERVATION, LARGEST_ACTION = 1e8, 10.0  # larger values are damaged
LARGEST_REWARD = 1e8  # larger ones are counted
LARGEST_DROPPED_SHARE = 0.5  # of the episodes; without `skip_bad` a file with more is refused
DROPPED = "episodes dropped for damaged or missing values"


def finish(
    source: Source, episodes: Episodes, notes: dict[str, int], rows: Ints | None = None
) -> ReadResult:
    """Drops episodes with damaged values, and maps actions to [-1, 1]; all changes are counted.

    rows: as `ReadResult.rows`.
    Raises ValueError naming the file if more than LARGEST_DROPPED_SHARE of the episodes would be
    dropped, or too many actions clipped.
    """
    action = episodes.action
    bounds = None if action is None else choose_bounds(source, action.shape[1])
    if action is not None and bounds is not None:
        action = to_unit(action, *bounds)
    damaged, reasons = _damaged(episodes, action, bounds is not None)
    if action is not episodes.action:
        episodes = _replaced(episodes, action)
    if rows is not None and bool(damaged.any()):
        rows = rows[~damaged[torch.repeat_interleave(episodes.lengths + 1)].numpy()]
    episodes = drop_episodes(source, episodes, damaged, notes, reasons)
    if episodes.action is not None:
        clip_actions(source, episodes.action, bounds, notes)
    if episodes.reward is not None:
        odd = ~(episodes.reward.abs() <= LARGEST_REWARD)
        notes["rewards that are not finite or exceed 1e8"] = int(odd.sum())
    low, high = (None, None) if bounds is None else bounds
    notes = {note: count for note, count in notes.items() if count}
    return ReadResult(episodes, source, low, high, notes, rows)


def _damaged(
    episodes: Episodes, action: torch.Tensor | None, has_bounds: bool
) -> tuple[torch.Tensor, list[str]]:
    """[E] bool, episodes with values that no simulator makes, and the first reasons why.

    action: the actions as far as they are on the scale [-1, 1].
    """
    damaged = torch.zeros(episodes.num_episodes, dtype=torch.bool, device="cpu")
    reasons = []
    for name, column, limit in (
        ("obs", episodes.obs, LARGEST_OBSERVATION), ("action", action, LARGEST_ACTION),
    ):  # fmt: skip
        bad = None if column is None else ~(column.abs() <= limit)  # also true for NaN
        if column is None or bad is None or not bool(bad.any()):
            continue
        owner = torch.repeat_interleave(episodes.lengths + (name == "obs"))  # episode of each row
        damaged[owner[bad.any(1)]] = True
        index = torch.nonzero(bad)[0].tolist()
        reason = (
            f"{name}: expected finite numbers of at most {limit:g}, found "
            f"{float(column[tuple(index)])} in row {index[0]}: the file is damaged"
        )
        if name == "action" and not has_bounds:
            reason += ", or these actions have other bounds: pass action_low and action_high"
        reasons.append(reason)
    return damaged, reasons


def drop_episodes(
    source: Source,
    episodes: Episodes,
    damaged: torch.Tensor,
    notes: dict[str, int],
    reasons: Sequence[str],
) -> Episodes:
    """The episodes that are not damaged.

    damaged: [E] bool.  reasons: of the first damaged ones, for the error.
    """
    count, earlier = int(damaged.sum()), notes.get(DROPPED, 0)
    if count == 0:
        return episodes
    check_share(source, count + earlier, episodes.num_episodes + earlier, reasons[0])
    notes[DROPPED] = count + earlier
    return episodes.take(torch.nonzero(~damaged)[:, 0].tolist())


def check_share(source: Source, dropped: int, count: int, reason: str) -> None:
    """Raises ValueError with the reason if too many of `count` episodes are dropped.

    With the option `skip_bad` that is all of them.
    """
    largest = count - 1 if source.options.skip_bad else LARGEST_DROPPED_SHARE * count
    if dropped > largest:
        more = ""
        if count > 1:
            remedy = "" if dropped == count else "; skip_bad=True (,skip_bad=true) drops them"
            more = f" ({dropped} of {count} episodes are unusable{remedy})"
        raise source.error(f"{reason}{more}")


def _replaced(episodes: Episodes, action: torch.Tensor | None) -> Episodes:
    columns: dict[str, Any] = episodes.columns()
    return Episodes(**columns | {"action": action})
