"""Batches drawn by counter: what update t sees is a function of the seed and t alone."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastifo.data.dataset import Dataset
from fastifo.data.episodes import FOLLOWED, Episodes
from fastifo.data.stack import member_ranges
from fastifo.nn.encoder import Encoder
from fastifo.ops.draw import draw, draw_windows
from fastifo.ops.gather import Gatherer, gather_reference

ROWS = ("obs", "next_obs", "after_obs")  # successive observations


@dataclass(frozen=True)
class Transitions:
    """B transitions for each of P members."""

    obs: Tensor  # [P, B, width], encoded: what a net reads
    next_obs: Tensor  # [P, B, width]; of triples the one after it is `after_obs`
    terminal: Tensor  # [P, B] 0 or 1
    action: Tensor | None = None  # [P, B, A]
    next_action: Tensor | None = None  # [P, B, A], of the next transition; arbitrary at a terminal
    reward: Tensor | None = None  # [P, B]
    after_obs: Tensor | None = None  # [P, B, width], where asked for


@dataclass(frozen=True)
class Batch:
    """What one update sees."""

    background: Transitions
    expert: Transitions | None = None
    policy: Transitions | None = None  # background rows for the policy alone, where asked for
    uniform: Tensor | None = None  # [P, B] in [0, 1), where asked for
    initial: Tensor | None = None  # [P, B, width]: first observations of episodes, where asked for
    windows: Tensor | None = None  # [H, P, B, width], where asked for
    noise: Tensor | None = None  # [P, B, width] in [0, 1), as wide as the learner says


def purpose(stage: str, what: str) -> int:
    """The stream of random numbers for one use, so that uses never share draws."""
    return zlib.crc32(f"{stage}/{what}".encode())


def uniform(seed: Tensor, counter: Tensor, stream: int, size: int, dtype: torch.dtype) -> Tensor:
    """Numbers in [0, 1) with 24 random bits, [P, size]."""
    return draw(seed, counter, stream, 1 << 24, size).to(dtype) * 2.0**-24


class Columns:
    """One source's columns on the training device, gathered by transition index."""

    def __init__(
        self,
        episodes: Episodes,
        device: torch.device,
        dtype: torch.dtype,
        encoder: Encoder | None,
        *,
        action: bool,
        reward: bool,
        fused: bool,
        steps: int = 2,
        next_action: bool = False,
        reuses: bool = False,
    ) -> None:
        """steps: successive observations of a row, which stay in one episode if drawn so."""

        def place(column: Tensor) -> Tensor:
            return column.to(device, dtype).contiguous()

        named = {"terminal": place(episodes.terminal)}
        own: dict[str, Tensor] = {}
        if action and episodes.action is not None:
            (own if episodes.action.ndim == 3 else named)["action"] = place(episodes.action)
            if next_action:
                named["next_action"] = place(episodes.action.roll(-1, 0))
        if reward and episodes.reward is not None:
            (own if episodes.reward.ndim == 2 else named)["reward"] = place(episodes.reward)
        self.names = ["obs", *named, *own]
        self.episodes = episodes
        scale, mean, deviation = torch.empty(0, dtype=dtype, device=device), None, None
        if encoder is not None:
            scale = encoder.scale
            if encoder.standardizes:
                mean, deviation = encoder.mean, encoder.deviation
        fixed = (
            episodes.rows().to(device), place(episodes.obs), scale, mean, deviation, steps,
            list(named.values()), list(own.values()),
        )  # fmt: skip
        self.fixed, self.fused, self.reuses = fixed, fused, reuses
        self.take: dict[str, Callable[[Tensor], list[Tensor]]] = {}

    def gather(self, what: str, index: Tensor) -> Transitions:
        """index: [P, B] transitions.  Returns their columns in the training dtype.

        what: names the batch; where memory is reused, each name has its own.
        """
        if what not in self.take:
            fixed = self.fixed
            self.take[what] = (
                Gatherer(*fixed, reuses=self.reuses)
                if self.fused
                else lambda index: gather_reference(index, *fixed)
            )
        found = dict(zip(self.names, self.take[what](index), strict=True))
        self.rows = found.pop("obs")  # [steps, P, B, width]
        rows = dict(zip(ROWS, self.rows.unbind(0), strict=False))
        return Transitions(**rows, **found)


