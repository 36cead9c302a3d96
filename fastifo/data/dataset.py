"""`Dataset`: background and expert episodes, made from arrays and saved to files."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np
from torch import Tensor

from fastifo.data.build import build_dataset
from fastifo.data.episodes import Episode, Episodes
from fastifo.data.formats import d4rl
from fastifo.data.frames import Frames
from fastifo.data.pack import read_pack, verify_columns, write_pack
from fastifo.data.texts import bounds_text, cameras_text, episodes_text, notes_of
from fastifo.utils.ambient import standard_torch
from fastifo.utils.folders import as_path
from fastifo.utils.records import Record
from fastifo.utils.text import number_texts


@dataclass(frozen=True, eq=False, repr=False)
class Dataset(Record):
    """The data of a run: background transitions with actions, and expert observations.

    Build one with `Dataset.from_episodes` or `fastifo.load`. The background's rewards are only used
    in reports and by methods that learn from true rewards, the expert's actions only by privileged
    methods (`sqil`, and `bc` of the expert).

    All tensors are on the CPU. Actions of both parts are on the scale [-1, 1].
    Two datasets are equal if everything except `info` and `unverified` is equal.
    """

    background: Episodes  # of any quality
    expert: Episodes | None = None  # no rewards; actions only if every episode came with them
    env_id: str | None = None  # of the environment to evaluate in, EnvPool's or Gymnasium's
    action_low: Tensor | None = None  # [A] float32, the environment's bound that -1 stands for
    action_high: Tensor | None = None  # [A] float32, the environment's bound that 1 stands for
    info: Mapping[str, Any] = field(  # provenance, as JSON values
        default_factory=dict, compare=False
    )
    unverified: tuple[Path, ...] = field(  # large files whose checksums have not been checked yet
        default=(), compare=False
    )
    env_kwargs: Mapping[str, Any] = field(  # the environment's settings, as JSON values; its time
        default_factory=dict  # limit is max_episode_steps
    )
    reference_returns: tuple[float, float] | None = None  # returns of scores 0 and 100, if stated
    obs_keys: tuple[str, ...] = ()  # entries of the environment's Dict observation that `obs`
    # joins, in this order; empty: a vector, or all entries sorted by key

    def __repr__(self) -> str:
        widths = f"observations {self.obs_dim} wide, actions {self.action_dim} wide"
        lines = [f"Dataset({self.env_id or 'no environment'}, {widths})"]
        for name, part in (("background", self.background), ("expert", self.expert)):
            if part is not None:
                has = [column for column in ("action", "reward") if column in part.columns()]
                kept = f"with {'s and '.join(has)}s" if has else "observations only"
                lines.append(f"  {name:10}  {part.counts()}, {kept}")
        if self.images:
            lines.append(f"  {'images':10}  {cameras_text(self.images)}")
        return "\n".join(lines)

    def __len__(self) -> int:
        """The number of background episodes."""
        return self.background.num_episodes

    @overload
    def __getitem__(self, index: SupportsIndex) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> Episodes: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Episode | Episodes:
        """The background's episode with this index, or those of a slice, as `background[index]`."""
        return self.background[index]

    def __iter__(self) -> Iterator[Episode]:
        """The background's episodes in order."""
        return iter(self.background)

    @staticmethod
    @standard_torch()
    def from_episodes(
        background: Iterable[Mapping[str, Any] | Episode],
        expert: Iterable[Mapping[str, Any] | Episode] = (),
        env_id: str | None = None,
        *,
        action_low: Any = None,
        action_high: Any = None,
        min_steps: int = 2,
        obs_keys: Sequence[str] = (),
    ) -> "Dataset":
        """A dataset from arrays in memory, which are copied and stored as float32.

        Arrays are NumPy, PyTorch, nested lists, or anything that `torch.from_dlpack` takes.

        background: one mapping per episode of T transitions, or an `Episode`, whose actions are
            not mapped: they are in [-1, 1] already. A mapping has
            "obs": [T + 1, D], the final observation included;
            "action": [T, A], each within [action_low, action_high];
            "reward": [T], optional, but in all episodes or in none. It may contain NaN, which
            methods that learn from rewards reject;
            "terminal": bool, optional: the task ended with the last transition. False, the
            default, means that the episode was cut by a time limit;
            "image": optional, in all episodes or in none: camera -> uint8 [T + 1, H, W, C], frames
            that belong to the observations.
        expert: one mapping per demonstration, with "obs" and optionally "terminal" and "image" as
            above.
            "action", [T, A], is kept for privileged methods (`sqil`, and `bc` of the expert) if
            every demonstration has it; its values are not checked. "reward" is dropped.
        env_id: the environment's id in EnvPool or Gymnasium, as in "Hopper-v4"; needed only for
            evaluation.
        action_low, action_high: the environment's bounds, each a number or [A]; -1 and 1 by
            default. Actions are mapped from them to [-1, 1].
        min_steps: shortest episode that is accepted, in transitions.
        obs_keys: for an environment with Dict observations: the entries that "obs" concatenates, in
            this order. By default all of them, sorted by key.

        Raises ValueError or TypeError naming the episode and the array, what was expected and what
        was found: a missing or unknown key, a shape, a width or a dtype, a value that is not
        finite, an action out of bounds, an episode that is too short, bounds that do not fit.

        >>> Dataset.from_episodes(
        ...     background=[{"obs": np.zeros((51, 11)), "action": np.zeros((50, 3))}],
        ...     expert=[{"obs": np.ones((51, 11))}],
        ...     env_id="Hopper-v4",
        ... )
        """
        return Dataset(
            **build_dataset(background, expert, env_id, action_low, action_high, min_steps),
            obs_keys=_checked_keys(obs_keys),
        )

    @property
    def images(self) -> dict[str, Frames]:
        """The background's frames by camera; indexing them gives uint8 tensors [..., H, W, C]."""
        return dict(self.background.images)

    @property
    def cameras(self) -> tuple[tuple[str, int, int, int], ...]:
        """Name, height, width and channels of each camera."""
        return tuple((camera, *frames.size) for camera, frames in self.images.items())

    def with_cameras(self, *cameras: str) -> "Dataset":
        """The dataset with only these cameras' frames; without arguments, with none.

        Raises ValueError for a camera that the dataset does not have.
        """
        unknown = [camera for camera in cameras if camera not in self.images]
        if unknown:
            known = ", ".join(self.images) or "none"
            raise ValueError(f"cameras: expected some of {known}, found {unknown[0]!r}")

        def kept(episodes: Episodes) -> Episodes:
            chosen = {name: episodes.images[name] for name in cameras if name in episodes.images}
            return dataclasses.replace(episodes, images=chosen)

        expert = None if self.expert is None else kept(self.expert)
        return dataclasses.replace(self, background=kept(self.background), expert=expert)

    @property
    def obs_dim(self) -> int:
        """D, the width of an observation."""
        return self.background.obs_dim

    @property
    def action_dim(self) -> int:
        """A, the width of an action; 0 if the background has none."""
        return 0 if self.background.action is None else self.background.action.shape[1]

    @standard_torch()
    def save(self, path: str | Path) -> None:
        """Writes the dataset to one file, a pack, which `fastifo.load` memory-maps.

        path: the file; the extension `.fastifo` is customary. An existing file is replaced only
        once the new one is complete. The pack has checksums, `env_id`, bounds and `info`.
        Raises OSError naming the file if it cannot be written.
        """
        parts = {"background": self.background}
        if self.expert is not None:
            parts["expert"] = self.expert
        bounds = {"action_low": self.action_low, "action_high": self.action_high}
        known_bounds = {name: bound for name, bound in bounds.items() if bound is not None}
        write_pack(
            as_path(path), parts, known_bounds, self.env_id, self.info,
            env_kwargs=dict(self.env_kwargs), reference_returns=self.reference_returns,
            obs_keys=list(self.obs_keys),
        )  # fmt: skip

    @standard_torch()
    def save_d4rl(self, path: str | Path) -> None:
        """Writes the background in D4RL's layout, one HDF5 file that other offline RL code reads.

        The columns are `observations`, `next_observations`, `actions`, `rewards`, `terminals` and
        `timeouts`. Actions are mapped back to the environment's bounds, if those are known. The
        bounds, `env_id` and `env_kwargs` are attributes of the file, which `fastifo.load` reads.
        Images are left out.

        path: the file; an existing one is replaced only once the new one is complete.
        Raises ValueError if the background has no actions or no rewards, or if each member of a
        population has its own rewards; OSError naming the file if it cannot be written.
        """
        d4rl.write(
            as_path(path), self.background, self.action_low, self.action_high,
            self.env_id, self.env_kwargs,
        )  # fmt: skip

    def verify(self) -> None:
        """Verifies the checksums of large packs, which `fastifo.load` does not do.

        `fastifo.train` calls this. Images are checked when they are read; `fastifo data verify
        FILE` checks all of them at once.
        Raises ValueError naming the file and the damaged column.
        """
        for path in self.unverified:
            verify_columns(path)

    def fingerprint(self) -> str:
        """SHA-256 of all columns of both parts, in hexadecimal; equal data has equal fingerprints.

        Images enter through a pack's checksums; `env_id`, bounds and `info` are not included. A run
        stores the fingerprint and does not resume with other data.
        """
        digest = hashlib.sha256()
        for source in ("expert", "background"):
            episodes = getattr(self, source)
            for name, value in {} if episodes is None else episodes.columns().items():
                digest.update(f"{source}.{name}{tuple(value.shape)}{value.dtype}".encode())
                digest.update(np.ascontiguousarray(value.numpy()).view(np.uint8).data)
            for camera, frames in {} if episodes is None else episodes.images.items():
                digest.update(f"{source}.images.{camera}{frames.shape}".encode())
                digest.update(frames.checksums().tobytes())
        return digest.hexdigest()

    def notes(self) -> list[str]:
        """What was dropped, clipped, converted or assumed when files were read, one line each."""
        return notes_of(self.info)

    @standard_torch()
    def summary(self) -> str:
        """Text with the environment, the observation and action sizes, and each part's counts and
        returns; for files of another format, also what was dropped or changed.
        """
        settings = ", ".join(f"{name}={value}" for name, value in self.env_kwargs.items())
        environment = self.env_id or "(none: cannot be evaluated)"
        lines = [f"environment  {environment}{f' with {settings}' if settings else ''}"]
        lines.append(
            f"observation  {self.obs_dim} wide    action  {self.action_dim} wide"
            f"{bounds_text(self.action_low, self.action_high)}"
        )
        for name in ("expert", "background"):
            episodes = getattr(self, name)
            lines.append(f"{name:12} {'none' if episodes is None else episodes_text(episodes)}")
        returns, demos = self.info.get("expert_returns"), self.info.get("demonstration_return_mean")
        if self.images:
            lines.append(f"images       {cameras_text(self.images)}")
        lines += self.notes()
        if isinstance(returns, list) and returns and isinstance(demos, float):
            quiet, noisy = number_texts([sum(returns) / len(returns), demos])
            lines.append(
                f"expert's mean return {quiet} without exploration noise, {noisy} in its "
                "demonstrations"
            )
        return "\n".join(lines)


def _checked_keys(keys: Any) -> tuple[str, ...]:
    """Raises TypeError unless these are names."""
    if isinstance(keys, str) or not all(isinstance(key, str) and key for key in keys):
        raise TypeError(f"obs_keys: expected a list of names, found {keys!r}")
    return tuple(keys)


def load_dataset(path: Path) -> Dataset:
    """The dataset in a file that `Dataset.save` wrote, its columns mapped into memory.

    Raises FileNotFoundError, or ValueError naming the file and what is damaged.
    """
    return Dataset(**read_pack(path))
