"""`fastifo improve`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from fastifo.algos import DAGGER
from fastifo.cli.lists import Floats, Ints, Seeds
from fastifo.cli.machines import Machines
from fastifo.cli.options import env_kwargs, parse_values
from fastifo.studies.expert_sources import INCLUDED
from fastifo.studies.improve import improve


@dataclass(frozen=True)
class Improve:
    """Train, play, replace the background with the played episodes, and repeat.

    With dagger an expert labels the played episodes with its actions, and all episodes are kept.

    Needs     a first background, and the expert's observations (--expert, or the same dataset);
              dagger: an environment, and an expert that can be queried
    Writes    a run and its episodes for each iteration, improve.json and sawteeth.png in --out
    Example   fastifo improve vfo_bin --background sibench:Hopper-v4/d=5 --out improve
    Example   fastifo improve dagger --env-id Hopper-v4 --iterations 5 --episodes 10 --out dagger
    """

    machines: tyro.conf.OmitArgPrefixes[Machines]
    """Where to run an iteration of all seeds; by default one seed after the other."""
    algorithm: tyro.conf.Positional[str]
    """The algorithm, such as vfo_bin or dagger."""
    out: Path
    """Folder of the iterations. Repeat the command to resume."""
    background: str = ""
    """File or spec of the first background. dagger: of the expert's demonstrations; without this
    flag, the expert plays them."""
    expert: str = ""
    """File or spec of the expert's observations, if not in the background's dataset. dagger: the
    expert to query: a run folder, a policy file (.npz, .onnx, .pt2) or module:function; without
    this flag, the included expert of the environment."""
    env_id: str = ""
    """Environment, if the files do not name it: an EnvPool or Gymnasium id, or module:function."""
    env_arg: tuple[str, ...] = ()
    """NAME=VALUE, such as max_episode_steps=200: settings of the environment."""
    iterations: int = 20
    """Iterations of training and playing."""
    episodes: int = 1000
    """Episodes played in each iteration."""
    seeds: Seeds = (0,)
    """Seeds; each trains its own sequence of policies."""
    num_updates: int = 100_000
    """Updates in each iteration."""
    hidden_sizes: Ints = ()
    """Widths of the hidden layers of every network; the algorithm's default without the flag."""
    temperature: float | None = None
    """Temperature of the advantage weights, for algorithms that have one."""
    set: tuple[str, ...] = ()
    """NAME=VALUE, such as learning_rate=0.001: any other field of the algorithm; with dagger, a
    field of bc, which it trains."""
    beta_decay: float = 0.0
    """dagger: share of the steps in which the expert acts: 1 in the first data, this value in the
    next, then its square, and so on."""
    betas: Floats = ()
    """dagger: the shares themselves, such as 1 0.5 0.2 0, instead of --beta-decay."""

    def main(self) -> None:
        """Runs the iterations and prints the path of the figure."""
        from fastifo.report.report import report

        fields = parse_values("--set", self.set, "learning_rate=0.001")
        if self.hidden_sizes:
            fields.setdefault("hidden_sizes", self.hidden_sizes)
        if self.temperature is not None:
            fields["temperature"] = self.temperature
        improve(
            self.algorithm,
            self.expert or (INCLUDED if self.algorithm == DAGGER else self.background),
            self.background or None,
            iterations=self.iterations,
            episodes=self.episodes,
            seeds=self.seeds,
            num_updates=self.num_updates,
            env_id=self.env_id or None,
            env_kwargs=env_kwargs(self.env_arg),
            beta_decay=self.beta_decay,
            betas=self.betas or None,
            out=self.out,
            executor=self.machines.make(self.out / "logs"),
            **fields,
        )
        print(f"figure  {report(self.out)}")
        print(f"page    {self.out / 'report.html'}")
