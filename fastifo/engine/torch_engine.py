"""The torch executor: updates on any device, captured as CUDA graphs on a GPU."""

from functools import partial

from fastifo.algos.learner import Learner
from fastifo.data.sampler import Sampler
from fastifo.engine.graph import GraphedStep
from fastifo.engine.meter import Meter


class TorchEngine:
    """Runs `Learner.update`; on a GPU, one captured graph per phase of the learner's period."""

    def __init__(self, learner: Learner, sampler: Sampler) -> None:
        self.learner = learner
        meter = self.meter = Meter()

        def update(phase: int) -> None:  # does not refer to `self`, so that no cycle keeps it alive
            learner.phase = phase
            meter.add(learner.update(sampler.draw(learner.counter)))
            learner.counter.add_(1)

        self.steps = [
            GraphedStep(partial(update, phase), learner.counter.device, captures=learner.fused)
            for phase in range(learner.period)
        ]

    def load(self) -> None:
        """Sets the counter on the device to the learner's number of updates."""
        self.learner.counter.fill_(self.learner.num_updates)

    def store(self) -> None:
        """Nothing to do: updates change the learner's own tensors."""

    def advance(self, most: int) -> int:
        """Makes one update."""
        self.steps[self.learner.num_updates % self.learner.period]()
        return 1
