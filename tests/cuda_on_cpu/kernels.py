"""Compiles the CUDA kernels of csrc/ for the CPU and calls them as fastifo.ops does."""

import ctypes
import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cuda_on_cpu.translate import translate

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
OWN = ("losses.cu", "faults.cu", "kernels.cpp", "fibers.cpp")
ORDERS = ("forward", "reverse", "random")  # of threads between barriers, and of blocks
FLAGS = [
    "-std=c++20", "-march=native", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing",
    "-U_FORTIFY_SOURCE", "-DFASTIFO_ISA=plain", "-Wno-psabi", "-Wno-unknown-pragmas",
    "-Wno-subobject-linkage",
]  # fmt: skip


class Argument(ctypes.Structure):
    """`Argument` of kernels.cpp."""

    _fields_ = (("integer", ctypes.c_int64), ("number", ctypes.c_double))


def compile_kernels(folder: Path) -> Path:
    """The library of all kernels, in `folder`, which is created. Concurrent callers compile once.

    Raises RuntimeError with the compiler's messages if it fails.
    """
    folder.mkdir(exist_ok=True)
    library = folder / "kernels.so"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                units = _translated(folder / "csrc")
                objects = list(pool.map(partial(_compile, translated=folder / "csrc"), units))
            run_compiler(["-shared", "-o", f"{library}.part", *map(str, objects)])
            os.replace(f"{library}.part", library)
    return library


def _translated(folder: Path) -> list[Path]:
    """Writes translated files to `folder`; the sources to compile, the longest first."""
    sources = [*sorted(CSRC.rglob("*.cu*")), *(HERE / name for name in OWN)]
    written = []
    for source in sources:
        root, name = (HERE, "tests/cuda_on_cpu") if source.parent == HERE else (CSRC, "csrc")
        relative = source.relative_to(root)
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(translate(source.read_text(), f"{name}/{relative}"))
        written.append(target)
    units = [path for path in written if path.suffix in (".cu", ".cpp")]
    return sorted(units, key=lambda path: path.name not in ("losses.cu", "binned_nll.cu"))


def _compile(source: Path, translated: Path) -> Path:
    target = translated / f"{source.name}.o"
    folders = [f"-I{folder}" for folder in (translated, CSRC, HERE, HERE.parent)]
    level = "-O0" if source.name == "losses.cu" else "-O1"  # in half the time, for little work
    files = ["-include", "cuda_runtime.h", "-x", "c++", "-c", str(source), "-o", str(target)]
    run_compiler([*FLAGS, level, *folders, *files])
    return target


def run_compiler(arguments: list[str]) -> None:
    """Runs g++, or what CXX names.

    Raises RuntimeError with the beginning of its messages if it fails.
    """
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise RuntimeError("g++: expected on PATH, found none")
    done = subprocess.run([compiler, *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[:4000])


class Kernels:
    """The CUDA kernels, run by fibers on CPU memory."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.error_message.restype = ctypes.c_char_p
        self._library.parameters_of.restype = ctypes.c_int64

    def use_order(self, order: str, seed: int = 0) -> None:
        """Runs threads and blocks in one of `ORDERS` from now on."""
        self._library.use_order(ORDERS.index(order), ctypes.c_uint(seed))

    def kernel(self, name: str, device: torch.device) -> Callable[..., None]:
        """A kernel's launch function, in place of fastifo.ops.registry.kernel."""
        assert device.type == "cpu"
        return lambda *arguments: self.call(name, *arguments, 0)  # on the default stream

    def parameters(self, name: str) -> int:
        """How many parameters the function `name` of kernels.cpp has; -1 if there is none."""
        return int(self._library.parameters_of(name.encode()))

    def call(self, name: str, *arguments: int | float | list[int] | bytes) -> None:
        """Calls the function `name` of kernels.cpp.

        Raises ValueError for arguments that it refuses and RuntimeError for a failed launch.
        """
        assert len(arguments) == self.parameters(name), name
        kept: list[Any] = []  # what addresses point to
        packed = (Argument * len(arguments))(*[_pack(value, kept) for value in arguments])
        status = self._library.launch_kernel(name.encode(), packed)
        if status != 0:
            error = ValueError if status == 1 else RuntimeError
            raise error(self._library.error_message().decode())


def _pack(value: int | float | list[int] | bytes, kept: list[Any]) -> Argument:
    if isinstance(value, list):
        kept.append((ctypes.c_int64 * (len(value) + 1))(len(value), *value))
        return Argument(ctypes.addressof(kept[-1]), 0.0)
    if isinstance(value, bytes):
        kept.append(ctypes.create_string_buffer(value))
        return Argument(ctypes.addressof(kept[-1]), 0.0)
    return Argument(int(value), float(value))
