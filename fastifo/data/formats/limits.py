"""How much memory the content of a file may take."""

from pathlib import Path

from fastifo.utils.files import readable_bytes

SHARE = 0.5  # of the free memory: what is read is copied while episodes are assembled
LARGEST_RATIO = 1100  # bytes of values to a byte of file; gzip packs at most 1032 to 1


def available_bytes() -> int:
    """Memory that this process can still take: the machine's, or its control group's if less."""
    available = 8 << 30  # where neither is known
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        available = int(fields["MemAvailable"].split()[0]) << 10
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit.isdigit():
            used = int(Path("/sys/fs/cgroup/memory.current").read_text())
            available = min(available, max(int(limit) - used, 0))
    except (OSError, KeyError, ValueError):
        pass
    return available


def read_limit(path: Path, kind: str) -> int:
    """Upper bound on the bytes of values in a file: what sparse data can be packed into.

    kind: names the format in the error, as in "HDF5".  Raises FileNotFoundError.
    """
    least = readable_bytes(path, kind)
    packed = LARGEST_RATIO * path.stat().st_size + (100 << 20)
    return max(least, min(packed, int(SHARE * available_bytes())))
