"""Foreign HDF5 files: what they hold, and their numbers, whatever the file does to the reader."""

import atexit
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.utils.files import readable_bytes

READER = Path(__file__).with_name("hdf5_reader.py")


class HDF5:
    """One file.  Raises FileNotFoundError, or ValueError naming the file and what is wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.limit = readable_bytes(path, "HDF5")
        self.objects: dict[str, dict[str, Any]] = self._ask(None)[0]

    def fail(self, reason: str) -> ValueError:
        return ValueError(f"{self.path}: {reason}")

    def has(self, name: str) -> bool:
        return "shape" in self.objects.get(name, {})

    def shape(self, name: str) -> tuple[int, ...]:
        """Raises ValueError where there is no such dataset."""
        if not self.has(name):
            there = ", ".join(sorted(k for k, v in self.objects.items() if "shape" in v)[:12])
            raise self.fail(f"expected a dataset {name!r}, found {there or 'none'}")
        return tuple(self.objects[name]["shape"])

    def children(self, group: str) -> list[str]:
        """Names directly below a group, in no order."""
        prefix = f"{group}/" if group else ""
        return [
            name[len(prefix) :]
            for name in self.objects
            if name and name.startswith(prefix) and "/" not in name[len(prefix) :]
        ]

    def attribute(self, group: str, name: str) -> Any:
        """None where it is not there."""
        return self.objects.get(group, {}).get("attributes", {}).get(name)

    def numbers(self, names: Sequence[str]) -> list[NDArray[np.float32]]:
        """The datasets as float32, in their shapes."""
        shapes = [self.shape(name) for name in names]
        for name in names:
            kind = self.objects[name]["kind"]
            if kind not in "fiub":
                raise self.fail(f"{name!r}: expected numbers, found kind {kind!r}")
        sizes = [float(np.prod(shape, dtype=float)) for shape in shapes]
        pieces = [float(self.objects[name]["piece"]) for name in names]
        if 4 * max(sum(sizes), *pieces, 0.0) > self.limit:
            raise self.fail(
                f"it says that it holds {sum(sizes):.3g} numbers and has only "
                f"{self.path.stat().st_size} bytes: damaged, or packed too well to be data"
            )
        flat = self._ask(list(names))[1]
        if len(flat) != int(sum(sizes)):
            raise self.fail(f"expected {int(sum(sizes))} numbers, found {len(flat)}: it is cut")
        places = np.cumsum([0, *sizes]).astype(np.int64)
        return [flat[places[i] : places[i + 1]].reshape(shape) for i, shape in enumerate(shapes)]

    def texts(self, name: str) -> list[str]:
        """A list of names."""
        if self.objects.get(name, {}).get("kind") not in ("S", "O"):
            raise self.fail(f"{name!r}: expected a list of names")
        return [str(value) for value in self._ask([name])[0][name]]

    def _ask(self, names: list[str] | None) -> tuple[Any, NDArray[np.float32]]:
        with tempfile.TemporaryDirectory(prefix="fastifo-") as folder:
            out = Path(folder, "numbers")
            request = {"path": str(self.path), "out": str(out), "names": names, "limit": self.limit}
            _READER.send(json.dumps(request))
            try:
                reply = json.loads(Path(f"{out}.json").read_text())
            except (OSError, ValueError):
                reply = {"error": "its reader ended without an answer"}
            if "error" in reply:
                raise self.fail(f"not a sound HDF5 file: {reply['error']}")
            return reply["found"], np.fromfile(out, np.float32) if out.exists() else np.empty(
                0, np.float32
            )


class _Reader:
    """The process that opens the files, started once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[str] | None = None

    def send(self, line: str) -> None:
        """Returns when the request was answered."""
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                self.close()
                self.process = subprocess.Popen(
                    [sys.executable, "-P", str(READER)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            self.process.stdout.readline()

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            with contextlib.suppress(OSError):
                self.process.communicate()
            self.process = None


_READER = _Reader()
atexit.register(_READER.close)
