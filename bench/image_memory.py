"""Memory of sampling and of a whole training from a pack of 1e6 frames; part of `bench.images`.

The pack is sparse: 21 GB of zeros that take no room on the disk. Each measurement is a process of
its own, and its times are those of a file that the system caches. Three numbers are the memory of a
process: its own (anonymous pages, RssAnon), pages of files, here of the pack and of libraries
(RssFile), which the system takes back when it needs them, and the peak of their sum (VmHWM). The
first two are read every 20 ms, and their largest values are stated.
"""

import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import torch

import fastifo
from bench.pack import random_dataset
from fastifo import Dataset
from fastifo.data import pack
from fastifo.data.frames import frames_per_block
from fastifo.data.sampler import Sampler

SIZE = (84, 84, 3)
POLL_S = 0.02
PARTS = {  # of a process's memory, by the name in /proc/self/status
    "VmHWM": "peak with mapped pages",
    "RssAnon": "the process's own",
    "RssFile": "pages of files",
}
Measured = tuple[str, str, float, float, str]  # part, setting, frames/s, value, unit


def write_sparse(path: Path, count: int) -> None:
    """A pack with `count` transitions whose frames are zeros that take no room on the disk."""
    dataset = Dataset(random_dataset(count, 9).background)
    dataset.save(path)
    rows = len(dataset.background.obs)
    header = pack.read_header(path)
    content = path.read_bytes()[-header["bytes"] :]
    shape = (rows, *SIZE)
    block = frames_per_block(shape)
    frame_bytes = SIZE[0] * SIZE[1] * SIZE[2]
    whole = f"{zlib.crc32(bytes(block * frame_bytes)):08x}" * (rows // block)
    rest = f"{zlib.crc32(bytes(rows % block * frame_bytes)):08x}" if rows % block else ""
    offset = -(-header["bytes"] // 4096) * 4096
    entry = {"shape": list(shape), "offset": offset, "crc32": whole + rest}
    header |= {"version": 3, "frames": {"background.front": entry}}
    header["frame_bytes"] = offset - header["bytes"] + rows * frame_bytes
    with path.open("wb") as file:
        file.write(pack._encode_header(header))
        file.write(content)
        file.truncate(file.tell() + header["frame_bytes"])


def status() -> dict[str, int]:
    """Bytes of each of PARTS, now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) << 10 for name in PARTS}


class Peaks:
    """The largest values of `status` until `stop`, read by a thread."""

    def __init__(self) -> None:
        self.largest = status()
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        while not self.ends.wait(POLL_S):
            self._read()

    def _read(self) -> None:
        self.largest = {name: max(n, self.largest[name]) for name, n in status().items()}

    def stop(self) -> str:
        """The values in GB, in the order of PARTS."""
        self.ends.set()
        self.thread.join()
        self._read()
        return " ".join(str(number / 1e9) for number in self.largest.values())


def draw_from(path: Path, batch: int, budget_s: float) -> None:
    """Prints seconds of opening a pack and of its fingerprint, frames/s and memory."""
    peaks = Peaks()
    started = time.perf_counter()
    dataset = fastifo.load(path)
    opened = time.perf_counter()
    dataset.fingerprint()
    hashed = time.perf_counter()
    sampler = Sampler(
        dataset, (0,), batch, frozenset(), "bench", torch.device("cpu"), torch.float32,
        cameras=("front",), shift=4, reuses=True,
    )  # fmt: skip
    counter = torch.zeros(1, dtype=torch.int64)
    count, used = 0, time.process_time()
    while time.process_time() - used < budget_s:
        sampler.draw(counter)
        counter.add_(1)
        count += 2 * batch
    rate = count / (time.process_time() - used)
    print(opened - started, hashed - opened, rate, peaks.stop())


def train_from(path: Path, out: Path, num_updates: int, batch: int) -> None:
    """Prints frames/s of a whole training of BC, from the path to the last checkpoint, and memory.

    It reads a frame for each row of a batch and the frame after it.
    """
    peaks, used = Peaks(), time.process_time()
    fastifo.train(
        "bc", str(path), num_updates=num_updates, batch_size=batch, hidden_sizes=(64,),
        image_features=16, device="cpu", out=out, progress=False,
    )  # fmt: skip
    print(2 * batch * num_updates / (time.process_time() - used), peaks.stop())


def memory(folder: Path, batch: int, budget_s: float, num_updates: int) -> Iterator[Measured]:
    """Opening a pack of 1e6 frames, drawing from it, and training from it."""
    path = folder / "sparse.fastifo"
    write_sparse(path, 1_000_000)
    size = f"{path.stat().st_size / 1e9:.1f} GB"
    opened, hashed, rate, *peaks = _run(f"draw_from(Path({str(path)!r}), {batch}, {budget_s})")
    yield "open", size, 0.0, opened, "s"
    yield "fingerprint", size, 0.0, hashed, "s"
    yield "sampling", f"{size}, first reads, B={batch}", rate, 2e3 * batch / rate, "ms"
    yield from _rows(f"{size}, sampling", peaks)
    out = folder / "run"
    rate, *peaks = _run(f"train_from(Path({str(path)!r}), Path({str(out)!r}), {num_updates}, 32)")
    setting = f"{size}, training of bc, {num_updates} updates, B=32"
    yield "training: start to end", setting, rate, 64e3 / rate, "ms"
    yield from _rows(setting, peaks)


def _run(call: str) -> list[float]:
    """The numbers that a call in another process prints last."""
    code = f"from bench.image_memory import *; {call}"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    return [float(number) for number in output.splitlines()[-1].split()]


def _rows(setting: str, peaks: list[float]) -> Iterator[Measured]:
    for name, value in zip(PARTS.values(), peaks, strict=True):
        yield f"memory, {name}", setting, 0.0, value, "GB"
