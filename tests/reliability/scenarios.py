"""Small jobs that write files, for `killpoints.py`: of each, what it needs and the job itself."""

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import envpool.mujoco
import envpool.registration  # noqa: F401
import h5py  # noqa: F401
import torch

import fastifo
from fastifo.benchmarks import demonstrations
from fastifo.benchmarks.sets import build_sets
from fastifo.cli.main import main
from fastifo.studies.grid import study_sibench
from helpers import SMALL, random_dataset
from support import write_expert

torch.set_num_threads(1)
demonstrations.NOISELESS_EPISODES = 1
os.sched_getaffinity = lambda pid: {0}  # jobs in this process, whose changes are counted
QUIET: dict[str, Any] = {"progress": False, **SMALL}
SETS: dict[str, Any] = {"episodes": 2, "bc_updates": 2, "demos": 3}


def prepare_pack(data: Path) -> None:
    random_dataset(env_id="Hopper-v4").save(data / "set.fastifo")


def prepare_expert(data: Path) -> None:
    write_expert(data / "expert.npz")


def train(data: Path, out: Path) -> None:
    fastifo.train(
        "vfo_disc", data / "set.fastifo", num_updates=12, disc_updates=6, seeds=[0, 1],
        hidden_sizes=[(4,), (5,)], out=out / "run", checkpoint_every=5, log_every=3,
        progress=False, batch_size=4, num_bins=11,
    )  # fmt: skip


def relabel(data: Path, out: Path) -> None:
    flags = (
        "--diffusion-updates 4 --hidden-sizes 4 --horizon 4 --unet-width 8 --unet-multipliers 1 2"
    )
    command = ["relabel", "tge", "--dataset", str(data / "set.fastifo")]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        main([*command, "--out", str(out / "new.hdf5"), *flags.split()])


def improve(data: Path, out: Path) -> None:
    source = data / "set.fastifo"
    fastifo.improve(
        "bc", source, source, iterations=2, episodes=2, num_updates=4, out=out / "improve", **QUIET
    )


def study(data: Path, out: Path) -> None:
    options = SETS | {"expert": str(data / "expert.npz")}
    study_sibench(
        out / "study", ("bc",), ("Hopper-v4",), (1,), set_options=options, num_updates=2,
        seeds=(0,), episodes=2, **QUIET,
    )  # fmt: skip


def sibench(data: Path, out: Path) -> None:
    expert = str(data / "expert.npz")
    build_sets("Hopper-v4", out / "sets", (1, 2), expert=expert, progress=False, **SETS)


SCENARIOS: dict[str, tuple[Callable[[Path], None], Callable[[Path, Path], None]]] = {
    "train": (prepare_pack, train),
    "relabel": (prepare_pack, relabel),
    "improve": (prepare_pack, improve),
    "study": (prepare_expert, study),
    "sibench": (prepare_expert, sibench),
}
