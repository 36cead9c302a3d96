"""The whole job in minutes: a small SIBench set, four methods, one table, one figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastifo.callbacks import EvaluateEvery
from fastifo.engine.train import train
from fastifo.experts import load_expert
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
    spec = f"sibench:{env_id}/d=50,episodes=200,demos=50,bc_updates=3000"
    print(f"dataset  {spec}", flush=True)
    dataset = load(spec)
    print(dataset.summary(), flush=True)
    for algorithm in ALGORITHMS:
        fields: dict[str, Any] = {"hidden_sizes": (hidden, hidden)}
        if algorithm == "vfo_disc":
            fields["disc_updates"] = max(1, num_updates // 5)
        run = train(
            algorithm,
            dataset,
            num_updates=num_updates,
            seeds=seeds,
            out=out / algorithm,
            callbacks=[EvaluateEvery(max(1, num_updates // 5), num_episodes=10)],
            **fields,
        )
        run.evaluate(episodes)
        run.evaluate(max(1, episodes // 2), deterministic=True)
    return report(out)
