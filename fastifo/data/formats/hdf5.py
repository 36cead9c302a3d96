"""HDF5 files that may be damaged or malicious, read through a separate process.

`reader_host.py` is that process; it says why and within which limits. It runs `hdf5_reader.py`.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.data.formats.limits import read_limit
from fastifo.data.formats.reader_process import ReaderProcess
from fastifo.utils.files import readable_bytes

READER = Path(__file__).with_name("hdf5_reader.py")
NOTHING = np.empty(0, np.float32)


class HDF5:
    """One HDF5 file: its objects, and their values on demand.

    Names are paths such as "data/demo_0/actions", without a leading slash; "" is the root group.
    Raises FileNotFoundError, or ValueError naming the file if it is not a valid HDF5 file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.memory = readable_bytes(path, "HDF5")  # of the reader's process, without blocks
        self.limit = read_limit(path, "HDF5")  # of the values, in bytes
        self.objects: dict[str, dict[str, Any]] = self._ask(None)[0]

    def error(self, reason: str) -> ValueError:
        """An error that names the file, to be raised."""
        return ValueError(f"{self.path}: {reason}")

    def has(self, name: str) -> bool:
        """Whether there is a dataset of this name."""
        return "shape" in self.objects.get(name, {})

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a dataset.  Raises ValueError if there is none of this name."""
        if not self.has(name):
            known = ", ".join(sorted(k for k, v in self.objects.items() if "shape" in v)[:12])
            raise self.error(f"expected a dataset {name!r}, found {known or 'none'}")
        return tuple(self.objects[name]["shape"])

    def children(self, group: str) -> list[str]:
        """Names of a group's groups and datasets, without its own, in no particular order."""
        prefix = f"{group}/" if group else ""
        return [
            name[len(prefix) :]
            for name in self.objects
            if name and name.startswith(prefix) and "/" not in name[len(prefix) :]
        ]

    def kind(self, name: str) -> str:
        """NumPy's letter for the kind of a dataset's values: f, i, u, b, S, ..."""
        self.shape(name)
        return str(self.objects[name]["kind"])

    def kinds(self, names: Iterable[str]) -> set[str]:
        """The kinds of those datasets that exist."""
        return {self.kind(name) for name in names if self.has(name)}

    def attributes(self, group: str = "") -> dict[str, Any]:
        """Attributes of the root group, or of the group `data`: text, numbers and lists."""
        return dict(self.objects.get(group, {}).get("attributes", {}))

    def numbers(
        self, names: Sequence[str], dtype: type[np.floating[Any]] = np.float32
    ) -> list[NDArray[Any]]:
        """The values of datasets as `dtype`, in their shapes.

        Raises ValueError naming the file if a dataset is missing, does not hold numbers, or is
        larger than this machine, or a valid file of this size, can hold.
        """
        shapes = [self.shape(name) for name in names]
        for name in names:
            kind = self.objects[name]["kind"]
            if kind not in "fiub":
                raise self.error(f"{name!r}: expected numbers, found kind {kind!r}")
        item = np.dtype(dtype).itemsize
        sizes = [float(np.prod(shape, dtype=float)) for shape in shapes]
        chunks = [float(self.objects[name]["chunk"]) for name in names]
        if item * max(sum(sizes), *chunks, 0.0) > self.limit:
            raise self.error(
                f"it declares {max(sum(sizes), *chunks):.3g} values but has only "
                f"{self.path.stat().st_size} bytes: damaged, or compressed too well to be data, or "
                f"larger than half of the free memory ({self.limit >> 20} MiB may be read)"
            )
        block_bytes = max((self._block_bytes(name, item) for name in names), default=0)
        flat = self._ask(list(names), np.empty(int(sum(sizes)), dtype), block_bytes)[1]
        first = np.cumsum([0, *sizes]).astype(np.int64)
        return [flat[first[i] : first[i + 1]].reshape(shape) for i, shape in enumerate(shapes)]

    def rows(self, name: str, first: int, last: int) -> NDArray[np.uint8]:
        """The rows first .. last - 1 of a dataset of bytes, [last - first, ...].

        Raises ValueError naming the file if the dataset is missing, or too large as in `numbers`.
        """
        shape = (last - first, *self.shape(name)[1:])
        values = np.empty(math.prod(shape), np.uint8)
        chunk = float(self.objects[name]["chunk"])
        if max(values.nbytes, chunk) > self.limit:
            raise self.error(f"{name!r}: a block has {chunk:.3g} values: damaged")
        flat = self._ask([name], values, self._block_bytes(name, 1), (first, last))[1]
        return flat.reshape(shape)

    def item_bytes(self, name: str) -> int:
        """Bytes of one value of a dataset.  Raises ValueError if there is none of this name."""
        self.shape(name)
        return int(self.objects[name]["size"])

    def _block_bytes(self, name: str, item: int) -> int:
        """Memory for one block of rows of a dataset: stored, and as `item` bytes a value."""
        entry = self.objects[name]
        rows = entry["chunk_rows"] * math.prod(entry["shape"][1:])
        return int(max(entry["chunk"], rows) * (2 * entry["size"] + item))

    def texts(self, name: str) -> list[str]:
        """The strings of a dataset.  Raises ValueError if it is missing or has no strings."""
        if self.objects.get(name, {}).get("kind") not in ("S", "O"):
            raise self.error(f"{name!r}: expected a list of names")
        return [str(value) for value in self._ask([name])[0][self._real_name(name)]]

    def _ask(
        self,
        names: list[str] | None,
        values: NDArray[Any] = NOTHING,
        block_bytes: int = 0,
        rows: tuple[int, int] | None = None,
    ) -> tuple[Any, NDArray[Any]]:
        """The reader's result, and `values`, filled with all numeric datasets, end to end.

        names: of datasets to read; None lists the file's objects.
        values: as many as the datasets have.  block_bytes: memory for the largest block of rows.
        rows: the first one and the end of those that are read; None: all.
        """
        request = {
            "path": str(self.path.absolute()),
            "names": None if names is None else [self._real_name(name) for name in names],
            "dtype": values.dtype.str,
            "memory": self.memory + block_bytes,
            "rows": rows,
        }
        reply = _READER.ask(request, values)
        if "error" in reply:
            raise self.error(f"not a valid HDF5 file: {reply['error']}")
        return reply["result"], values

    def _real_name(self, name: str) -> str:
        """The name that a soft link stands for."""
        return str(self.objects[name].get("at", name))


_READER = ReaderProcess(READER, "HDF5")
