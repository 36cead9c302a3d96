"""`fastifo log`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from fastifo.engine.log import Log as Tracker
from fastifo.engine.log import send_run
from fastifo.engine.reopen import open_run


@dataclass(frozen=True)
class Log:
    """Send what a run logged to TensorBoard, Weights & Biases or Trackio.

    Needs     a run folder of `fastifo train`, and the package: pip install 'fastifo[tensorboard]'
    Writes    TensorBoard's files to RUN/tensorboard, those of wandb to RUN/wandb
    Example   fastifo log runs/vfo_bin --to tensorboard
    Example   fastifo log runs/vfo_bin --to wandb --project imitation --online
    """

    run: tyro.conf.Positional[Path]
    """Run folder."""
    to: Literal["tensorboard", "wandb", "trackio"]
    """The tracker."""
    project: str = "fastifo"
    """Project in wandb and trackio."""
    name: str = ""
    """Name of the run there. Default: the run folder's."""
    folder: Path | None = None
    """Folder of TensorBoard's files."""
    online: bool = False
    """Let wandb upload; otherwise it writes files for `wandb sync`."""

    def main(self) -> None:
        """Prints how many rows were sent."""
        tracker = Tracker(self.to, self.project, self.name or None, self.folder, self.online)
        count = send_run(open_run(self.run), tracker)
        print(f"{self.to}  {count:,} rows sent")
