"""`fastifo export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from fastifo.cli.options import choose_member
from fastifo.engine.reopen import open_run


@dataclass(frozen=True)
class Export:
    """Write a policy to a file that runs without fastifo: ONNX, or a program of torch.export.

    Needs     a run folder of `fastifo train`; for ONNX also pip install 'fastifo[onnx]'
    Writes    the file of --out, after its actions have been compared with the policy's
    Example   fastifo export runs/vfo_bin --out policy.onnx
    Example   fastifo export runs/vfo_bin --member best --play sampled --out policy.pt2
    """

    run: tyro.conf.Positional[Path]
    """Run folder."""
    out: Path
    """The file; its name ends in .onnx or .pt2."""
    member: str = "0"
    """Which policy: its number, or best, the one with the highest return in `fastifo evaluate`."""
    play: Literal["mode", "sampled"] = "mode"
    """Actions: the policy's mode, or samples, which are a function of random numbers that the
    caller passes."""

    def main(self) -> None:
        """Prints which policy was exported, the file's inputs, and how its actions compare."""
        run = open_run(self.run)
        member = choose_member(run, self.member)
        print(run.policy(member).export(self.out, deterministic=self.play == "mode"))
