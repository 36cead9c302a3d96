"""The options of `fastifo.train` that describe neither the method nor the data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastifo.engine.callbacks import Callback


@dataclass(frozen=True)
class TrainOptions:
    """How a run trains; see `fastifo.train` for each option."""

    num_updates: int
    seeds: int | Sequence[int] = (0,)
    device: str = "auto"
    precision: str = "auto"
    engine: str = "auto"
    fused: bool = True
    out: str | Path | None = None
    resume: bool = True
    callbacks: Sequence[Callback] = ()
    log_every: int = 500  # updates
    checkpoint_every: int = 5000  # updates
    progress: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError for a count below 1."""
        for name in ("num_updates", "log_every", "checkpoint_every"):
            count = getattr(self, name)
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"{name}: expected an integer of at least 1, found {count!r}")

    @property
    def folder(self) -> Path | None:
        """The run folder; None if nothing is written."""
        return None if self.out is None else Path(self.out)
