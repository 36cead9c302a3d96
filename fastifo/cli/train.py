"""`fastifo train`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from fastifo.cli.lists import Seeds, Texts
from fastifo.cli.methods import METHODS, Method
from fastifo.cli.options import (
    DETERMINISTIC,
    Device,
    Engine,
    Play,
    Precision,
    Source,
    env_kwargs,
)
from fastifo.engine.callbacks import Callback, EvaluateEvery
from fastifo.engine.log import Log
from fastifo.engine.train import NO_EVALUATION, train


@dataclass(frozen=True)
class Train:
    """Train an algorithm on a dataset and evaluate its policies.

    An algorithm's flags take several values for a sweep: --temperature 0.1 1 --seeds 0 1 trains
    four policies together.

    Needs     a dataset: --dataset, or --expert and --background
    Writes    the run folder --out: config.json, metrics.jsonl, checkpoint/, returns*.npz
    Presets   published settings for --preset; fastifo train ALGORITHM --help lists them
    Example   fastifo train vfo_bin --dataset sibench:Hopper-v4/d=5 --out runs/vfo_bin
    """

    method: Method
    """The algorithm."""
    source: tyro.conf.OmitArgPrefixes[Source]
    """The data to learn from."""
    out: Path
    """Run folder. Repeat the command to resume the run."""
    num_updates: int = 100_000
    """Number of updates; the paper trains for 1,000,000."""
    seeds: Seeds = (0,)
    """One policy per seed, and per value of every swept field."""
    preset: str = "vfo"
    """Published settings of the algorithm; vfo is its defaults. Flags take precedence."""
    device: Device = "auto"
    """Where to train; auto is the GPU if there is one."""
    precision: Precision = "auto"
    """Number format; auto is fp32 on a CPU and tf32 on a GPU."""
    engine: Engine = "auto"
    """native runs complete updates in compiled code on the CPU; auto uses it if supported and
    faster."""
    eval_every: int = 0
    """Updates between evaluations during training; 0 turns them off."""
    eval_episodes: int = 20
    """Episodes per policy in each evaluation during training."""
    episodes: int = 100
    """Episodes per policy in the final evaluation; 0 skips it."""
    env_arg: tuple[str, ...] = ()
    """NAME=VALUE, such as max_episode_steps=200: settings of the environment."""
    play: Play = "both"
    """Actions in evaluations: sampled, the policy's mode (as IQL's authors report), or both."""
    log: Texts = ()
    """Trackers to send metrics to: tensorboard, wandb (offline, for `wandb sync`), trackio."""

    commands: ClassVar = METHODS  # subcommands, for the help

    def main(self) -> None:
        """Trains, evaluates, and prints the returns."""
        callbacks: list[Callback] = [Log(name) for name in self.log]
        if self.eval_every:
            callbacks += [
                EvaluateEvery(self.eval_every, self.eval_episodes, deterministic)
                for deterministic in DETERMINISTIC[self.play]
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
            env=self.source.env_id or None,
            env_kwargs=env_kwargs(self.env_arg),
            **self.method.overrides(),
        )
        if self.episodes and run.env_id is None:
            print(NO_EVALUATION)
        elif self.episodes:
            for deterministic in DETERMINISTIC[self.play]:
                print(run.evaluate(self.episodes, deterministic))
        print(f"run  {self.out}")