class Sampler:
    """Draws the batch of an update for every member from its own seed."""

    def __init__(
        self,
        dataset: Dataset,
        seeds: Sequence[int],
        batch_size: int,
        needs: frozenset[str],
        stage: str,
        device: torch.device,
        dtype: torch.dtype,
        encoder: Encoder | None = None,
        *,
        noise_width: int = 0,
        window: int = 0,
        fused: bool = True,
        reuses: bool = False,
    ) -> None:
        """encoder: what observations pass on the way; None leaves them as they are.

        noise_width: numbers a row, where noise is needed.  window: observations of each window,
        in data that `window_rows` made.

        reuses: a batch is good until the next is drawn, which takes its memory.
        """
        self.seed = torch.tensor(seeds, dtype=torch.int64, device=device)
        self.batch_size = batch_size
        self.needs = needs
        self.stage = stage
        self.dtype = dtype
        expert = dataset.expert if "expert" in needs else None
        self.steps = 3 if "triples" in needs else max(2, window)

        def columns(episodes: Episodes, action: bool) -> Columns:
            return Columns(
                episodes, device, dtype, encoder, action=action, reward="reward" in needs,
                fused=fused, steps=self.steps, next_action="next_action" in needs, reuses=reuses,
            )  # fmt: skip

        self.background = columns(dataset.background, True)
        self.expert = None if expert is None else columns(expert, "expert_action" in needs)
        self.noise_width, self.window = noise_width, window
        self.windows: dict[tuple[str, int, int], tuple[Tensor, Tensor]] = {}

    def draw(self, counter: Tensor) -> Batch:
        """counter: [1] int64 on the device, the number of updates made."""
        expert = policy = mix = None
        if self.expert is not None:
            expert = self._transitions("expert", self.expert, counter)
        if "policy" in self.needs:
            policy = self._transitions("policy", self.background, counter)
        if "uniform" in self.needs:
            stream = purpose(self.stage, "mix")
            mix = uniform(self.seed, counter, stream, self.batch_size, self.dtype)
        initial = noise = None
        if "initial" in self.needs:
            index = self._windows("initial", self.background, counter, 0)
            initial = self.background.gather("initial", index).obs
        if "noise" in self.needs:
            stream, size = purpose(self.stage, "noise"), self.batch_size * self.noise_width
            noise = uniform(self.seed, counter, stream, size, self.dtype)
            noise = noise.view(len(self.seed), self.batch_size, -1)
        background = self._transitions("background", self.background, counter)
        windows = self.background.rows[: self.window] if self.window else None
        return Batch(background, expert, policy, mix, initial, windows, noise)

    def _transitions(self, what: str, columns: Columns, counter: Tensor) -> Transitions:
        if self.steps > 2:
            return columns.gather(what, self._windows(what, columns, counter, self.steps - 1))
        if "next_action" in self.needs:
            return columns.gather(what, self._windows(what, columns, counter, FOLLOWED))
        stream = purpose(self.stage, what)
        parts = [
            draw(self.seed[members], counter, stream, count, self.batch_size) + first
            for members, first, count in member_ranges(columns.episodes, len(self.seed))
        ]
        return columns.gather(what, parts[0] if len(parts) == 1 else torch.cat(parts))

    def _windows(self, what: str, columns: Columns, counter: Tensor, length: int) -> Tensor:
        """First transitions of windows of `length`, see `Episodes.windows`, [P, B]."""
        stream = purpose(self.stage, what)
        parts = []
        for members, first, count in member_ranges(columns.episodes, len(self.seed)):
            key = (what, first, count)
            if key not in self.windows:
                found = columns.episodes.windows(length, first, count)
                self.windows[key] = (found[0].to(counter.device), found[1].to(counter.device))
            start, before = self.windows[key]
            seed = self.seed[members]
            parts.append(draw_windows(seed, counter, stream, start, before, self.batch_size))
        return parts[0] if len(parts) == 1 else torch.cat(parts)
