"""The command line: fastifo quickstart | train | relabel | evaluate | data | sibench | study |
improve | report.
"""

import dataclasses
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_type_hints

import tyro

from fastifo.algos import ALGORITHMS, BACKBONES
from fastifo.algos.config import field_help
from fastifo.algos.learner import Learner
from fastifo.cli.data import Data, Source
from fastifo.cli.sibench import SIBench
from fastifo.cli.study import Improve, Study


@dataclass(frozen=True)
class Quickstart:
    """Make a small dataset, train BC, VfO-bin, VfO-disc and the AWR oracle, compare them.

    Takes minutes on a CPU. Writes run folders and report.png below --out and prints a table.
    """

    env: str = "Walker2d-v4"
    """EnvPool task with a shipped expert: Hopper-v4, HalfCheetah-v4, Walker2d-v4, Ant-v4."""
    out: Path = Path("quickstart")
    """Folder for the runs; running again continues what it holds."""
    num_updates: int = 5_000
    """Training length of each method; the paper's is 1,000,000."""
    seeds: tuple[int, ...] = (0,)
    """One policy per seed and method."""
    hidden: int = 256
    """Width of the two hidden layers; the paper's is 512."""
    episodes: int = 100
    """Evaluation episodes per policy."""

    def main(self) -> None:
        from fastifo.cli.quickstart import quickstart

        path = quickstart(
            self.env,
            self.out / self.env,
            self.num_updates,
            self.seeds,
            self.hidden,
            self.episodes,
        )
        print(f"figure  {path}")


BACKBONE_NAMES = {"iql": "IQL", "rebrac": "ReBRAC"}
PLAYS = {"sampled": (False,), "mode": (True,), "both": (False, True)}  # deterministic or not


def _flags(learner: type[Learner], backbone: str) -> Any:
    """A dataclass of the algorithm's fields; numbers and names take several values, a sweep."""
    help_texts = field_help(learner.Config)
    hints: dict[str, Any] = get_type_hints(learner.Config)
    fields: list[Any] = []
    for field in dataclasses.fields(learner.Config):
        if field.name == "backbone":
            continue
        kind = hints[field.name]
        sweeps = kind in (float, int, str)
        hint = types.GenericAlias(tuple, (kind, ...)) if sweeps else kind
        annotated: Any = Annotated[hint, tyro.conf.arg(help=help_texts[field.name])]
        default = (field.default,) if sweeps else field.default
        fields.append((field.name, annotated, dataclasses.field(default=default)))
    summary = (sys.modules[learner.__module__].__doc__ or "").strip().partition("\n")[0]
    if backbone:
        summary = f"{summary} {BACKBONE_NAMES[backbone]} learns from them."
    namespace = {
        "algorithm": learner.name,
        "__doc__": summary,
        "overrides": lambda flags: _overrides(flags, learner, backbone),
    }
    return dataclasses.make_dataclass(learner.name, fields, frozen=True, namespace=namespace)


def _overrides(flags: Any, learner: type[Learner], backbone: str) -> dict[str, Any]:
    """The fields that differ from their defaults, as `fastifo.train` takes them."""
    defaults, hints = type(flags)(), get_type_hints(learner.Config)
    found: dict[str, Any] = {"backbone": backbone} if backbone else {}
    for name, value in vars(flags).items():
        if value != getattr(defaults, name):
            found[name] = list(value) if hints[name] in (float, int, str) else value
    return found


def _all_flags() -> dict[str, Any]:
    """By name of the subcommand: an algorithm's, and one for each further backbone of it."""
    found = {}
    for name, learner in ALGORITHMS.items():
        first, *others = BACKBONES.get(name, {"": learner}).items()
        found[name] = _flags(first[1], first[0])
        found |= {f"{name}-{backbone}": _flags(own, backbone) for backbone, own in others}
    return found


_FLAGS = _all_flags()

if TYPE_CHECKING:
    _Method = Any
else:
    _Method = Union[  # noqa: UP007  built from the registry
        tuple(Annotated[flags, tyro.conf.subcommand(name)] for name, flags in _FLAGS.items())
    ]


