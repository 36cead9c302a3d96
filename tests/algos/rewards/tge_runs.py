"""Small settings of TGE, and embeddings that are counted or interrupted."""

from typing import Any

import pytest

from fastifo.algos.rewards.diffusion import Diffusion
from helpers import small

SIZES: dict[str, Any] = {k: v for k, v in small("tge").items() if k != "num_bins"}


def count_embedded_windows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that models embed from now on."""
    sizes: list[int] = []
    original = Diffusion.embed

    def counted(self: Diffusion, *arguments: Any) -> Any:
        for part in original(self, *arguments):
            sizes.append(len(part))
            yield part

    monkeypatch.setattr(Diffusion, "embed", counted)
    return sizes


class StopError(Exception):
    """Ends a run like a killed process: nothing is written after it."""


def stop_embedding(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """Raises StopError in place of a batch of embeddings, after `batches` - 1 of them, once."""
    original, sizes = Diffusion.embed, []

    def stopped(self: Diffusion, *arguments: Any) -> Any:
        for part in original(self, *arguments):
            sizes.append(len(part))
            if len(sizes) == batches:
                raise StopError
            yield part

    monkeypatch.setattr(Diffusion, "embed", stopped)
