"""Batches drawn by counter: the batch of update t is a function of the seed and t only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastifo.data.dataset import Dataset
from fastifo.data.episodes import EPISODE_START, WITH_NEXT_ACTION, Episodes
from fastifo.data.frame_sampler import FrameSampler
from fastifo.data.stack import member_ranges
from fastifo.data.streams import purpose, uniform
from fastifo.nn.encoder import Encoder
from fastifo.ops.draw import draw, draw_windows
from fastifo.ops.gather import Gatherer, gather_reference
from fastifo.utils.records import Record

SUCCESSIVE = ("obs", "next_obs", "after_obs")  # fields of `Transitions`, in the order of time


@dataclass(frozen=True, eq=False, repr=False)
class Transitions(Record):
    """B transitions for each of P members, in the training dtype."""

    obs: Tensor  # [P, B, width], encoded, then the pixels of frames: the input of the networks
    next_obs: Tensor  # [P, B, width]
    terminal: Tensor  # [P, B], 0 or 1
    action: Tensor | None = None  # [P, B, A]
    next_action: Tensor | None = None  # [P, B, A], of the next transition; arbitrary at a terminal
    reward: Tensor | None = None  # [P, B]
    after_obs: Tensor | None = None  # [P, B, width], the observation after `next_obs`


@dataclass(frozen=True, eq=False, repr=False)
class Batch(Record):
    """The input of one update.  Fields that the sampler was not asked for are None."""

    background: Transitions
    expert: Transitions | None = None
    policy: Transitions | None = None  # a second, independent draw of background transitions
    uniform: Tensor | None = None  # [P, B] in [0, 1)
    initial: Tensor | None = None  # [P, B, width], first observations of background episodes
    windows: Tensor | None = None  # [H, P, B, width], rows of windows of the background
    noise: Tensor | None = None  # [P, B, noise_width] in [0, 1)


class Columns:
    """The columns of one source of transitions on the training device."""

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
        frames: FrameSampler | None = None,
    ) -> None:
        """Copies the columns that batches need to the device.

        encoder: applied to observations; None leaves them as they are.
        action, reward, next_action: whether batches have that column.
        fused: whether the compiled op gathers, or its reference in torch.
        steps: number of successive observations in a row, 2 or more.
        reuses: whether every batch is written to the memory of the previous one of the same name.
        frames: appends pixels to observations; None for data without images.
        """

        def to_device(column: Tensor) -> Tensor:
            return column.to(device, dtype).contiguous()

        shared = {"terminal": to_device(episodes.terminal)}
        per_member: dict[str, Tensor] = {}
        if action and episodes.action is not None:
            columns = per_member if episodes.action.ndim == 3 else shared
            columns["action"] = to_device(episodes.action)
            if next_action:
                shared["next_action"] = to_device(episodes.action.roll(-1, 0))
        if reward and episodes.reward is not None:
            columns = per_member if episodes.reward.ndim == 2 else shared
            columns["reward"] = to_device(episodes.reward)
        scale, mean, deviation = torch.empty(0, dtype=dtype, device=device), None, None
        if encoder is not None:
            scale = encoder.scale
            if encoder.standardizes:
                mean, deviation = encoder.mean, encoder.deviation
        self.episodes = episodes
        self.names = ["obs", *shared, *per_member]  # of the gathered columns
        self.inputs = (
            episodes.rows().to(device), to_device(episodes.obs), scale, mean, deviation, steps,
            list(shared.values()), list(per_member.values()),
        )  # fmt: skip
        self.fused, self.reuses = fused, reuses
        self.gatherers: dict[str, Callable[[Tensor], list[Tensor]]] = {}  # by name of the batch
        # Of the last batch, [steps, P, B, width].
        self.successive_obs = torch.empty(0, device=device)
        self.frames = frames

    def gather(self, name: str, index: Tensor, counter: Tensor | None = None) -> Transitions:
        """The transitions at the given indices, encoded and in the training dtype.

        name: of the batch; if memory is reused, only batches of the same name share it.
        index: [P, B] int64.  counter: updates made, [1] int64, which frames are shifted by.
        """
        if name not in self.gatherers:
            inputs = self.inputs
            self.gatherers[name] = (
                Gatherer(*inputs, reuses=self.reuses)
                if self.fused
                else lambda index: gather_reference(index, *inputs)
            )
        columns = dict(zip(self.names, self.gatherers[name](index), strict=True))
        self.successive_obs = columns.pop("obs")
        if self.frames is not None and counter is not None:
            self.successive_obs = self.frames.append(name, index, self.successive_obs, counter)
        obs = dict(zip(SUCCESSIVE, self.successive_obs.unbind(0), strict=False))
        return Transitions(**obs, **columns)


class Sampler:
    """Draws the batch of an update, for every member from its own seed."""

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
        cameras: Sequence[str] = (),
        shift: int = 0,
    ) -> None:
        """Copies the columns that batches need to the device.

        seeds: [P], one per member.  batch_size: B, rows per member.
        needs: the parts of a batch beyond background transitions with their actions:
        "expert", "policy", "uniform", "initial" and "noise" (fields of `Batch`); "reward",
        "expert_action" and "next_action" (columns of `Transitions`; with "next_action" the last
        transition of an episode that timed out is never drawn); "triples" (`after_obs`).
        stage: name of the training stage; stages draw different batches.
        device, dtype: of the batches.
        encoder: applied to observations; None leaves them as they are.
        noise_width: values per row of `Batch.noise`.
        window: rows H of `Batch.windows`, from a background that `window_rows` made; 0 for none.
        fused: whether the compiled op gathers, or its reference in torch.
        reuses: whether a batch is overwritten when the next one is drawn.
        cameras: whose pixels follow the observations, in this order.
        shift: frames are moved at random by up to this many pixels.
        """
        self.seed = torch.tensor(seeds, dtype=torch.int64, device=device)
        self.batch_size = batch_size
        self.needs = needs
        self.stage = stage
        self.dtype = dtype
        expert = dataset.expert if "expert" in needs else None
        self.steps = 3 if "triples" in needs else max(2, window)

        def columns(episodes: Episodes, action: bool) -> Columns:
            frames = None
            if cameras:
                frames = FrameSampler(
                    episodes, cameras, device, seed=self.seed, stage=stage, shift=shift,
                    steps=self.steps, reuses=reuses,
                )  # fmt: skip
            return Columns(
                episodes, device, dtype, encoder, action=action, reward="reward" in needs,
                fused=fused, steps=self.steps, next_action="next_action" in needs, reuses=reuses,
                frames=frames,
            )  # fmt: skip

        self.background = columns(dataset.background, True)
        self.expert = None if expert is None else columns(expert, "expert_action" in needs)
        frames = [c.frames for c in (self.background, self.expert) if c is not None and c.frames]
        self.reads_host = any(each.reads_host for each in frames)  # no CUDA graph can hold `draw`
        self.noise_width, self.window = noise_width, window
        self.windows: dict[tuple[str, int, int], tuple[Tensor, Tensor]] = {}

    def draw(self, counter: Tensor) -> Batch:
        """The batch of one update.

        counter: [1] int64 on the device, the number of updates made so far.
        """
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
            index = self._draw_windows("initial", self.background, counter, EPISODE_START)
            initial = self.background.gather("initial", index, counter).obs
        if "noise" in self.needs:
            stream, size = purpose(self.stage, "noise"), self.batch_size * self.noise_width
            noise = uniform(self.seed, counter, stream, size, self.dtype)
            noise = noise.view(len(self.seed), self.batch_size, -1)
        background = self._transitions("background", self.background, counter)
        windows = self.background.successive_obs[: self.window] if self.window else None
        return Batch(background, expert, policy, mix, initial, windows, noise)

    def _transitions(self, use: str, columns: Columns, counter: Tensor) -> Transitions:
        if self.steps > 2:
            index = self._draw_windows(use, columns, counter, self.steps - 1)
        elif "next_action" in self.needs:
            index = self._draw_windows(use, columns, counter, WITH_NEXT_ACTION)
        else:
            stream = purpose(self.stage, use)
            parts = [
                draw(self.seed[members], counter, stream, count, self.batch_size) + first
                for members, first, count in member_ranges(columns.episodes, len(self.seed))
            ]
            index = parts[0] if len(parts) == 1 else torch.cat(parts)
        return columns.gather(use, index, counter)

    def _draw_windows(self, use: str, columns: Columns, counter: Tensor, length: int) -> Tensor:
        """First transitions of windows, [P, B]; `length` as in `Episodes.windows`."""
        stream = purpose(self.stage, use)
        parts = []
        for members, first, count in member_ranges(columns.episodes, len(self.seed)):
            key = (use, first, count)
            if key not in self.windows:
                start, before = columns.episodes.windows(length, first, count)
                self.windows[key] = (start.to(counter.device), before.to(counter.device))
            start, before = self.windows[key]
            seed = self.seed[members]
            parts.append(draw_windows(seed, counter, stream, start, before, self.batch_size))
        return parts[0] if len(parts) == 1 else torch.cat(parts)
