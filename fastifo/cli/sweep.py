"""`fastifo sweep`."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from fastifo.cli.lists import Ints, Seeds
from fastifo.cli.machines import Machines
from fastifo.cli.options import Device, Engine, Precision, Source, env_kwargs, parse_values
from fastifo.studies.sweep import ARGUMENTS, sweep
from fastifo.utils.text import did_you_mean

TABLES = ("space", "fields", "env_kwargs")  # of a TOML file
DATA = ("dataset", "expert", "background", "env_id")  # its keys that name the data


@dataclass(frozen=True)
class Sweep:
    """Search for the best values of a method's fields, on this machine or on many.

    All members train in populations. At each rung they are evaluated, and the best continue. The
    best setting is retrained with new seeds. Flags take precedence over a TOML file, which has the
    same names (rungs = [1000, 9000]) and the tables [space] and [fields].

    Needs     a dataset whose environment is known; with --proposer tpe the extra optuna, with
              --executor ray or slurm the extra of that name
    Writes    results.csv (a line per member), sweep.json, report.html, the populations in search/
              and the run of the best setting in final/
    Example   fastifo sweep vfo_bin --dataset w.fastifo --space alpha=[0,1] --rungs 500 999 --out s
    Example   fastifo sweep --config sweep.toml --out sweep --executor ray --address auto
    """

    source: tyro.conf.OmitArgPrefixes[Source]
    """The data to learn from."""
    machines: tyro.conf.OmitArgPrefixes[Machines]
    """Where to run."""
    out: Path
    """Folder of the sweep, on a file system that all machines share. Repeat the command to
    resume."""
    algorithm: tyro.conf.Positional[str] = ""
    """The algorithm, such as vfo_bin; unless --config names it."""
    config: Path | None = None
    """TOML file with arguments."""
    space: tuple[str, ...] = ()
    """NAME=VALUES: fields to search over: loguniform(0.05,5), uniform(0,1), integers(2,8), or a
    list such as [0.1,1]."""
    set: tuple[str, ...] = ()
    """NAME=VALUE, such as batch_size=128: any other field of the algorithm."""
    rungs: Ints = ()
    """Increasing numbers of updates after which members are evaluated; the last ends training."""
    num_settings: int | None = None
    """Settings to try; default 16. A grid has as many as its lists give."""
    seeds: Seeds = ()
    """One member per seed for each setting; default 0."""
    preset: str | None = None
    """Published settings to start from; default vfo."""
    proposer: Literal["random", "grid", "tpe"] | None = None
    """Where settings come from; default random."""
    waves: int | None = None
    """Rounds of proposals by tpe; default 4."""
    seed: int | None = None
    """Seed of the proposer and the scheduler; default 0."""
    scheduler: Literal["halving", "pbt", "none"] | None = None
    """At each rung, halving (default) keeps the best settings, pbt replaces the worst members with
    copies of the best, and none continues all."""
    keep: float | None = None
    """Share of the settings that stay, default 1/3; with pbt, that is not replaced, default 0.8."""
    episodes: int | None = None
    """Episodes of each evaluation at a rung; default 20."""
    final_seeds: Seeds | None = None
    """Seeds of the final training of the best setting; default three seeds not in --seeds."""
    final_episodes: int | None = None
    """Episodes of each final policy; default 100."""
    play: Literal["sampled", "mode"] | None = None
    """Actions in evaluations; default sampled."""
    populations: int | None = None
    """Populations at each rung, at least; default the number of workers."""
    log_every: int | None = None
    """Updates between rows of the logs; default 500."""
    checkpoint_every: int | None = None
    """Updates between checkpoints; default 5000."""
    device: Device | None = None
    """Where to train; default auto, the GPU if there is one."""
    precision: Precision | None = None
    """Number format; default auto, fp32 on a CPU and tf32 on a GPU."""
    engine: Engine | None = None
    """Executor of updates; default auto, compiled code on the CPU if supported and faster."""
    env_arg: tuple[str, ...] = ()
    """NAME=VALUE, such as max_episode_steps=200: settings of the environment."""

    def main(self) -> None:
        """Runs the sweep, prints the result and writes the report."""
        from fastifo.report.report import report

        arguments = {} if self.config is None else read_toml(self.config)
        space, fields = arguments.pop("space", {}), arguments.pop("fields", {})
        algorithm = self.algorithm or arguments.pop("algorithm", "")
        arguments.pop("algorithm", None)
        if not algorithm:
            raise ValueError("algorithm: expected a name such as vfo_bin, found none")
        data = Source(**{name: arguments.pop(name) for name in DATA if name in arguments})
        source = self.source if self.source != Source() else data
        arguments |= self.given()
        if "rungs" not in arguments:
            raise ValueError("rungs: expected numbers of updates such as --rungs 1000 3000 9000")
        fields |= parse_values("--set", self.set)
        space |= parse_values("--space", self.space, "temperature=loguniform(0.05,5)")
        if both := sorted(space.keys() & fields.keys()):
            raise ValueError(f"{both[0]}: expected it in the space or with one value, found both")
        executor = self.machines.make(self.out / "search" / "logs") or "auto"
        result = sweep(
            algorithm, source.load(), out=self.out, executor=executor,
            env=source.env_id or None, **arguments, **fields, **space,
        )  # fmt: skip
        print(result)
        if result.final:
            report(self.out)
            print(f"page  {self.out / 'report.html'}")
        print(f"table {self.out / 'results.csv'}")

    def given(self) -> dict[str, Any]:
        """The arguments of `sweep` that flags state."""
        names = [name for name in ARGUMENTS if name in vars(self)]
        given = {name: getattr(self, name) for name in names}
        if self.play is not None:
            given["deterministic"] = self.play == "mode"
        given["env_kwargs"] = env_kwargs(self.env_arg)
        if self.final_seeds is not None:
            given["final_seeds"] = list(self.final_seeds)
        return {name: value for name, value in given.items() if value is not None and value != ()}


def read_toml(path: Path) -> dict[str, Any]:
    """The arguments in a TOML file.  Raises FileNotFoundError; ValueError for an unknown name."""
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected TOML, found something else ({error})") from None
    known = {*ARGUMENTS, *DATA, *TABLES, "algorithm"} - {"executor", "workers", "env", "progress"}
    for name in content:
        if name not in known:
            raise ValueError(f"{path}: no argument {name!r}; {did_you_mean(name, known)}")
    return content
