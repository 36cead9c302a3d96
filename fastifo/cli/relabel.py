"""`fastifo relabel`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from fastifo.cli.methods import REWARD_METHODS, RewardMethod
from fastifo.cli.options import Device, Precision, Source
from fastifo.engine.train import relabel
from fastifo.utils.files import check_writable


@dataclass(frozen=True)
class Relabel:
    """Write a copy of a dataset with a method's rewards, for any offline RL program.

    Needs     a dataset: --dataset, or --expert and --background
    Writes    the dataset --out, and the method's model and embeddings to --folder
    Presets   published settings for --preset; fastifo relabel ALGORITHM --help lists them
    Example   fastifo relabel tge --dataset sibench:Hopper-v4/d=5 --out hopper-tge.hdf5
    """

    method: RewardMethod
    """The method that computes the rewards."""
    source: tyro.conf.OmitArgPrefixes[Source]
    """The data to relabel."""
    out: Path
    """File to write: a name that ends in .hdf5 gives D4RL's layout, any other fastifo's own."""
    folder: Path | None = None
    """Folder of the method's model and embeddings, so that repeating the command resumes. It may
    be the folder of a finished run with one seed and the same flags; its model is then used.
    Default: OUT.model."""
    seed: int = 0
    """Seed of the model."""
    preset: str = "vfo"
    """Published settings of the method; vfo is its defaults. Flags take precedence."""
    device: Device = "auto"
    """Where to train the model; auto is the GPU if there is one."""
    precision: Precision = "auto"
    """Number format; auto is fp32 on a CPU and tf32 on a GPU."""

    commands: ClassVar = REWARD_METHODS  # subcommands, for the help

    def main(self) -> None:
        """Computes the rewards and writes the dataset.

        Raises OSError or ValueError before any work where `out` cannot be written.
        """
        if self.out.exists() and self.out.resolve() in self.source.files():
            raise ValueError(f"{self.out}: the data come from this file; name another one")
        check_writable(self.out)
        dataset = relabel(
            self.method.algorithm,
            self.source.load,
            seed=self.seed,
            preset=self.preset,
            device=self.device,
            precision=self.precision,
            out=self.folder or self.out.with_name(f"{self.out.name}.model"),
            **self.method.overrides(),
        )
        save = dataset.save_d4rl if self.out.suffix in (".hdf5", ".h5") else dataset.save
        save(self.out)
        print(dataset.summary())
        print(f"dataset  {self.out}")
