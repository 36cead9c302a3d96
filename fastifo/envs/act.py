"""Actions of many policies at a time.

Policies of the same kind act in one call of compiled code on the CPU; the others act one by one.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastifo import _C
from fastifo.envs.policy import Policy
from fastifo.nn.binned import BinnedPolicy
from fastifo.nn.heads import DeterministicPolicy
from fastifo.nn.packed import MAX_DEPTH, NetWeights

BLOCK_ROWS = 256  # rows of one torch product
JOB_ROWS, MAX_JOBS = 64, 16  # fewest rows that are worth a thread, and most threads


Images = Mapping[str, Tensor]  # camera -> frames, uint8 [R, H, W, C], a row for each observation


class Actor(Protocol):
    """Anything that can act in an environment: a trained policy or an expert."""

    seed: Tensor  # [1], on the actor's device

    def noise(self, stream: int, step: int, rows: int) -> Tensor | None:
        """Sampling noise of one step, [rows, width]; None if the actor is deterministic."""

    def act_rows(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions [B, A] for observations [B, D]; a sample with `noise`, the mode without.

        A `Policy` that reads frames also takes `images`.
        """


class SamplingStep(NamedTuple):
    """Identifies the random numbers of one environment step; see `Policy.noise`."""

    stream: int  # of random numbers; see `purpose`
    step: int  # environment step, counted from 0
    num_episodes: int  # rows of noise, one per episode; 0: act deterministically
    block: int = 0  # rows of every product of torch; 0: as many as there are, up to BLOCK_ROWS


def batch_key(policy: Any) -> tuple[Any, ...] | None:
    """Policies with equal keys can share a `PolicyBatch`; None: this one cannot join any."""
    if not isinstance(policy, Policy):
        return None
    learner, cfg = policy.learner, policy.learner.cfg
    head = learner.policy
    compiled = (
        isinstance(head, BinnedPolicy | DeterministicPolicy)
        and getattr(head, "reading", "none") in ("logits", "none")
        and policy.device.type == "cpu"
        and learner.fused
        and cfg.activation == "relu"
        and len(cfg.hidden_sizes) < MAX_DEPTH
        and not cfg.action_jitter
        and not learner.spec.images
    )
    return (learner.dtype, learner.extra_inputs, policy.low is None) if compiled else None


