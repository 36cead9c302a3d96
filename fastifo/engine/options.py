"""The options of `fastifo.train` that describe neither the method nor the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastifo.engine.callbacks import check_callbacks
from fastifo.utils.arguments import as_count, as_flag
from fastifo.utils.folders import as_path


@dataclass(frozen=True)
class TrainOptions:
    """How a run trains; see `fastifo.train` for each option."""

    num_updates: int
    seeds: Sequence[int] = (0,)
    device: str = "auto"
    precision: str = "auto"
    engine: str = "auto"
    fused: bool = True
    out: str | Path | None = None
    resume: bool = True
    callbacks: Any = ()  # a sequence of `Callback`; kept as `PeriodicCallback`
    log_every: int = 500  # updates
    checkpoint_every: int = 5000  # updates
    progress: bool = True
    env: Any = None
    env_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Raises ValueError or TypeError naming an argument that is wrong."""
        for name in ("num_updates", "log_every", "checkpoint_every"):
            object.__setattr__(self, name, as_count(name, getattr(self, name)))
        for name in ("fused", "resume", "progress"):
            object.__setattr__(self, name, as_flag(name, getattr(self, name)))
        object.__setattr__(self, "callbacks", check_callbacks(self.callbacks, self.log_every))

    @property
    def folder(self) -> Path | None:
        """The run folder; None if nothing is written."""
        return None if self.out is None else as_path(self.out)
