"""The native executor: complete updates of a population in compiled code, on the CPU.

It trains what a `Learner` defines, starting from the learner's own tensors, so that a run can
change its executor at any checkpoint. Its results differ from torch's by rounding only.
"""

import time
from typing import Any

import torch
from torch import Tensor

from fastifo import _C
from fastifo.algos.learner import Learner
from fastifo.data.dataset import Dataset
from fastifo.engine.meter import Meter
from fastifo.engine.native_plan import PRECISIONS, NativePlan
from fastifo.nn.optimizer import Adam
from fastifo.nn.packed import MAX_DEPTH

ISA = ""  # one of `_C.isas`; empty: the best of this machine. Set by benchmarks and tests
BF16_KERNEL = ""  # for bfloat16 products, see csrc/engine/kernels_bf16.h; empty: the best. As ISA
CALL_S = 1.0  # aimed-at seconds per call of compiled code, which signals cannot interrupt
TURNS = 16  # turns of each thread in a call, so that members spread evenly over threads


def why_not(learner: Learner) -> str | None:
    """Why the native engine cannot train this learner; None if it can."""
    cfg, loss = learner.cfg, learner.native_loss
    if loss is None:
        return f"{getattr(cfg, 'backbone', learner.name)} has no compiled loss"
    reading = getattr(getattr(learner, "policy", None), "reading", "none")
    hidden = max(len(cfg.hidden_sizes), len(getattr(cfg, "embedding_hidden_sizes", ())))
    requirements = {
        "does not support images": not learner.spec.images,
        "runs only on the CPU": learner.encoder.mean.device.type == "cpu",
        "does not support fused=False": learner.fused,
        f"does not train in {learner.precision}": (
            learner.precision in PRECISIONS and learner.precision in loss.precisions
        ),
        f"needs hidden layers with relu, not {cfg.activation}": cfg.activation == "relu",
        f"supports at most {MAX_DEPTH} layers": hidden < MAX_DEPTH,
        f"needs a policy head that is {' or '.join(loss.heads)}, not {cfg.policy_head}": (
            cfg.policy_head in loss.heads
        ),
        **{
            f"does not support {name}": not any(getattr(c, name, 0) for c in learner.configs)
            for name in loss.unsupported
        },
        f"smooths logits, not {reading}": reading in ("logits", "none"),
    }
    unmet = next((reason for reason, met in requirements.items() if not met), None)
    return None if unmet is None else f"the native engine {unmet}"


def why_slow(learner: Learner) -> str | None:
    """Why torch trains this learner faster than the native engine; None if it does not."""
    if learner.precision == "fp64":
        return "the native engine's double precision is plain C++, meant for tests"
    if learner.precision == "fp32x" and _kernel(_module(learner)) == "emulated":
        return "this processor has no bfloat16 units, and torch computes fp32x in fp32"
    return None


def choose_engine(engine: str, learner: Learner) -> tuple[str, str | None]:
    """The engine that trains a learner, torch or native, and why it is not native.

    engine: torch; native; or auto, which is native where that is possible and faster.
    Raises ValueError for an unknown engine, or for native where it cannot train the learner.
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
    """The compiled code for a learner's number type on this machine."""
    return _C.fp64 if learner.dtype == torch.float64 else getattr(_C, ISA or _C.isas[0])


def _kernel(module: Any) -> str:
    """The kernel of bfloat16 products; asking for the list asks the system for its matrix unit."""
    kernels = [str(name) for name in module.bf16_kernels()]
    if BF16_KERNEL and BF16_KERNEL not in kernels:
        raise ValueError(f"kernel: expected {' or '.join(kernels)} here, found {BF16_KERNEL!r}")
    return BF16_KERNEL or kernels[0]


class NativeEngine:
    """Trains one learner in compiled code; the learner's tensors are current after `store`."""

    def __init__(
        self, learner: Learner, dataset: Dataset, needs: frozenset[str], stage: str
    ) -> None:
        """See `NativePlan`."""
        assert learner.native_loss is not None
        self.learner = learner
        self.module = _module(learner)
        self.meter = Meter()
        self.meter.names = _C.metric_names(learner.native_loss.name)
        members = len(learner.seeds)
        self.totals = torch.zeros(members, len(self.meter.names), dtype=torch.float64)
        self.meter.total = self.totals
        # Seconds spent by each member and each thread of its team in each part of an update.
        self.seconds = torch.zeros(
            members, _C.max_member_threads, len(_C.parts), dtype=torch.float64
        )
        self.native_plan = NativePlan(learner, dataset, needs, stage)
        self.plan, self.nets = self.native_plan.plan, self.native_plan.nets
        self.plan.kernel = _kernel(self.module) if PRECISIONS[learner.precision] else ""
        self.update_s = 0.0  # seconds per update of the population; 0 until measured

    def _moments(self) -> dict[Tensor, tuple[Tensor, Tensor]]:
        if self.learner.optimizer is None:
            self.learner.start_optimizer()
        optimizer = self.learner.optimizer
        assert isinstance(optimizer, Adam)
        return dict(optimizer.moments())

    @torch.no_grad()
    def load(self) -> None:
        """Copies parameters, targets and Adam's moments from the learner."""
        moments = self._moments()
        for net in self.nets:
            net.load(moments)
        self.plan.repacks = True

    @torch.no_grad()
    def store(self) -> None:
        """Copies parameters, targets and Adam's moments to the learner."""
        moments = self._moments()
        for net in self.nets:
            net.store(moments)
        self.learner.counter.fill_(self.learner.num_updates)

    def advance(self, most: int) -> int:
        """Makes 1 to `most` updates, as many as take about `CALL_S`; returns how many.

        The results do not depend on how updates are divided into calls.
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