class PolicyBatch:
    """Binned and deterministic policies that act together in compiled code.

    Their actions differ from the policies' own in torch by rounding only.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        """policies: one or more with the same `batch_key`."""
        first = policies[0].learner
        self.dtype, self.extra_inputs = first.dtype, first.extra_inputs
        self.action_dim = first.spec.action_dim
        self.module = _C.fp64 if self.dtype == torch.float64 else getattr(_C, _C.isas[0])
        self.kept: list[Any] = []  # owners of the memory that the plans point to
        self.plans = [self._plan(policy) for policy in policies]
        self.bounds: list[Tensor] = []  # low and high, [policies, A] each; empty: [-1, 1]
        if policies[0].low is not None:
            ends = ("low", "high")
            self.bounds = [torch.stack([getattr(p, end) for p in policies]) for end in ends]

    def _plan(self, policy: Policy) -> Any:
        learner = policy.learner
        head = learner.policy
        assert isinstance(head, BinnedPolicy | DeterministicPolicy)
        weights = NetWeights(head.body)
        with torch.no_grad():
            weights.load_weights()
        encoder = learner.encoder
        plan = _C.Plan()
        plan.policy = weights.plan()
        plan.obs_dim = learner.spec.obs_dim + learner.extra_inputs
        plan.scale = encoder.scale.tolist()
        if encoder.standardizes:
            plan.mean, plan.deviation = encoder.mean.data_ptr(), encoder.deviation.data_ptr()
        plan.action_dim = learner.spec.action_dim
        if isinstance(head, BinnedPolicy):
            plan.bins = head.num_bins
            plan.taps, plan.norm = head.taps.data_ptr(), head.norm.data_ptr()
            plan.radius = head.taps.shape[1] - 1
        plan.seed = policy.seed.data_ptr()
        self.kept += [weights, policy]
        return plan

    def jobs(
        self,
        obs: Tensor,
        first: NDArray[Any],
        episode: NDArray[Any],
        sampling: SamplingStep,
        images: Images | None = None,
    ) -> list[Callable[[], Tensor]]:
        """Calls of `act` on consecutive parts of the rows, which may run in parallel.

        images: unused, these policies read none.
        """
        parts = max(1, min(MAX_JOBS, len(obs) // JOB_ROWS))
        bounds = np.linspace(0, len(obs), parts + 1).astype(np.int64)
        return [
            partial(
                self.act,
                obs[begin:end],
                first.clip(begin, end) - begin,
                episode[begin:end],
                sampling,
            )
            for begin, end in itertools.pairwise(bounds)
        ]

    def act(
        self, obs: Tensor, first: NDArray[Any], episode: NDArray[Any], sampling: SamplingStep
    ) -> Tensor:
        """Actions for rows sorted by policy, float32 [R, A].

        obs: [R, D].
        first: row at which each policy's rows begin, and the end, int [policies + 1].
        episode: the episode of each row, int [R]; selects its row of noise.
        """
        rows = nn.functional.pad(obs.to(self.dtype), (0, self.extra_inputs)).contiguous()
        begin = np.ascontiguousarray(first, np.int64)
        noise_row = np.ascontiguousarray(episode, np.int64)
        action = torch.empty(len(rows), self.action_dim, dtype=self.dtype, device="cpu")
        self.module.act(
            self.plans, begin.ctypes.data, rows.data_ptr(), noise_row.ctypes.data,
            sampling.num_episodes, sampling.stream, sampling.step, action.data_ptr(),
        )  # fmt: skip
        unit_action = action.float()
        if not self.bounds:
            return unit_action
        owner = torch.from_numpy(np.repeat(np.arange(len(self.plans)), np.diff(begin)))
        low, high = (end[owner] for end in self.bounds)
        return low + 0.5 * (unit_action + 1.0) * (high - low)


class SinglePolicy:
    """An actor that cannot join a batch, with the interface of `PolicyBatch`."""

    def __init__(self, policy: Actor) -> None:
        self.policy = policy
        # Names of the cameras that it reads.
        self.cameras = [c for c, *_ in policy.cameras] if isinstance(policy, Policy) else []

    def jobs(
        self,
        obs: Tensor,
        first: NDArray[Any],
        episode: NDArray[Any],
        sampling: SamplingStep,
        images: Images | None = None,
    ) -> list[Callable[[], Tensor]]:
        """Calls on blocks of fixed size: torch's rounding depends on the size of a product.

        obs, episode, sampling: as in `PolicyBatch.act`.  first: unused, all rows are this policy's.
        images: the rows' frames; those of cameras that the policy does not read are ignored.
        """
        noise = None
        if sampling.num_episodes > 0 and len(obs) > 0:
            noise = self.policy.noise(sampling.stream, sampling.step, sampling.num_episodes)
        size = sampling.block or BLOCK_ROWS
        blocks = [slice(row, row + size) for row in range(0, len(obs), size)]
        return [
            partial(
                self._act,
                obs[b],
                None if noise is None else noise[episode[b]],
                {camera: (images or {})[camera][b] for camera in self.cameras},
                sampling.block,
            )
            for b in blocks
        ]

    def _act(self, obs: Tensor, noise: Tensor | None, images: Images, block: int) -> Tensor:
        """Actions of at most `block` rows, filled up to as many; 0: as they are."""
        missing = block - len(obs)
        if missing > 0:
            obs, images = _filled(obs, missing), {k: _filled(v, missing) for k, v in images.items()}
            noise = None if noise is None else _filled(noise, missing)
        if images:
            assert isinstance(self.policy, Policy)
            action = self.policy.act_rows(obs, noise, images)
        else:
            action = self.policy.act_rows(obs, noise)
        return action if missing <= 0 else action[:-missing]


def _filled(rows: Tensor, missing: int) -> Tensor:
    """The rows, followed by the last one as often as rows are missing."""
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])


class ActorGroup(NamedTuple):
    """Neighbouring policies that act together."""

    begin: int  # index of its first policy
    end: int  # index after its last one
    actor: PolicyBatch | SinglePolicy


def group_actors(policies: Sequence[Actor]) -> list[ActorGroup]:
    """Splits policies into groups of neighbours that can act together, in order."""
    groups: list[ActorGroup] = []
    for key, run in itertools.groupby(enumerate(policies), lambda pair: batch_key(pair[1])):
        indices, members = zip(*run, strict=True)
        if key is None:
            groups += [
                ActorGroup(index, index + 1, SinglePolicy(policy))
                for index, policy in zip(indices, members, strict=True)
            ]
        else:
            groups.append(ActorGroup(indices[0], indices[-1] + 1, PolicyBatch(members)))
    return groups
