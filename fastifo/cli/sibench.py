"""`fastifo sibench build | show`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union

import tyro

from fastifo.benchmarks.sibench import SIZES


@dataclass(frozen=True)
class Build:
    """Clone ever more demonstrations and play each clone: one background set per number."""

    env: str
    """EnvPool task; Hopper-v4, HalfCheetah-v4, Walker2d-v4 and Ant-v4 have a shipped expert."""
    out: Path = Path("sibench")
    """The sets lie in OUT/<env>; running again continues."""
    sizes: str = ",".join(map(str, SIZES))
    """Demonstrations cloned, one set each."""
    episodes: int = 1000
    """Of every background."""
    demos: int = 0
    """Expert episodes played and shown; 0 is the largest size."""
    expert: str = ""
    """A policy file instead of the shipped expert."""
    demonstrations: str = ""
    """A dataset (d4rl:..., minari:..., a file) whose episodes are the demonstrations instead."""
    noise: float = 0.5
    """Of the demonstrations, times the expert's own exploration noise."""
    bc_updates: int = 10_000
    """Training length of every clone."""
    seed: int = 0
    """Of everything."""

    def main(self) -> None:
        from fastifo.benchmarks.sibench import build_sets

        try:
            sizes = [int(size) for size in self.sizes.split(",")]
        except ValueError:
            raise ValueError(
                f"sizes: expected numbers such as 1,10,100, found {self.sizes!r}"
            ) from None
        options: dict[str, Any] = {} if self.demos == 0 else {"demos": self.demos}
        paths = build_sets(
            self.env,
            self.out / self.env,
            sizes,
            demonstrations=self.demonstrations,
            episodes=self.episodes,
            expert=self.expert,
            noise=self.noise,
            bc_updates=self.bc_updates,
            seed=self.seed,
            **options,
        )
        show(paths)


@dataclass(frozen=True)
class Show:
    """List the sets below a folder."""

    folder: tyro.conf.Positional[Path]
    """Where they are."""

    def main(self) -> None:
        show(self.folder.rglob("d=*.fastifo"))


def show(paths: Iterable[Path]) -> None:
    """One line per set: what was cloned, and what came of it."""
    from fastifo.data.pack import read_header

    found = [(path, read_header(path)["info"]) for path in paths]
    if not found:
        raise ValueError("no sets here; make some with: fastifo sibench build --env HalfCheetah-v4")
    for path, info in sorted(found, key=lambda x: (str(x[0].parent), x[1]["spec"]["d"])):
        print(
            f"{path}  d {info['spec']['d']}, seed {info['spec']['seed']}, "
            f"return {info['background_return_mean']:.1f} ± {info['background_return_std']:.1f}, "
            f"length {info['background_length_mean']:.0f}"
        )


@dataclass(frozen=True)
class SIBench:
    """The study's background sets."""

    action: Union[  # noqa: UP007
        Annotated[Build, tyro.conf.subcommand("build")],
        Annotated[Show, tyro.conf.subcommand("show")],
    ]
    """What to do."""

    def main(self) -> None:
        self.action.main()
