"""What bench.train times: the library's engines and its peers on one problem, by school."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.peers import problem

CORL, SCAN = "CORL-style eager torch fp32", "JAX scan fp32"


class Fastifo:
    """The library's own engines on the same problem."""

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
        """algorithm: a name or the class of a stage; stages before it stay untrained."""
        import torch

        from fastifo import algos
        from fastifo.algos.learner import InputSpec
        from fastifo.data.sampler import Sampler
        from fastifo.engine.native_engine import NativeEngine
        from fastifo.engine.torch_engine import TorchEngine

        learner_class = algos.find(algorithm) if isinstance(algorithm, str) else algorithm
        config = learner_class.Config(hidden_sizes=(hidden, hidden))
        run_spec = InputSpec(problem.OBS_DIM, problem.ACTION_DIM)
        learner = learner_class([config] * members, range(members), run_spec, precision)
        learner.to_device(torch.device(device))
        needs, bits = learner_class.batch_needs(config), precision

        class Untrained:
            folder: Path | None = None
            seeds = range(members)
            device = torch.device("cpu")
            progress: bool = False
            precision: str = bits

            def has_diverged(self, member: int) -> bool:
                return False

            def mark_diverged(self, member: int) -> None: ...

            def note(self, name: str, value: Any) -> None: ...

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
                return helper(configs, learner.seeds, spec or run_spec, precision)

        dataset = learner_class.prepare(dataset, learner.configs, Untrained())
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
        self.members = members

    def step(self) -> None:
        from fastifo.utils.devices import tf32

        with tf32(self.learner.precision == "tf32"):
            made = self.engine.advance(10**6)
        self.learner.num_updates += made
        self.members = made * self.population


def fastifo_dataset(columns: Any) -> Any:
    """The same columns as episodes of 1000 steps."""
    from fastifo import Dataset

    def episodes(name: str, count: int, acts: bool) -> list[dict[str, Any]]:
        obs = columns[f"{name}_obs"]
        found = []
        for first in range(0, count - 1000, 1000):
            episode = {"obs": obs[first : first + 1001]}
            if acts:
                episode["action"] = columns["action"][first : first + 1000]
            found.append(episode)
        return found

    background = episodes("background", problem.NUM_BACKGROUND, True)
    for episode in background:
        episode["reward"] = episode["obs"][1:, 0]
    return Dataset.from_episodes(background, episodes("expert", problem.NUM_EXPERT, True))


def variants(
    school: str, hidden: int, populations: list[int], device: str
) -> dict[str, Callable[[], Any]]:
    """Name -> what makes it; called in the school's own process."""
    columns = problem.columns()
    if school == "fastifo":
        dataset = fastifo_dataset(columns)
        kinds = [("torch", "fp32"), *(("native", q) for q in native_kinds())]
        if device == "cuda":
            kinds = [("torch", q) for q in ("fp32", "tf32", "bf16")]
        return {
            f"fastifo {engine} {precision} P={p}": lambda p=p, e=engine, q=precision: Fastifo(  # type: ignore[misc]
                dataset, hidden, p, e, q, device
            )
            for engine, precision in kinds
            for p in populations
        }
    if school == "jax":
        from bench.peers.jax_peer import Jax

        scan, chunk = (10, 2) if device == "cpu" else (1000, 200)  # updates in a compiled call
        found: dict[str, Callable[[], Any]] = {
            SCAN: lambda: Jax(columns, hidden, None, scan),
            "JAX scan bf16": lambda: Jax(columns, hidden, None, scan, bf16=True),
        }
        for p in populations:
            if p > 1:
                found[f"JAX vmap fp32 P={p}"] = lambda p=p: Jax(columns, hidden, p, chunk)  # type: ignore[misc]
        return found
    from bench.peers.eager import Corl, Tuned
    from bench.peers.population import Population

    if school == "corl":
        return {CORL: lambda: Corl(columns, hidden)}
    found = (
        {}
        if device == "cuda"
        else {
            "torch, fused Adam fp32": lambda: Tuned(columns, hidden, compiles=False),
            "torch.compile, fused Adam fp32": lambda: Tuned(columns, hidden, compiles=True),
            "torch.compile, fused Adam bf16": lambda: Tuned(
                columns, hidden, compiles=True, bf16=True
            ),
        }
    )
    for p in populations:
        for bf16 in (False, True):
            kind = "bf16" if bf16 else "fp32"
            found[f"torch baddbmm {kind} P={p}"] = lambda p=p, b=bf16: Population(  # type: ignore[misc]
                columns, hidden, p, b, device
            )
    return found


def native_kinds() -> tuple[str, ...]:
    from fastifo.engine.native_plan import PRECISIONS

    return tuple(name for name in PRECISIONS if name != "fp64")
