"""A scripted expert that misjudges where the object is."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fastifo.data.streams import purpose
from fastifo.envs.experts.expert import Expert, normal

OFFSET_DIM = 3  # along x, y and z


@runtime_checkable
class Script(Expert, Protocol):
    """An expert that acts on the position of an object."""

    def displaced(self, obs: Tensor, offset: Tensor) -> Tensor:
        """Observations [B, D] with the object displaced by `offset`, [B, 3], in metres."""


class MisjudgingExpert:
    """Acts as a script does where the object is displaced, by another offset in every episode.

    Offsets are normal, with mean 0.  Implements `Actor`.
    """

    def __init__(self, script: Script, error: float, seed: int) -> None:
        """error: standard deviation of the offset along each axis, in metres."""
        self.script, self.error = script, error
        self.seed = torch.tensor([seed], dtype=torch.int64, device="cpu")

    def noise(self, stream: int, step: int, rows: int) -> Tensor:
        """Offsets, equal in all steps, and the script's own noise: [rows, 3] or [rows, 3 + A]."""
        first = torch.zeros(1, dtype=torch.int64, device="cpu")
        stream_of_offsets = stream ^ purpose("misjudging", "offset")
        offset = self.error * normal(self.seed, first, stream_of_offsets, rows, OFFSET_DIM)
        own = self.script.noise(stream, step, rows)
        return offset if own is None else torch.cat([offset, own], 1)

    def act_rows(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions [B, A] for observations [B, D].

        noise: from `noise`; None gives the script's own action, for the object where it is.
        """
        if noise is None:
            return self.script.act_rows(obs, None)
        offset, own = noise[:, :OFFSET_DIM], noise[:, OFFSET_DIM:]
        return self.script.act_rows(
            self.script.displaced(obs, offset), own if own.shape[1] else None
        )
