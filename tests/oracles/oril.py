"""ORIL oracle: the discriminator of section 2.4 labels the background, AWR (4.5) learns from it.

The discriminator is trained before, by vfo.train_discriminator, and stays as it is.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from . import awr
from .parts import Batch, Config, History, Nets, discriminator_net, frozen_copy


def run(
    nets: Nets, batches: Iterable[Batch], config: Config
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], History]:
    """AWR with r = d(s) at the current state. Neither expert rows nor true rewards are read."""
    discriminator = frozen_copy(discriminator_net(nets, config))

    def labelled(batch: Batch) -> Batch:
        rows = dict(batch["background"])
        rows["reward"] = torch.sigmoid(discriminator.scalar(rows["obs"]))
        return {"background": rows}

    return awr.run(nets, (labelled(batch) for batch in batches), config)
