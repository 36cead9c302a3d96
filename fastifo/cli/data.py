"""`fastifo data inspect | convert | verify | split`."""

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from fastifo.cli.help import make_group
from fastifo.cli.lists import Floats
from fastifo.cli.options import SPEC_HELP, Source
from fastifo.data.dataset import Dataset
from fastifo.data.load import load
from fastifo.data.pack import verify
from fastifo.utils.files import check_writable


@dataclass(frozen=True)
class Inspect:
    """Print a dataset's sizes, episode lengths and returns, and what its reader dropped.

    Example   fastifo data inspect d4rl:hopper-medium-v2
    """

    dataset: Annotated[tyro.conf.Positional[str], tyro.conf.arg(help=SPEC_HELP)]

    def main(self) -> None:
        """Prints the summary."""
        print(load(self.dataset).summary())


@dataclass(frozen=True)
class Convert(Source):
    """Write a dataset in fastifo's own file format, which is memory-mapped when loaded.

    Needs     a dataset: --dataset, or --expert and --background
    Writes    the file --out
    Example   fastifo data convert --dataset d4rl:hopper-medium-v2 --out hopper.fastifo
    """

    out: Path = Path("dataset.fastifo")
    """File to write."""

    def main(self) -> None:
        """Prints the summary and writes the file."""
        check_writable(self.out)
        dataset = self.load()
        print(dataset.summary())
        dataset.save(self.out)
        print(f"written  {self.out}")


@dataclass(frozen=True)
class Verify:
    """Compare every byte of a fastifo dataset file with the checksums in it.

    Example   fastifo data verify hopper.fastifo
    """

    file: tyro.conf.Positional[Path]
    """A file of fastifo's own format."""

    def main(self) -> None:
        """Prints the number of bytes compared.  Raises ValueError for a damaged file."""
        print(f"intact  {self.file}  {verify(self.file)} bytes")


@dataclass(frozen=True)
class Split:
    """Split a dataset's background episodes at random into several files.

    Needs     a dataset
    Writes    OUT-0.fastifo, OUT-1.fastifo, ...; each contains all of the expert's episodes
    Example   fastifo data split hopper.fastifo --out hopper --shares 0.9 0.1
    """

    dataset: Annotated[tyro.conf.Positional[str], tyro.conf.arg(help=SPEC_HELP)]
    out: Path
    """Common start of the files' names."""
    shares: Floats = (0.9, 0.1)
    """Fraction of the background episodes in each file; they sum to 1."""
    seed: int = 0
    """Seed of the shuffle."""

    def main(self) -> None:
        """Writes the files and prints how many episodes each has."""
        for path, part in split(load(self.dataset), self.out, self.shares, self.seed):
            part.save(path)
            print(f"written  {path}  {part.background.num_episodes} episodes")


def split(
    dataset: Dataset, out: Path, shares: tuple[float, ...], seed: int
) -> list[tuple[Path, Dataset]]:
    """The parts of a dataset with their files; each background episode is in exactly one part.

    Raises ValueError if the shares do not sum to 1 or a part would be empty.
    """
    if not shares or not min(shares) > 0 or not abs(sum(shares) - 1) <= 1e-6:
        raise ValueError(f"shares: expected numbers above 0 with sum 1, found {shares}")
    background = dataset.background
    generator = torch.Generator("cpu").manual_seed(seed)
    order = torch.randperm(background.num_episodes, generator=generator, device="cpu").tolist()
    edges = [round(sum(shares[:i]) * len(order)) for i in range(len(shares) + 1)]
    parts: list[tuple[Path, Dataset]] = []
    for i, (first, last) in enumerate(itertools.pairwise(edges)):
        if first == last:
            raise ValueError(
                f"shares: expected at least one episode per part, found {shares[i]} of {len(order)}"
            )
        episodes = background.take(sorted(order[first:last]))
        info = {"split": {"share": shares[i], "seed": seed}, "of": dict(dataset.info)}
        path = out.with_name(f"{out.name}-{i}.fastifo")
        parts.append((path, dataclasses.replace(dataset, background=episodes, info=info)))
    return parts


Data = make_group(
    "Data",
    "Inspect, convert, verify and split datasets.",
    {"inspect": Inspect, "convert": Convert, "verify": Verify, "split": Split},
)
