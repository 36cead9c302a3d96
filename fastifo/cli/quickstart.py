"""`fastifo quickstart`: a small dataset, four methods, one table, one figure."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastifo.algos import ALGORITHMS
from fastifo.cli.lists import Ints, Seeds
from fastifo.data.load import load
from fastifo.engine.callbacks import EvaluateEvery
from fastifo.engine.train import train
from fastifo.envs.experts import load_expert
from fastifo.envs.registry import check_id
from fastifo.utils.parallel import run_jobs

FLAGS = ("num_updates", "seeds", "hidden_sizes", "episodes")  # that replace a setting's values
METHODS = ("bc", "vfo_bin", "vfo_disc", "awr")


@dataclass(frozen=True)
class Setting:
    """A dataset and the training on it that suit a task."""

    spec: str  # of the dataset, without its seed
    num_updates: int
    seeds: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    episodes: int  # of the evaluation, per policy
    preset: str = "vfo"  # of every method
    fields: Mapping[str, Any] = field(default_factory=dict)  # override it; those a method has


BUTTON = Setting(  # on success the episode is cut, and values are bootstrapped beyond it
    "bimodal:metaworld/CoffeeButton/expert=60,total=300,demos=100,noise=0.3,object_error=0.1,"
    "env.max_episode_steps=80,env.success_terminal=false",
    num_updates=2_000,
    seeds=(0, 1, 2),
    hidden_sizes=(64, 64),
    episodes=50,
    preset="robomimic",
    # Training is short: larger steps, and values that reach as far in fewer updates.
    fields={"learning_rate": 1e-3, "target_period": 50, "temperature": 0.3},
)
SETTINGS = {"metaworld/CoffeeButton": BUTTON}


def setting_of(env_id: str) -> Setting:
    """The setting for a task; for those that `SETTINGS` lacks, a clone plays the background."""
    spec = f"sibench:{env_id}/d=50,episodes=200,demos=50,bc_updates=3000"
    return SETTINGS.get(env_id, Setting(spec, 5_000, (0,), (256, 256), 100))


@dataclass(frozen=True)
class Quickstart:
    """Compare BC, VfO-bin, VfO-disc and the AWR oracle on a small dataset, in minutes on a CPU.

    By default, a robot arm presses a button (Meta-World). In 60 of the background's 300 episodes, a
    scripted expert presses it; in the others, the script misjudges where the button is.

    Needs     nothing: the data come from an expert included in fastifo
    Writes    the dataset, a run folder per method, report.html and report.png in OUT/ENV
    Example   fastifo quickstart
    """

    env_id: str = "metaworld/CoffeeButton"
    """Task: metaworld/CoffeeButton, or one with a background played by a clone: Hopper-v4,
    HalfCheetah-v4, Walker2d-v4 or Ant-v4."""
    out: Path = Path("quickstart")
    """Folder of the results. Repeat the command to resume."""
    data_seed: int = 0
    """Seed of the dataset, 0 to 99; other seeds have other start states and action noise."""
    num_updates: int = 0
    """Updates of each method; 0: 2,000, or 5,000 with a clone. The paper: 1,000,000."""
    seeds: Seeds = ()
    """One policy per seed and method; without the flag 0 1 2, or 0 with a clone."""
    hidden_sizes: Ints = ()
    """Widths of the hidden layers; without the flag 64 64, or 256 256 with a clone. The paper:
    1024 1024 for manipulation, 512 512 for locomotion."""
    episodes: int = 0
    """Evaluation episodes per policy; 0: 50, or 100 with a clone."""

    def main(self) -> None:
        """Runs the comparison; prints where its figure and page are, and what to do next."""
        folder = self.out / self.env_id
        flags = {name: getattr(self, name) for name in FLAGS}
        given = {name: value for name, value in flags.items() if value}
        setting = dataclasses.replace(setting_of(self.env_id), **given)
        path = quickstart(self.env_id, folder, setting, self.data_seed)
        print(f"figure  {path}")
        print(f"page    {folder / 'report.html'}  (open it in a browser)")
        print("next    train longer, then compare again; all flags: fastifo train vfo_bin --help")
        print(
            f"        fastifo train vfo_bin --dataset {folder / 'dataset.fastifo'} --out "
            f"{folder / 'longer'}"
        )
        print(f"        fastifo report {folder}")


@dataclass(frozen=True)
class Job:
    """Training and evaluation of one method."""

    algorithm: str  # name of the method
    dataset: Path  # file of the dataset
    out: Path  # run folder
    setting: Setting

    def run(self) -> None:
        """Trains, then evaluates sampled actions and the mode."""
        setting = self.setting
        known = {field.name for field in dataclasses.fields(ALGORITHMS[self.algorithm].Config)}
        fields: dict[str, Any] = {n: value for n, value in setting.fields.items() if n in known}
        fields["hidden_sizes"] = setting.hidden_sizes
        if self.algorithm == "vfo_disc":
            fields["disc_updates"] = 1000
        run = train(
            self.algorithm,
            self.dataset,
            num_updates=setting.num_updates,
            seeds=setting.seeds,
            preset=setting.preset,
            out=self.out,
            callbacks=[EvaluateEvery(max(1, setting.num_updates // 4), num_episodes=10)],
            **fields,
        )
        run.evaluate(setting.episodes)
        run.evaluate(setting.episodes, deterministic=True)


def quickstart(env_id: str, out: Path, setting: Setting, data_seed: int) -> Path:
    """Builds the dataset, trains and evaluates every method, and writes the report.

    setting: what `setting_of` returns, or a changed copy.  The other arguments are the fields of
    `Quickstart`.  Returns the path of the figure.
    Raises ValueError for an unknown task or one without an included expert.
    """
    from fastifo.report.report import report

    check_id(env_id)
    load_expert(env_id)
    spec = f"{setting.spec},seed={data_seed}"
    print(f"dataset  {spec}", flush=True)
    dataset = load(spec)
    print(dataset.summary(), flush=True)
    file = out / "dataset.fastifo"
    dataset.save(file)
    run_jobs([Job(name, file, out / name, setting) for name in METHODS])
    return report(out)
