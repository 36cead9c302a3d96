"""`metrics.jsonl` of a run folder: what the training loop and callbacks log."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class MetricsFile:
    """Appends to `metrics.jsonl`: one JSON object per line, for one member and interval."""

    def __init__(self, path: Path | None, keep_bytes: int) -> None:
        """path: the file; None writes nothing.

        keep_bytes: size at the last checkpoint. Later rows are cut off, as a resumed run writes
            them again.
        """
        self.path = path
        if path is not None and path.exists():
            os.truncate(path, min(keep_bytes, path.stat().st_size))

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Appends rows.  Raises OSError if they cannot be written."""
        if self.path is not None and rows:
            text = "".join(json.dumps(row) + "\n" for row in rows)
            try:
                with open(self.path, "a") as file:
                    file.write(text)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"{self.path}: could not be written ({error.strerror}); the last checkpoint "
                    "is kept. Free some space and run again",
                ) from error

    def size_bytes(self) -> int:
        """Size of the file; 0 if there is none."""
        return self.path.stat().st_size if self.path is not None and self.path.exists() else 0


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All rows of a metrics file; none if it does not exist.

    Raises ValueError naming file and line of a row that is not JSON.
    """
    rows = []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else []):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: line {number + 1} is not JSON ({error})") from None
    return rows
