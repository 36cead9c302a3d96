"""Pictures of MP4 files, which may be damaged, decoded by `av` in a separate process.

`reader_host.py` is that process; it says why and within which limits. It runs `video_reader.py`.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastifo.data.formats.reader_process import ReaderProcess
from fastifo.utils.files import check_regular

READER = Path(__file__).with_name("video_reader.py")
DECODER_BYTES = 1 << 30  # of memory beside the pictures


class Video:
    """One MP4 file.

    Raises FileNotFoundError; ValueError naming the file if it cannot be read; ImportError.
    """

    def __init__(self, path: Path, size: tuple[int, int] | None = None) -> None:
        """size: expected height and width of the pictures; None: any."""
        if importlib.util.find_spec("av") is None:
            raise ImportError(f"{path}: videos need the package av: pip install 'fastifo[video]'")
        check_regular(path)
        self.path, self.size = path, size
        height, width = self._ask([], 0.0, np.empty(0, np.uint8))
        self.size = (height, width)

    def read(self, times: Sequence[float], tolerance: float) -> NDArray[np.uint8]:
        """The pictures shown at some times, [n, H, W, 3].

        times: in seconds, ascending.  tolerance: by which a picture's time may differ, in seconds.
        Raises ValueError naming the file if there is no such picture, or it is damaged.
        """
        assert self.size is not None
        result = np.empty((len(times), *self.size, 3), np.uint8)
        self._ask(times, tolerance, result.reshape(-1))
        return result

    def _ask(
        self, times: Sequence[float], tolerance: float, values: NDArray[np.uint8]
    ) -> tuple[int, int]:
        """Fills `values` with pictures.  Returns height and width."""
        request = {
            "path": str(self.path.absolute()),
            "times": list(times),
            "tolerance": tolerance,
            "size": None if self.size is None else list(self.size),
            "memory": DECODER_BYTES + values.nbytes,
        }
        reply = _READER.ask(request, values)
        if "error" in reply:
            raise ValueError(f"{self.path}: {reply['error']}")
        height, width = reply["result"]
        return height, width


_READER = ReaderProcess(READER, "FFmpeg")
