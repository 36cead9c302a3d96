"""`fastifo data inspect | convert | verify | split`."""

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Union

import tyro

from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes

_SPEC = "A file, or a spec such as sibench:Hopper-v4/d=5 or d4rl:hopper-medium-v2."


@dataclass(frozen=True)
class Source:
    """What to read: one dataset, or an expert's and a background's."""

    dataset: str = ""
    """A file, or a spec such as sibench:Hopper-v4/d=5 or d4rl:hopper_medium-v2.hdf5."""
    expert: str = ""
    """Where the expert's observations come from; instead of --dataset."""
    background: str = ""
    """Where the background with its actions comes from; instead of --dataset."""
    env_id: str = ""
    """EnvPool's task, where the files do not say it."""

    def files(self) -> set[Path]:
        """Those among what is named, a spec's without its kind and options."""
        named = [text for text in (self.dataset, self.expert, self.background) if text]
        named += [text.partition(":")[2].partition(",")[0] for text in named if ":" in text]
        return {Path(text).resolve() for text in named if Path(text).is_file()}

    def load(self) -> Dataset:
        from fastifo.data.load import load

        if not self.dataset and not self.background:
            raise ValueError("dataset: expected --dataset, or --expert and --background")
        return load(
            self.dataset or None,
            expert=self.expert or None,
            background=self.background or None,
            env_id=self.env_id or None,
        )


@dataclass(frozen=True)
class Inspect:
    """Describe a dataset: sizes, lengths, returns, what was dropped when it was read."""

    dataset: Annotated[tyro.conf.Positional[str], tyro.conf.arg(help=_SPEC)]

    def main(self) -> None:
        from fastifo.data.load import load

        print(load(self.dataset).summary())


@dataclass(frozen=True)
class Convert(Source):
    """Write a dataset as one file of fastifo's, which is mapped into memory when it is read."""

    out: Path = Path("dataset.fastifo")
    """Where to write it."""

    def main(self) -> None:
        dataset = self.load()
        print(dataset.summary())
        dataset.save(self.out)
        print(f"written  {self.out}")


@dataclass(frozen=True)
class Verify:
    """Read every byte of a file of fastifo's and compare its checksums."""

    file: tyro.conf.Positional[Path]
    """The file."""

    def main(self) -> None:
        from fastifo.data.pack import verify

        print(f"sound  {self.file}  {verify(self.file)} bytes")


@dataclass(frozen=True)
class Split:
    """Share a dataset's background episodes out over several files, the expert in each."""

    dataset: Annotated[tyro.conf.Positional[str], tyro.conf.arg(help=_SPEC)]
    out: Path
    """The first part of the files' names: OUT-0.fastifo, OUT-1.fastifo, ..."""
    shares: tuple[float, ...] = (0.9, 0.1)
    """What each file gets, with sum 1."""
    seed: int = 0
    """Of the shuffle."""

    def main(self) -> None:
        from fastifo.data.load import load

        for path, part in split(load(self.dataset), self.out, self.shares, self.seed):
            part.save(path)
            print(f"written  {path}  {part.background.num_episodes} episodes")


def split(
    dataset: Dataset, out: Path, shares: tuple[float, ...], seed: int
) -> list[tuple[Path, Dataset]]:
    """Each background episode in one part, drawn by the seed.  Raises ValueError."""
    import torch

    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares: expected numbers above 0 with sum 1, found {shares}")
    background = dataset.background
    order = torch.randperm(
        background.num_episodes, generator=torch.Generator().manual_seed(seed)
    ).tolist()
    edges = [round(sum(shares[:i]) * len(order)) for i in range(len(shares) + 1)]
    parts: list[tuple[Path, Dataset]] = []
    for i, (first, last) in enumerate(itertools.pairwise(edges)):
        if first == last:
            raise ValueError(f"shares: {shares[i]} of {len(order)} episodes is none")
        own: Episodes = background.take(sorted(order[first:last]))
        info = {"split": {"share": shares[i], "seed": seed}, "of": dict(dataset.info)}
        path = out.with_name(f"{out.name}-{i}.fastifo")
        parts.append((path, dataclasses.replace(dataset, background=own, info=info)))
    return parts


@dataclass(frozen=True)
class Data:
    """Read, describe, convert, check and split datasets."""

    action: Union[  # noqa: UP007
        Annotated[Inspect, tyro.conf.subcommand("inspect")],
        Annotated[Convert, tyro.conf.subcommand("convert")],
        Annotated[Verify, tyro.conf.subcommand("verify")],
        Annotated[Split, tyro.conf.subcommand("split")],
    ]
    """What to do."""

    def main(self) -> None:
        self.action.main()
