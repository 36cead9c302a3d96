"""`fastifo improve`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from fastifo.cli.lists import Ints, Seeds
from fastifo.cli.machines import Machines
from fastifo.cli.options import env_kwargs
from fastifo.studies.improve import improve


@dataclass(frozen=True)
class Improve:
    """Train, play, replace the background with the played episodes, and repeat.

    Needs     a first background, and the expert's observations (--expert, or the same dataset)
    Writes    a run and its episodes for each iteration, improve.json and sawteeth.png in --out
    Example   fastifo improve vfo_bin --background sibench:Hopper-v4/d=5 --out improve
    """

    machines: tyro.conf.OmitArgPrefixes[Machines]
    """Where to run an iteration of all seeds; by default one seed after the other."""
    algorithm: tyro.conf.Positional[str]
    """The algorithm, such as vfo_bin."""
    background: str
    """File or spec of the first background."""
    out: Path
    """Folder of the iterations. Repeating the command continues."""
    expert: str = ""
    """File or spec of the expert's observations, if not in the background's dataset."""
    env_id: str = ""
    """Environment, for files that do not state it: an id of EnvPool or Gymnasium, or
    module:function."""
    env_arg: tuple[str, ...] = ()
    """NAME=VALUE, such as max_episode_steps=200: settings of the environment."""
    iterations: int = 20
    """Iterations of training and playing."""
    episodes: int = 1000
    """Episodes played in each iteration."""
    seeds: Seeds = (0,)
    """Seeds; each has its own sequence of policies."""
    num_updates: int = 100_000
    """Updates in each iteration."""
    hidden_sizes: Ints = (512, 512)
    """Widths of the hidden layers of every network."""
    temperature: float | None = None
    """Temperature of the advantage weights, for algorithms that have one."""

    def main(self) -> None:
        """Runs the iterations and prints the path of the figure."""
        from fastifo.report.report import report

        fields: dict[str, Any] = {"hidden_sizes": self.hidden_sizes}
        if self.temperature is not None:
            fields["temperature"] = self.temperature
        improve(
            self.algorithm,
            self.expert or self.background,
            self.background,
            iterations=self.iterations,
            episodes=self.episodes,
            seeds=self.seeds,
            num_updates=self.num_updates,
            env_id=self.env_id or None,
            env_kwargs=env_kwargs(self.env_arg),
            out=self.out,
            executor=self.machines.make(self.out / "logs"),
            **fields,
        )
        print(f"figure  {report(self.out)}")
        print(f"page    {self.out / 'report.html'}")
