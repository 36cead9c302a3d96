"""Behaviour cloning: the likeliest policy behind the background's actions. Expert data is unused.

Source: baseline of the VfO study, arXiv 2507.06701.
"""

from typing import ClassVar

from fastifo.config import Config
from fastifo.data.sampler import Batch
from fastifo.learner import Learner, Metrics


class BC(Learner):
    Config = Config
    name: ClassVar[str] = "bc"

    def build(self) -> None:
        self.policy = self.make_policy()

    def update(self, batch: Batch) -> Metrics:
        # Policy: log-likelihood of the background's actions.
        b = batch.background
        assert b.action is not None
        logits = self.policy.outputs(b.obs)  # [P, B, A, K]
        policy_loss, gradient = self.policy.loss(logits, b.action)  # [P]
        self.descend([(logits, gradient)], self.policy)
        return {"policy_loss": policy_loss}
