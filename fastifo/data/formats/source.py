"""What a reader knows about a file, and what it returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastifo.data.episodes import Episodes
from fastifo.data.formats.options import DEFAULTS, ReadOptions
from fastifo.utils.records import Record

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """A file, what it states beside its columns, and what the user says about it."""

    path: Path
    options: ReadOptions = DEFAULTS
    env_id: str | None = None  # of the environment, if the file or its name tells
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)  # the environment's settings
    bounds: tuple[Any, Any] = (None, None)  # of the actions, low and high, as the file states them
    reference_returns: tuple[float, float] | None = None  # of scores 0 and 100
    info: Mapping[str, Any] = field(default_factory=dict)  # further facts to keep
    obs_keys: tuple[str, ...] = ()  # entries of a Dict observation that were joined

    def error(self, reason: str) -> ValueError:
        """An error that names the file, to be raised."""
        return ValueError(f"{self.path}: {reason}")


@dataclass(frozen=True, eq=False, repr=False)
class ReadResult(Record):
    """The episodes of one file, and what was changed when they were read."""

    episodes: Episodes
    source: Source
    action_low: Tensor | None = None  # [A], None: [-1, 1]
    action_high: Tensor | None = None
    notes: dict[str, int] = field(default_factory=dict)  # change -> how often it was made
    # [N + E], which row of the file's R each observation is; R more: that row's next observation.
    rows: Ints | None = None
