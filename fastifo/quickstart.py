"""The whole job in minutes: a small SIBench set, four methods, one table, one figure."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastifo.callbacks import EvaluateEvery
from fastifo.engine.run import Run
from fastifo.engine.train import train
from fastifo.experts import load_expert
from fastifo.files import write_json
from fastifo.report import report
from fastifo.rollout import check_env
from fastifo.specs import load

ALGORITHMS = ("bc", "vfo_bin", "vfo_disc", "awr")


def quickstart(
    env_id: str, out: Path, num_updates: int, seeds: Sequence[int], hidden: int, episodes: int
) -> Path:
    """Builds the data, trains, evaluates, prints, draws.  Returns the figure's path."""
    check_env(env_id)
    load_expert(env_id)
    spec = f"sibench:{env_id}/d=1,episodes=100,demos=25,bc_updates=3000"
    print(f"dataset  {spec}", flush=True)
    dataset = load(spec)
    print(dataset.summary(), flush=True)
    for algorithm in ALGORITHMS:
        fields: dict[str, Any] = {"hidden_sizes": (hidden, hidden)}
        if algorithm == "vfo_disc":
            fields["disc_updates"] = max(1, num_updates // 10)
        started = time.monotonic()
        run = train(
            algorithm,
            dataset,
            num_updates=num_updates,
            seeds=seeds,
            out=out / algorithm,
            callbacks=[EvaluateEvery(max(1, num_updates // 5), num_episodes=10)],
            **fields,
        )
        finish(run, time.monotonic() - started, episodes)
    return report(out)


def finish(run: Run, train_s: float, episodes: int) -> None:
    """Evaluates a run both ways and keeps its training time; a resumed run keeps its first time."""
    assert run.path is not None
    timing = run.path / "timing.json"
    if not timing.exists():
        write_json(timing, {"train_s": train_s})
    run.evaluate(episodes)
    run.evaluate(max(1, episodes // 2), deterministic=True)
