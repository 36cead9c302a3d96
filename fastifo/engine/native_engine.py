"""The native engine: whole updates of a population in compiled code, on the CPU.

It trains what a `Learner` defines, from and to the learner's own tensors, so that a run may change
its engine at any checkpoint. The numbers differ from torch's by rounding only.
"""

import dataclasses
import time
from typing import Any

import torch
from torch import Tensor

from fastifo import _C
from fastifo.algos.learner import Learner
from fastifo.algos.native import NativeLoss
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.sampler import purpose
from fastifo.data.stack import member_ranges
from fastifo.engine.meter import Meter
from fastifo.nn.binned import BinnedPolicy
from fastifo.nn.heads import NormalPolicy
from fastifo.nn.mlp import ScalarNet
from fastifo.nn.optimizer import Adam
from fastifo.nn.packed import MAX_DEPTH, NetState, NumbersState

PRECISIONS = {"fp32": 0, "fp32x": 2, "bf16": 1, "fp64": 0}  # parts of a bfloat16 operand
ISA = ""  # of `_C.isas`; empty is the machine's best, the bench and tests name others
HALF_KERNEL = ""  # of csrc/engine/half.h; the same
CALL_S = 1.0  # aimed at for one call of compiled code, which no signal interrupts
TURNS = 16  # of each thread in a call, so that members spread over threads evenly


def why_not(learner: Learner) -> str | None:
    """Why the native engine cannot train this learner, or None if it can."""
    cfg, loss = learner.cfg, learner.native_loss
    if loss is None:
        return f"{getattr(cfg, 'backbone', learner.name)} has no compiled loss"
    reading = getattr(getattr(learner, "policy", None), "reading", "none")
    needs = {
        "it runs on the CPU only": learner.encoder.mean.device.type == "cpu",
        "fused=False asks for the references": learner.fused,
        f"it does not train in {learner.precision}": learner.precision in loss.precisions,
        f"its hidden layers are relu, not {cfg.activation}": cfg.activation == "relu",
        f"it has at most {MAX_DEPTH} layers": len(cfg.hidden_sizes) < MAX_DEPTH,
        f"its policy is {' or '.join(loss.heads)}, not {cfg.policy_head}": (
            cfg.policy_head in loss.heads
        ),
        **{
            f"it has no {name}": not any(getattr(c, name, 0) for c in learner.configs)
            for name in loss.unsupported
        },
        f"its kernel smooths logits, not {reading}": reading in ("logits", "none"),
    }
    return next((reason for reason, met in needs.items() if not met), None)


def why_slow(learner: Learner) -> str | None:
    """What makes torch the faster engine for this learner, or None."""
    if learner.precision == "fp64":
        return "its double precision is plain C++, for tests"
    if learner.precision == "fp32x" and _kernel(_module(learner)) == "widened":
        return "this processor has no bfloat16 units, and torch makes fp32x in fp32"
    return None


def choose_engine(engine: str, learner: Learner) -> tuple[str, str | None]:
    """torch or native, and what keeps it from native; auto is native where it is the faster.

    Raises ValueError for an unknown engine, or for native where it cannot train this.
    """
    if engine not in ("auto", "torch", "native"):
        raise ValueError(f"engine: expected auto, torch or native, found {engine!r}")
    reason = why_not(learner)
    if engine == "native" and reason is not None:
        raise ValueError(f"engine: native cannot train this: {reason}; use engine='torch'")
    if engine == "auto":
        reason = reason or why_slow(learner)
    return "native" if engine != "torch" and reason is None else "torch", reason


def _module(learner: Learner) -> Any:
    """The compiled code for a learner's numbers on this machine."""
    return _C.fp64 if learner.dtype == torch.float64 else getattr(_C, ISA or _C.isas[0])


def _kernel(module: Any) -> str:
    """Of products in bfloat16; asking what there is asks the system for its matrix unit."""
    found = [str(name) for name in module.half_kernels()]
    if HALF_KERNEL and HALF_KERNEL not in found:
        raise ValueError(f"kernel: expected {' or '.join(found)} here, found {HALF_KERNEL!r}")
    return HALF_KERNEL or found[0]


