"""Kills a job at every change it makes to files, and runs it again.

`python -m reliability.killpoints SCENARIO FOLDER [STRIDE]` runs a scenario once for reference. Then
for each change (opening a file for writing, rename, removal, new folder, truncation, sync) it forks
a process that ends right before that change, and another one that runs the same scenario to the
end. Every file must then equal the reference, and no other file may be there. Prints JSON.

A process that ends also loses what it had not synced, as when the machine loses power: half of the
new bytes of each such file.
"""

import hashlib
import json
import os
import shutil
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reliability.scenarios import SCENARIOS

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
KILLED = 9


class KillSwitch:
    """Ends the process right before its n-th change below a folder."""

    def __init__(self, folder: Path, point: int) -> None:
        """point: which change, counted from 0; -1 only counts."""
        self.folder, self.point = str(folder), point
        self.count = 0
        self.busy = False
        self.synced: dict[str, int] = {}  # bytes of each file that was opened for writing
        os.fsync = self.fsync  # type: ignore[assignment]
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.busy or self.point == -2:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITES and self.is_inside(path):
                self.change()
                self.synced.setdefault(os.fspath(path), size_of(path))
        elif event in CHANGES and self.is_inside(arguments[0]):
            self.change()
            if event == "os.rename":
                self.synced.pop(os.fspath(arguments[0]), None)

    def is_inside(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder)

    def fsync(self, handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        if self.is_inside(path):
            self.change()
            if path in self.synced:
                self.synced[path] = size_of(path)

    def change(self) -> None:
        if self.count == self.point:
            self.busy = True
            for path, size in self.synced.items():
                if os.path.exists(path) and size_of(path) > size:
                    os.truncate(path, size + (size_of(path) - size) // 2)
            os._exit(KILLED)
        self.count += 1


def size_of(path: Any) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


def tree(folder: Path) -> dict[str, str]:
    """A hash of every file below a folder, without what differs between equal runs."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        if path.name == "manifest.json":
            manifest = json.loads(content)
            manifest.pop("train_s")
            content = json.dumps(manifest).encode()
        elif path.suffix == ".npz":  # a zip file has times
            with np.load(path, allow_pickle=False) as arrays:
                parts = [struct.pack("<q", hash_of(arrays[n])) for n in sorted(arrays.files)]
            content = b"".join(parts)
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def hash_of(array: np.ndarray) -> int:
    text = f"{array.dtype} {array.shape}".encode() + array.tobytes()
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "little")


def fork(work: Callable[[], None], log: Path) -> int:
    """Exit code of a fork that does some work; 1 if that raises, with the reason in `log`."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            log.write_text(traceback.format_exc())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(name: str, folder: Path, stride: int = 1) -> dict[str, Any]:
    """Runs a scenario; see the module's text.  stride: every how many changes to kill at."""
    prepare, run = SCENARIOS[name]
    data, out, log = folder / "data", folder / "out", folder / "log"
    data.mkdir(parents=True)
    prepare(data)
    counted = folder / "count"

    def count() -> None:
        switch = KillSwitch(out, -1)
        run(data, out)
        switch.point = -2
        counted.write_text(str(switch.count))

    # The kernel survives these kills; the switch counts the calls.
    os.fsync = lambda handle: None  # type: ignore[assignment]
    assert fork(count, log) == 0, log.read_text()
    expected = tree(out)
    points = int(counted.read_text())
    problems = []
    for point in range(0, points, stride):
        shutil.rmtree(out)

        def killed(point: int = point) -> None:
            KillSwitch(out, point)
            run(data, out)

        code = fork(killed, log)
        if code != KILLED:
            problems.append(f"{point}: exit code {code} instead of a kill: {tail(log)}")
        elif fork(lambda: run(data, out), log) != 0:
            problems.append(f"{point}: the same command failed: {tail(log)}")
        elif (actual := tree(out)) != expected:
            names = sorted(n for n in {*actual, *expected} if actual.get(n) != expected.get(n))
            problems.append(f"{point}: different: {names}")
    return {"points": points, "files": sorted(expected), "problems": problems}


def tail(log: Path) -> str:
    return log.read_text().strip().splitlines()[-1] if log.exists() else ""


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))))
