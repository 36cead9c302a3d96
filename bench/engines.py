"""What bench.train times: fastifo's engines and their peers on the same problem.

torch and fastifo are imported inside functions, because each implementation sets its process's CPU
affinity before it imports them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.peers import problem

CORL, SCAN = "CORL-style eager torch fp32", "JAX scan fp32"

Variants = dict[str, Callable[[], Any]]  # name -> function that makes the object to step


class UntrainedStages:
    """A `StageTrainer` that returns helper learners without training them."""

    folder: Path | None = None
    progress = False

    def __init__(self, seeds: Sequence[int], precision: str, spec: Any) -> None:
        """spec: the `InputSpec` of helpers that are not given one."""
        import torch

        self.seeds, self.precision, self.spec = seeds, precision, spec
        self.device = torch.device("cpu")

    def has_diverged(self, member: int) -> bool:
        """No member has diverged."""
        return False

    def mark_diverged(self, member: int) -> None:
        """Does nothing."""

    def note(self, name: str, value: Any) -> None:
        """Does nothing."""

    def train(
        self,
        helper: Any,
        configs: Any,
        num_updates: int,
        dataset: Any,
        spec: Any = None,
        monitor: Any = None,
        members: Any = None,
    ) -> Any:
        """The helper learner, untrained."""
        return helper(configs, self.seeds, spec or self.spec, self.precision)


class Fastifo:
    """A method of fastifo on the problem of bench.peers, in one of its engines."""

    def __init__(
        self,
        dataset: Any,
        hidden: int,
        members: int,
        engine: str,
        precision: str,
        device: str = "cpu",
        algorithm: Any = "vfo_bin",
    ) -> None:
        """algorithm: a name, or the learner class of a stage. Earlier stages stay untrained."""
        import torch

        from fastifo import algos
        from fastifo.algos.learner import InputSpec
        from fastifo.data.sampler import Sampler
        from fastifo.engine.native_engine import NativeEngine
        from fastifo.engine.torch_engine import TorchEngine

        learner_class = algos.find(algorithm) if isinstance(algorithm, str) else algorithm
        config = learner_class.Config(hidden_sizes=(hidden, hidden))
        spec = InputSpec(problem.OBS_DIM, problem.ACTION_DIM)
        learner = learner_class([config] * members, range(members), spec, precision)
        learner.to_device(torch.device(device))
        stages = UntrainedStages(learner.seeds, precision, spec)
        dataset = learner_class.prepare(dataset, learner.configs, stages)
        needs = learner_class.batch_needs(config)
        torch.set_flush_denormal(True)
        if engine == "native":
            self.engine: Any = NativeEngine(learner, dataset, needs, "train")
        else:
            sampler = Sampler(
                dataset, learner.seeds, learner.batch_rows(config), needs, "train",
                torch.device(device), learner.dtype, learner.encoder,
                noise_width=learner.noise_width, window=learner.window, reuses=True,
            )  # fmt: skip
            self.engine = TorchEngine(learner, sampler)
        self.learner, self.population = learner, members
        self.engine.load()
        self.members = members  # model-steps of the last `step`

    def step(self) -> None:
        """Makes as many updates as the engine makes in one call."""
        from fastifo.utils.devices import tf32

        with tf32(self.learner.precision == "tf32"):
            count = self.engine.advance(10**6)
        self.learner.num_updates += count
        self.members = count * self.population


def fastifo_dataset(columns: Any) -> Any:
    """A Dataset with the columns of `problem.columns`, cut into episodes of 1000 steps."""
    from fastifo import Dataset

    def episodes(name: str, count: int) -> list[dict[str, Any]]:
        obs, action = columns[f"{name}_obs"], columns["action"]
        return [
            {"obs": obs[first : first + 1001], "action": action[first : first + 1000]}
            for first in range(0, count - 1000, 1000)
        ]

    background = episodes("background", problem.NUM_BACKGROUND)
    for episode in background:
        episode["reward"] = episode["obs"][1:, 0]
    return Dataset.from_episodes(background, episodes("expert", problem.NUM_EXPERT))


def variants(implementation: str, hidden: int, populations: list[int], device: str) -> Variants:
    """The variants of fastifo, corl, torch or jax; called in the implementation's process."""
    make = {"fastifo": _fastifo, "jax": _jax, "corl": _corl}.get(implementation, _torch)
    return make(problem.columns(), hidden, populations, device)


def _fastifo(columns: Any, hidden: int, populations: list[int], device: str) -> Variants:
    dataset = fastifo_dataset(columns)
    kinds = [("torch", "fp32"), *(("native", precision) for precision in native_precisions())]
    if device == "cuda":
        kinds = [("torch", precision) for precision in ("fp32", "tf32", "bf16")]
    return {
        f"fastifo {engine} {precision} P={p}": lambda p=p, e=engine, q=precision: Fastifo(  # type: ignore[misc]
            dataset, hidden, p, e, q, device
        )
        for engine, precision in kinds
        for p in populations
    }


def _jax(columns: Any, hidden: int, populations: list[int], device: str) -> Variants:
    from bench.peers.jax_peer import Jax

    scan, chunk = (10, 2) if device == "cpu" else (1000, 200)  # updates in a compiled call
    made: Variants = {
        SCAN: lambda: Jax(columns, hidden, None, scan),
        "JAX scan bf16": lambda: Jax(columns, hidden, None, scan, bf16=True),
    }
    for p in populations:
        if p > 1:
            made[f"JAX vmap fp32 P={p}"] = lambda p=p: Jax(columns, hidden, p, chunk)  # type: ignore[misc]
    return made


def _corl(columns: Any, hidden: int, populations: list[int], device: str) -> Variants:
    from bench.peers.eager import Corl

    return {CORL: lambda: Corl(columns, hidden)}


def _torch(columns: Any, hidden: int, populations: list[int], device: str) -> Variants:
    from bench.peers.eager import Tuned
    from bench.peers.population import Population

    made: Variants = {}
    if device == "cpu":
        made |= {
            "torch, fused Adam fp32": lambda: Tuned(columns, hidden, compiles=False),
            "torch.compile, fused Adam fp32": lambda: Tuned(columns, hidden, compiles=True),
            "torch.compile, fused Adam bf16": lambda: Tuned(
                columns, hidden, compiles=True, bf16=True
            ),
        }
    for p in populations:
        for bf16 in (False, True):
            kind = "bf16" if bf16 else "fp32"
            made[f"torch baddbmm {kind} P={p}"] = lambda p=p, b=bf16: Population(  # type: ignore[misc]
                columns, hidden, p, b, device
            )
    return made


def native_precisions() -> tuple[str, ...]:
    """The precisions of the native engine that bench.train times."""
    from fastifo.engine.native_plan import PRECISIONS

    return tuple(name for name in PRECISIONS if name != "fp64")
