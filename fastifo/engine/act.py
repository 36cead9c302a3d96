"""Actions of many trained policies in one call of compiled code, on the CPU."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastifo import _C
from fastifo.engine.native import MAX_DEPTH, NetWeights
from fastifo.nets import BinnedPolicy
from fastifo.policy import Policy

JOB_ROWS, MOST_JOBS = 64, 16  # rows that are worth a thread, and threads


def kind_of(policy: Any) -> tuple[Any, ...] | None:
    """Policies of one kind can act together in a `Crowd`; None cannot."""
    if not isinstance(policy, Policy):
        return None
    learner, cfg = policy.learner, policy.learner.cfg
    compiled = (
        isinstance(learner.policy, BinnedPolicy)
        and learner.policy.reading in ("logits", "none")
        and policy.device.type == "cpu"
        and learner.fused
        and learner.precision in ("fp64", "fp32", "fp32x")
        and cfg.activation == "relu"
        and len(cfg.hidden_sizes) < MAX_DEPTH
        and not cfg.action_jitter
    )
    return (learner.dtype, learner.extra_inputs, policy.low is None) if compiled else None


class Crowd:
    """Binned policies of one kind that act together; numbers differ from torch's by rounding."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        first = policies[0].learner
        self.dtype, self.extra = first.dtype, first.extra_inputs
        self.action_dim = first.spec.action_dim
        self.module = _C.fp64 if self.dtype == torch.float64 else getattr(_C, _C.isas[0])
        self.kept: list[Any] = []  # what the plans point to
        self.plans = [self._plan(policy) for policy in policies]
        self.bounds: list[Tensor] = []  # low and high, [policies, A] each, where actions have some
        if policies[0].low is not None:
            ends = ("low", "high")
            self.bounds = [torch.stack([getattr(p, end) for p in policies]) for end in ends]

    def _plan(self, policy: Policy) -> Any:
        learner = policy.learner
        assert isinstance(learner.policy, BinnedPolicy)
        weights = NetWeights(learner.policy.body)
        with torch.no_grad():
            weights.load_weights()
        encoder, head = learner.encoder, learner.policy
        plan = _C.Plan()
        plan.policy = weights.plan()
        plan.obs_dim = learner.spec.obs_dim + learner.extra_inputs
        plan.scale = encoder.scale.tolist()
        if encoder.standardizes:
            plan.mean, plan.deviation = encoder.mean.data_ptr(), encoder.deviation.data_ptr()
        plan.action_dim, plan.bins = learner.spec.action_dim, head.num_bins
        plan.taps, plan.norm = head.taps.data_ptr(), head.norm.data_ptr()
        plan.radius = head.taps.shape[1] - 1
        plan.seed = policy.seed.data_ptr()
        self.kept += [weights, policy]
        return plan

    def jobs(
        self, obs: Tensor, first: NDArray[Any], episode: NDArray[Any], draws: tuple[int, int, int]
    ) -> list[Callable[[], Tensor]]:
        """Calls of `act` that can run side by side, on some of the rows each, in their order."""
        pieces = max(1, min(MOST_JOBS, len(obs) // JOB_ROWS))
        ends = np.linspace(0, len(obs), pieces + 1).astype(np.int64)
        return [
            partial(
                self.act, obs[begin:end], first.clip(begin, end) - begin, episode[begin:end], draws
            )
            for begin, end in pairwise(ends)
        ]

    def act(
        self, obs: Tensor, first: NDArray[Any], episode: NDArray[Any], draws: tuple[int, int, int]
    ) -> Tensor:
        """[R, D] -> [R, A] float32: the rows of the first policy, then the next one's, and so on.

        first: [policies + 1], where each one's rows begin, and the end.  episode: [R].  draws:
        stream, step and how many episodes there are; 0 takes modes.  See `Policy.noise`.
        """
        stream, step, episodes = draws
        rows = nn.functional.pad(obs.to(self.dtype), (0, self.extra)).contiguous()
        begin = np.ascontiguousarray(first, np.int64)
        own = np.ascontiguousarray(episode, np.int64)
        action = torch.empty(len(rows), self.action_dim, dtype=self.dtype)
        self.module.act(
            self.plans, begin.ctypes.data, rows.data_ptr(), own.ctypes.data, episodes, stream, step,
            action.data_ptr(),
        )  # fmt: skip
        found = action.float()
        if not self.bounds:
            return found
        owner = torch.from_numpy(np.repeat(np.arange(len(self.plans)), np.diff(begin)))
        low, high = (end[owner] for end in self.bounds)
        return low + 0.5 * (found + 1.0) * (high - low)