@dataclass(frozen=True)
class Train:
    """Train an algorithm; every field takes several values for a sweep (--temperature 0.1 1)."""

    method: _Method
    """The algorithm."""
    source: tyro.conf.OmitArgPrefixes[Source]
    """What to learn from."""
    out: Path
    """Run folder; running again continues it."""
    num_updates: int = 100_000
    """Training length; the paper's is 1,000,000."""
    seeds: tuple[int, ...] = (0,)
    """One policy per seed (and per value of every swept field)."""
    preset: str = "vfo"
    """Published settings: vfo is the study's, orig the authors' code, see fastifo/recipes.py."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    precision: Literal["auto", "fp32", "fp32x", "tf32", "bf16", "fp64"] = "auto"
    """auto is fp32 on a CPU, tf32 on a GPU."""
    engine: Literal["auto", "torch", "native"] = "auto"
    """native trains whole updates in compiled code on the CPU; auto takes it where it can."""
    eval_every: int = 0
    """Updates between evaluations while training; 0 is never."""
    eval_episodes: int = 20
    """Episodes per policy in each of those."""
    episodes: int = 100
    """Episodes per policy at the end; 0 leaves it out."""
    play: Literal["sampled", "mode", "both"] = "sampled"
    """Of those: the policy as it is, its mode (IQL's authors report it), or both."""

    def main(self) -> None:
        from fastifo.engine.callbacks import EvaluateEvery
        from fastifo.engine.train import train

        callbacks = []
        if self.eval_every:
            callbacks += [
                EvaluateEvery(self.eval_every, self.eval_episodes, mode)
                for mode in PLAYS[self.play]
            ]
        run = train(
            self.method.algorithm,
            self.source.load,
            num_updates=self.num_updates,
            seeds=self.seeds,
            preset=self.preset,
            device=self.device,
            precision=self.precision,
            engine=self.engine,
            out=self.out,
            callbacks=callbacks,
            **self.method.overrides(),
        )
        if self.episodes and run.env_id is not None:
            for mode in PLAYS[self.play]:
                print(run.evaluate(self.episodes, mode))
        print(f"run  {self.out}")


if TYPE_CHECKING:
    _Maker = Any
else:
    _Maker = Union[  # noqa: UP007  built from the registry
        tuple(
            Annotated[flags, tyro.conf.subcommand(name)]
            for name, flags in _FLAGS.items()
            if flags.algorithm in BACKBONES
        )
    ]


@dataclass(frozen=True)
class Relabel:
    """Write a dataset with the rewards of a method, for any offline RL program."""

    method: _Maker
    """What makes the rewards."""
    source: tyro.conf.OmitArgPrefixes[Source]
    """What to learn from."""
    out: Path
    """Where to write: .hdf5 in D4RL's layout, else one file of fastifo's."""
    folder: Path | None = None
    """Keeps the method's model and embeddings, so that running again continues; or the folder of a
    run of one seed whose rewards are wanted, with that run's flags. Beside --out, with .model
    behind its name, unless named."""
    seed: int = 0
    """Of the model."""
    preset: str = "vfo"
    """Published settings, see fastifo/recipes.py."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train it."""
    precision: Literal["auto", "fp32", "fp32x", "tf32", "bf16", "fp64"] = "auto"
    """auto is fp32 on a CPU, tf32 on a GPU."""

    def main(self) -> None:
        from fastifo.engine.train import relabel

        if self.out.is_dir():
            raise ValueError(f"{self.out}: expected a file to write, found a folder")
        if self.out.exists() and self.out.resolve() in self.source.files():
            raise ValueError(f"{self.out}: is what the data come from; name another file")
        self.out.parent.mkdir(parents=True, exist_ok=True)  # rather than fail when all is made
        found = relabel(
            self.method.algorithm,
            self.source.load,
            seed=self.seed,
            preset=self.preset,
            device=self.device,
            precision=self.precision,
            out=self.folder or self.out.with_name(f"{self.out.name}.model"),
            **self.method.overrides(),
        )
        (found.save_d4rl if self.out.suffix in (".hdf5", ".h5") else found.save)(self.out)
        print(found.summary())
        print(f"dataset  {self.out}")


@dataclass(frozen=True)
class Evaluate:
    """Play episodes with every policy of a run and keep the returns in its folder."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    episodes: int = 100
    """Episodes per policy."""
    play: Literal["sampled", "mode", "both"] = "sampled"
    """The policy as it is, its mode, or both side by side."""
    protocol: Literal["final", "last_tenth"] = "final"
    """Play the final weights, or average what --eval-every found in the last tenth of training."""
    seed: int = 0
    """Start states; the same for every policy."""

    def main(self) -> None:
        from fastifo.engine.run import open_run

        run = open_run(self.run)
        found = [
            run.evaluate(self.episodes, mode, protocol=self.protocol, seed=self.seed)
            for mode in PLAYS[self.play]
        ]
        for returns in found:
            print(returns)
            if (clock := returns.clock).whole:
                print(
                    f"  took {clock.whole:.1f} s: {clock.policy:.1f} s of policies acting while "
                    f"environments step, {clock.environment:.1f} s of waiting for environments"
                )
        for member, means in enumerate(zip(*(x.per_member for x in found), strict=True)):
            print(f"  {run.describe(member)}: " + "  ".join(f"{mean:.1f}" for mean in means))


@dataclass(frozen=True)
class Report:
    """Tables, the study's figures and one HTML page from the run folders below a folder."""

    folder: tyro.conf.Positional[Path]
    """Where the runs are."""
    figure: Path | None = None
    """The PNG of runs on one dataset; report.png in the folder unless named."""

    def main(self) -> None:
        from fastifo.report.report import report

        print(f"figure  {report(self.folder, self.figure)}")
        print(f"page    {self.folder / 'report.html'}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point.  User errors end with one line and exit status 2."""
    command = tyro.cli(
        Union[  # noqa: UP007
            Annotated[Quickstart, tyro.conf.subcommand("quickstart")],
            Annotated[Train, tyro.conf.subcommand("train")],
            Annotated[Relabel, tyro.conf.subcommand("relabel")],
            Annotated[Evaluate, tyro.conf.subcommand("evaluate")],
            Annotated[Data, tyro.conf.subcommand("data")],
            Annotated[SIBench, tyro.conf.subcommand("sibench")],
            Annotated[Study, tyro.conf.subcommand("study")],
            Annotated[Improve, tyro.conf.subcommand("improve")],
            Annotated[Report, tyro.conf.subcommand("report")],
        ],
        prog="fastifo",
        description="Imitation from observation: expert episodes without actions, background "
        "data with them, a policy out. Start with: fastifo quickstart",
        args=arguments,
        config=(
            tyro.conf.CascadeSubcommandArgs,
            tyro.conf.OmitArgPrefixes,
            tyro.conf.OmitSubcommandPrefixes,
        ),
    )
    try:
        command.main()
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        print(f"fastifo: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as error:
        print(f"fastifo: {error or 'stopped'}; run the same command to continue", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
