"""The torch engine: updates on any device, captured as CUDA graphs on a GPU."""

from functools import partial

from fastifo.algos.learner import Learner
from fastifo.data.sampler import Sampler
from fastifo.engine.graph import GraphedStep
from fastifo.engine.meter import Meter


class TorchEngine:
    """Updates in torch on any device; one CUDA graph each on a GPU."""

    def __init__(self, learner: Learner, sampler: Sampler) -> None:
        self.learner = learner
        meter = self.meter = Meter()

        def update(phase: int) -> None:  # without `self`, so that the engine ends with its stage
            learner.phase = phase
            meter.add(learner.update(sampler.draw(learner.counter)))
            learner.counter.add_(1)

        self.steps = [
            GraphedStep(partial(update, phase), learner.counter.device, captures=learner.fused)
            for phase in range(learner.period)
        ]

    def load(self) -> None:
        self.learner.counter.fill_(self.learner.num_updates)

    def store(self) -> None:
        """The learner's tensors are the state."""

    def advance(self, most: int) -> int:
        self.steps[self.learner.num_updates % self.learner.period]()
        return 1
