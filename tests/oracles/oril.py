"""Oracle of ORIL: AWR on background rows with the discriminator's output d(s) as reward.

The discriminator is trained beforehand by vfo.train_discriminator and stays fixed.
Source: Zolna et al. 2020, arXiv:2011.13885.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from . import awr
from .parts import Batch, Config, History, Nets, discriminator_net, frozen_copy


def run(
    nets: Nets, batches: Iterable[Batch], config: Config
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], History]:
    """Runs AWR with r = d(s) at the current state. Expert rows and true rewards are not read."""
    discriminator = frozen_copy(discriminator_net(nets, config))

    def labelled(batch: Batch) -> Batch:
        rows = dict(batch["background"])
        rows["reward"] = torch.sigmoid(discriminator.scalar(rows["obs"]))
        return {"background": rows}

    return awr.run(nets, (labelled(batch) for batch in batches), config)
