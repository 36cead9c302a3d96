"""The torch executor: updates on any device, captured as CUDA graphs on a GPU."""

from functools import partial

import torch

from fastifo.algos.learner import Learner
from fastifo.data.sampler import Sampler
from fastifo.engine.graph import GraphedStep
from fastifo.engine.meter import Meter
from fastifo.nn.cnn import Convolutions
from fastifo.utils.parallel import at_most_threads

# Work for which a further thread pays. With less, threads mostly wait for each other, and where
# other processes use the cores, for a time slice each time.
FLOP_PER_THREAD = 100e6


class TorchEngine:
    """Runs `Learner.update`; on a GPU, one captured graph per phase of the learner's period.

    Updates are not captured where frames stay on the host, which reads them for each batch.
    """

    def __init__(self, learner: Learner, sampler: Sampler) -> None:
        self.learner = learner
        meter = self.meter = Meter()

        def update(phase: int) -> None:  # does not refer to `self`, so that no cycle keeps it alive
            learner.phase = phase
            meter.add(learner.update(sampler.draw(learner.counter)))
            learner.counter.add_(1)

        captures = learner.fused and not sampler.reads_host
        self.steps = [
            GraphedStep(partial(update, phase), learner.counter.device, captures=captures)
            for phase in range(learner.period)
        ]
        self.threads = threads_for(learner)

    @property
    def uses_several_threads(self) -> bool:
        """Whether updates use more than one CPU thread."""
        is_cpu = self.learner.counter.device.type == "cpu"
        return is_cpu and min(self.threads, torch.get_num_threads()) > 1

    def load(self) -> None:
        """Sets the counter on the device to the learner's number of updates."""
        self.learner.counter.fill_(self.learner.num_updates)

    def store(self) -> None:
        """Nothing to do: updates change the learner's own tensors."""

    def advance(self, most: int) -> int:
        """Makes one update."""
        with at_most_threads(self.threads):
            self.steps[self.learner.num_updates % self.learner.period]()
        return 1


def threads_for(learner: Learner) -> int:
    """How many CPU threads an update of the learner is worth, at least 1.

    The number depends on sizes alone and not on the load, because the bits of a result may depend
    on it. Each weight costs about 6 operations per row: forward, and the gradients with respect to
    inputs and weights.
    """
    weights = sum(p.numel() for p in learner.parameters() if p.requires_grad)
    # A convolution uses its weights at every position: it counts its multiplications itself.
    convolutions = [m for m in learner.modules() if isinstance(m, Convolutions)]
    weights += sum(module.macs for module in convolutions)
    rows = learner.batch_rows(learner.cfg) * max(1, learner.window)
    return max(1, int(6 * weights * rows / FLOP_PER_THREAD))
