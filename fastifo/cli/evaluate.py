"""`fastifo evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from fastifo.cli.options import DETERMINISTIC, Play, env_kwargs
from fastifo.engine.reopen import open_run
from fastifo.engine.run import Run
from fastifo.envs.returns import Returns
from fastifo.utils.text import number_texts


@dataclass(frozen=True)
class Evaluate:
    """Play episodes with every policy of a run and print their returns.

    Needs     a run folder of `fastifo train`
    Writes    returns.npz (sampled actions) and returns-deterministic.npz (mode) in the run folder
    Example   fastifo evaluate runs/vfo_bin --episodes 100
    """

    run: tyro.conf.Positional[Path]
    """Run folder."""
    episodes: int = 100
    """Episodes per policy."""
    play: Play = "both"
    """Actions: sampled from the policy, the policy's mode, or both in turn."""
    protocol: Literal["final", "last_tenth", "last_half"] = "final"
    """final evaluates the final weights; last_tenth and last_half average the evaluations logged by
    --eval-every in that part of training instead (last_half is the paper's for Robomimic)."""
    env_id: str = ""
    """Environment that replaces the run's, also in the run folder: an EnvPool or Gymnasium id, or
    module:function."""
    env_arg: tuple[str, ...] = ()
    """NAME=VALUE, such as max_episode_steps=200: settings of the environment."""
    num_workers: int = 0
    """Number of processes that step environments outside EnvPool; 0: chosen automatically."""
    seed: int = 0
    """Seed of the start states, which are the same for every policy."""

    def main(self) -> None:
        """Prints the mean return with its interval, the time, and each member's mean."""
        run = open_run(self.run)
        results = self._results(run)
        for returns in results:
            print(returns)
            if (clock := returns.clock).total_s:
                print(
                    f"  took {clock.total_s:.1f} s: {clock.policy_s:.1f} s of policies acting "
                    f"while environments step, {clock.environment_s:.1f} s of waiting for "
                    "environments"
                )
        if len(run) > 1:
            kinds = {False: "sampled", True: "mode"}
            texts = [number_texts(returns.per_member) for returns in results]
            for member, means in enumerate(zip(*texts, strict=True)):
                cells = zip(results, means, strict=True)
                cells_text = "  ".join(f"{kinds[r.deterministic]} {mean}" for r, mean in cells)
                print(f"  {run.describe(member)}: {cells_text}")
        versions = ", ".join(f"{name} {version}" for name, version in results[0].versions.items())
        print(f"  played with {versions}")

    def _results(self, run: Run) -> list[Returns]:
        """The evaluations that the flags ask for; of logged ones, those that there are."""
        results, missing = [], []
        for deterministic in DETERMINISTIC[self.play]:
            try:
                results.append(
                    run.evaluate(
                        self.episodes,
                        deterministic,
                        protocol=self.protocol,
                        seed=self.seed,
                        env=self.env_id or None,
                        env_kwargs=env_kwargs(self.env_arg),
                        num_workers=self.num_workers,
                    )
                )
            except ValueError as error:
                if self.protocol == "final":
                    raise
                missing.append(error)
        if not results:
            raise missing[0]
        return results
