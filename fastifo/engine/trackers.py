"""Where a run's metrics can be sent: TensorBoard, Weights & Biases and Trackio."""

import hashlib
import importlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fastifo.engine.metrics import RESERVED
from fastifo.engine.run import Run

Row = Mapping[str, Any]  # of metrics.jsonl
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}  # by extra


class Sink(Protocol):
    """Where rows are sent.  Its methods are called in the tracker's thread and may raise."""

    restarts: bool  # whether it is sent all rows of a resumed run again

    def write(self, rows: Sequence[Row]) -> None:
        """Sends rows."""

    def close(self) -> None:
        """Sends what is left."""


class TensorBoard:
    """Event files, one folder for each member of several; they replace those of earlier times."""

    restarts = True

    def __init__(self, run: Run, folder: Path) -> None:
        """folder: of the event files, made where it is missing."""
        events = importlib.import_module("tensorboard.compat.proto.event_pb2")
        summaries = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        records = importlib.import_module("tensorboard.summary.writer.record_writer")
        self.event, self.summary = events.Event, summaries.Summary
        self.writer = records.RecordWriter
        names = [f"member-{m}-seed-{x.seed}" for m, x in enumerate(run.members)]
        self.folders = [folder / name if len(names) > 1 else folder for name in names]
        for each in self.folders:
            for path in each.glob("events.out.tfevents.*.fastifo"):
                path.unlink()

    def write(self, rows: Sequence[Row]) -> None:
        """Appends the rows to the members' files."""
        now = time.time()
        for member, folder in enumerate(self.folders):
            events = [
                self.event(wall_time=now, step=row["update"], summary=self._summary(row))
                for row in rows
                if row.get("member", 0) == member
            ]
            if not events:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            path = next(folder.glob("events.out.tfevents.*.fastifo"), None)
            if path is None:
                path = folder / f"events.out.tfevents.{int(now):010d}.{member}.fastifo"
                events.insert(0, self.event(wall_time=now, file_version="brain.Event:2"))
            with open(path, "ab") as file:
                writer = self.writer(file)
                for event in events:
                    writer.write(event.SerializeToString())

    def _summary(self, row: Row) -> Any:
        values = [self.summary.Value(tag=n, simple_value=v) for n, v in named_values(row).items()]
        return self.summary(value=values)

    def close(self) -> None:
        """Does nothing: files are closed after every write."""


class Online:
    """A run of Weights & Biases or of Trackio."""

    restarts = False

    def __init__(self, run: Run, package: str, project: str, name: str, online: bool) -> None:
        """package: wandb or trackio.  online: whether wandb sends rows during training."""
        module = importlib.import_module(package)
        settings: dict[str, Any] = {"project": project, "name": name, "config": run.to_json()}
        if package == "wandb":
            place = name if run.path is None else str(run.path.resolve())
            settings |= {
                "id": hashlib.sha256(place.encode()).hexdigest()[:16],
                "resume": "allow",
                "mode": "online" if online else "offline",
                "dir": None if run.path is None else str(run.path),
                "reinit": "create_new",
            }
        else:
            settings |= {"resume": "allow", "embed": False}
        self.run = module.init(**settings)
        self.has_steps = package == "trackio"
        self.several = len(run.members) > 1
        if not self.has_steps:
            self.run.define_metric("*", step_metric="update")

    def write(self, rows: Sequence[Row]) -> None:
        """Sends the rows of one update in one call; several members have a suffix each."""
        batches: dict[tuple[str, int], dict[str, float]] = {}
        for row in rows:
            suffix = f"/{row.get('member', 0)}" if self.several else ""
            batch = batches.setdefault((str(row.get("stage")), row["update"]), {})
            batch |= {f"{name}{suffix}": value for name, value in named_values(row).items()}
        for (_, update), values in batches.items():
            if self.has_steps:
                self.run.log(values, step=update)
            else:
                self.run.log(values | {"update": update})

    def close(self) -> None:
        """Sends what is left."""
        self.run.finish()


def named_values(row: Row) -> dict[str, float]:
    """The numbers of a row as train/policy_loss, callback/return_mode, and so on."""
    return {
        f"{row.get('stage')}/{name}": float(value)
        for name, value in row.items()
        if name not in RESERVED and value is not None
    }


def open_sink(
    run: Run, to: str, *, project: str, name: str | None, folder: Path | None, online: bool
) -> Sink:
    """A new sink for a run; arguments as in `fastifo.callbacks.Log`."""
    title = name or (run.algorithm if run.path is None else run.path.name)
    if to == "tensorboard":
        return TensorBoard(run, _folder(run, folder))
    return Online(run, PACKAGES[to], project, title, online)


def check_tracker(run: Run, to: str, folder: Path | None) -> None:
    """Raises ImportError without the package, ValueError where event files have no place."""
    try:
        importlib.import_module(PACKAGES[to])
    except ImportError:
        raise ImportError(
            f"{to}: this tracker needs its package: pip install 'fastifo[{to}]'"
        ) from None
    if to == "tensorboard":
        _folder(run, folder)


def _folder(run: Run, folder: Path | None) -> Path:
    if folder is None and run.path is None:
        raise ValueError("tensorboard: expected a folder, Log(..., folder=...), or a run with out=")
    return folder if folder is not None else Path(run.path or "") / "tensorboard"