class NativeEngine:
    """Updates of one learner in compiled code; the learner's tensors are current after `store`."""

    def __init__(
        self, learner: Learner, dataset: Dataset, needs: frozenset[str], stage: str
    ) -> None:
        self.learner = learner
        self.module = _module(learner)
        self.kept: list[Tensor] = []  # what the plan points to
        assert learner.native_loss is not None
        loss = learner.native_loss
        members = len(learner.seeds)
        self.meter = Meter()
        self.meter.names = _C.metric_names(loss.name)
        self.totals = torch.zeros(members, len(self.meter.names), dtype=torch.float64)
        self.meter.total = self.totals
        self.seconds = torch.zeros(members, _C.max_lanes, len(_C.parts), dtype=torch.float64)
        self.plan = self._plan(loss, dataset, needs, stage)
        self.plan.kernel = _kernel(self.module) if PRECISIONS[learner.precision] else ""
        self.update_s = 0.0  # of the population, once measured

    def _plan(self, loss: NativeLoss, dataset: Dataset, needs: frozenset[str], stage: str) -> Any:
        learner, cfg = self.learner, self.learner.cfg
        plan = _C.Plan()
        plan.method, plan.precision = loss.name, learner.precision
        plan.members, plan.batch = len(learner.seeds), learner.batch_rows(cfg)
        plan.seed = self._keep(torch.tensor(learner.seeds, dtype=torch.int64))
        plan.obs_dim = learner.spec.obs_dim + learner.extra_inputs
        plan.scale = learner.encoder.scale.tolist()
        if learner.encoder.standardizes:
            plan.mean = self._keep(learner.encoder.mean)
            plan.deviation = self._keep(learner.encoder.deviation)
        plan.sources = self._sources(dataset, needs, stage)
        plan.mix_purpose = purpose(stage, "mix") if "uniform" in needs else -1
        plan.policy_sources = 2 if "expert_action" in needs else 1
        plan.next_from = loss.next_from

        parts = PRECISIONS[learner.precision]
        scalar = getattr(learner, "value", None) or getattr(learner, "logit", None)
        self.nets: list[NetState | NumbersState] = []
        if scalar is not None:
            self.nets.append(NetState(scalar, getattr(learner, "value_target", None), parts))
            plan.scalar = self.nets[-1].plan()
            plan.target_period = learner.target_period
        for name in ("critic", "twin"):
            if hasattr(learner, name):
                target = getattr(learner, f"{name}_target")
                self.nets.append(NetState(getattr(learner, name), target, parts))
                setattr(plan, name, self.nets[-1].plan())
        if hasattr(learner, "policy"):
            policy = learner.policy
            assert not isinstance(policy, ScalarNet)
            self.nets.append(NetState(policy.body, None, parts))
            plan.policy = self.nets[-1].plan()
            plan.action_dim = learner.spec.action_dim
            plan.policy_decay_updates = getattr(cfg, "policy_decay_updates", 0)
            if isinstance(policy, BinnedPolicy):
                plan.bins = policy.num_bins
                plan.taps, plan.norm = self._keep(policy.taps), self._keep(policy.norm)
                plan.radius = policy.taps.shape[1] - 1
            if isinstance(policy, NormalPolicy):
                self.nets.append(NumbersState(policy.log_std))
                plan.log_std = self.nets[-1].plan()
        fields = [field.name for field in dataclasses.fields(cfg)]
        values = {name: [getattr(c, name) for c in learner.configs] for name in fields}
        plan.numbers = {
            k: v for k, v in values.items() if isinstance(v[0], float)
        } | self._rates_and_decays()
        plan.flags = {k: v[0] for k, v in values.items() if isinstance(v[0], bool)} | {
            **{flag: getattr(cfg, name) == value for flag, (name, value) in loss.flags.items()},
            "scalar_pair": "scalar" in loss.pairs,
            "policy_pair": "policy" in loss.pairs,
        }
        return plan

    def _rates_and_decays(self) -> dict[str, list[float]]:
        """Rate and decay of each net, one number per member."""
        found: dict[str, list[float]] = {}
        for name in ("policy", "value", "logit"):
            net = getattr(self.learner, name, None)
            if net is not None:
                rate, decay = self.learner.param_group_of(net)
                kind = "policy" if name == "policy" else "scalar"
                found |= {f"{kind}_rate": rate.tolist(), f"{kind}_decay": decay.tolist()}
        return found

    def _sources(self, dataset: Dataset, needs: frozenset[str], stage: str) -> list[Any]:
        """In the order of the method's rows."""
        learner = self.learner
        acts, window = "expert_action" in needs, 2 if "triples" in needs else None
        drawn: list[tuple[str, Episodes, int | None]] = [("background", dataset.background, window)]
        if "expert" in needs and dataset.expert is not None:
            drawn.insert(0, ("expert", dataset.expert, window))
        if "initial" in needs:
            drawn.insert(0, ("initial", dataset.background, 0))
        if "policy" in needs:
            drawn.append(("policy", dataset.background, window))
        pointers: dict[int, dict[str, int]] = {}
        sources = []
        for what, episodes, length in drawn:
            source = _C.SourcePlan()
            source.purpose, source.transitions = purpose(stage, what), episodes.num_transitions
            if id(episodes) not in pointers:
                columns = {"obs": episodes.obs, "terminal": episodes.terminal}
                if episodes.action is not None and (what != "expert" or acts):
                    columns["action"] = episodes.action
                if "reward" in needs and episodes.reward is not None:
                    columns["reward"] = episodes.reward
                found = {k: self._keep(v.to(learner.dtype)) for k, v in columns.items()}
                pointers[id(episodes)] = found | {"row": self._keep(episodes.rows())}
            for name, address in pointers[id(episodes)].items():
                setattr(source, name, address)
            if length is not None:
                source.windows = self._windows(episodes, length)
            elif episodes.ranges is not None:
                first, count = episodes.ranges.t().contiguous()
                source.first, source.count = self._keep(first), self._keep(count)
            if episodes.reward is not None and episodes.reward.ndim == 2:
                source.reward_stride = episodes.num_transitions
            if episodes.action is not None and episodes.action.ndim == 3:
                source.action_stride = episodes.action[0].numel()
            sources.append(source)
        return sources

    def _windows(self, episodes: Episodes, length: int) -> int:
        """Of each member: the addresses of what `Episodes.windows` says, and how many episodes."""
        members = len(self.learner.seeds)
        found = torch.zeros(members, 3, dtype=torch.int64)
        for own, first, count in member_ranges(episodes, members):
            start, before = episodes.windows(length, first, count)
            row = [self._keep(start), self._keep(before), len(start)]
            found[own] = torch.tensor(row, dtype=torch.int64)
        return self._keep(found)

    def _keep(self, tensor: Tensor) -> int:
        """The address of the tensor's numbers, which stay."""
        self.kept.append(tensor.contiguous())
        return self.kept[-1].data_ptr()

    def _moments(self) -> dict[Tensor, tuple[Tensor, Tensor]]:
        if self.learner.optimizer is None:
            self.learner.start_optimizer()
        optimizer = self.learner.optimizer
        assert isinstance(optimizer, Adam)
        return dict(optimizer.moments())

    @torch.no_grad()
    def load(self) -> None:
        """Takes the learner's state."""
        moments = self._moments()
        for net in self.nets:
            net.load(moments)
        self.plan.repacks = True

    @torch.no_grad()
    def store(self) -> None:
        """Gives it back."""
        moments = self._moments()
        for net in self.nets:
            net.store(moments)
        self.learner.counter.fill_(self.learner.num_updates)

    def advance(self, most: int) -> int:
        """Makes 1 to `most` updates, as many as take about a second; returns how many.

        What they compute does not depend on where the calls begin and end.
        """
        count = 1 if self.update_s == 0.0 else max(1, min(most, int(CALL_S / self.update_s)))
        threads = torch.get_num_threads()
        turns = -(-TURNS * threads // self.plan.members) if threads > 1 else 1  # of each member
        started = time.perf_counter()
        self.module.train(
            self.plan, self.learner.num_updates, count, -(-count // turns), threads,
            self.totals.data_ptr(), self.seconds.data_ptr(),
        )  # fmt: skip
        self.plan.repacks = False
        self.update_s = (time.perf_counter() - started) / count
        return count
