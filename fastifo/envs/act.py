"""Actions of many policies: those of one kind in one call of compiled code, on the CPU."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastifo import _C
from fastifo.envs.policy import Policy
from fastifo.nn.binned import BinnedPolicy
from fastifo.nn.packed import MAX_DEPTH, NetWeights

BLOCK = 256  # rows of one product in torch
JOB_ROWS, MOST_JOBS = 64, 16  # rows that are worth a thread, and threads


class Actor(Protocol):
    """What can be played: a trained policy or an expert."""

    seed: Tensor  # [1], on the policy's device

    def noise(self, stream: int, step: int, rows: int) -> Tensor | None: ...

    def act_rows(self, obs: Tensor, noise: Tensor | None) -> Tensor: ...


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
        and learner.precision in ("fp64", "fp32", "fp32x", "tf32")  # which is fp32 on a CPU
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
            for begin, end in itertools.pairwise(ends)
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


class Alone:
    """A policy that acts by itself, as `Crowd` does for many."""

    def __init__(self, policy: Actor) -> None:
        self.policy = policy

    def jobs(
        self, obs: Tensor, first: NDArray[Any], episode: NDArray[Any], draws: tuple[int, int, int]
    ) -> list[Callable[[], Tensor]]:
        """In blocks of one size however many workers there are: torch's bits depend on it."""
        noise = None if draws[2] == 0 or len(obs) == 0 else self.policy.noise(*draws)
        parts = [slice(row, row + BLOCK) for row in range(0, len(obs), BLOCK)]
        return [
            partial(self.policy.act_rows, obs[p], None if noise is None else noise[episode[p]])
            for p in parts
        ]


Team = tuple[int, int, Alone | Crowd]  # the policies from one place to before another


def teams_of(policies: Sequence[Actor]) -> list[Team]:
    """Neighbours that can act together do."""
    teams: list[Team] = []
    for kind, group in itertools.groupby(enumerate(policies), lambda pair: kind_of(pair[1])):
        places, own = zip(*group, strict=True)
        if kind is None:
            teams += [(place, place + 1, Alone(x)) for place, x in zip(places, own, strict=True)]
        else:
            teams.append((places[0], places[-1] + 1, Crowd(own)))
    return teams
