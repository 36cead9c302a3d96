"""Reads MP4 files in the process of `reader_host.py`, for `video.py`.

A request has "path", "times" of the wanted pictures in seconds, ascending, "tolerance" in seconds,
and "size" [H, W] or null for any. The answer has the pictures, uint8 [H, W, 3] each, and the result
is the video's size, [H, W].
"""

from typing import Any

import av
import numpy as np
from reader_host import RefusedError, one_line, restart_timer, send

STALL_S = 20.0  # processor time between two frames


def send_pictures(container: Any, times: list[float], tolerance: float) -> None:
    """Sends the picture shown at each time."""
    stream = container.streams.video[0]
    before = max(0.0, times[0] - tolerance)
    container.seek(int(before / stream.time_base), stream=stream, backward=True)
    last, index = None, 0
    for frame in container.decode(stream):
        restart_timer(STALL_S)
        if frame.pts is None:
            continue
        last = float(frame.pts * stream.time_base)
        if last < times[index] - tolerance:
            continue
        if last > times[index] + tolerance:
            raise RefusedError(f"no frame at {times[index]:.3f} s: the next one is at {last:.3f} s")
        send(b"n", np.ascontiguousarray(frame.to_ndarray(format="rgb24")))
        index += 1
        if index == len(times):
            return
    ends = "it has no frame after this" if last is None else f"the last one is at {last:.3f} s"
    raise RefusedError(
        f"no frame at {times[index]:.3f} s: {ends}; the video has fewer frames than the data have "
        "steps"
    )


def read(request: dict[str, Any]) -> list[int]:
    """Sends the pictures and returns their size."""
    with av.open(request["path"], format="mp4") as container:
        if not container.streams.video:
            raise RefusedError("not a valid MP4 file, or cut short: it holds no video")
        context = container.streams.video[0].codec_context
        context.thread_count = 1
        size = [context.height, context.width]
        if request["size"] not in (None, size):
            raise RefusedError(
                f"expected frames of {' x '.join(map(str, request['size']))}, as in the first "
                f"video, found {' x '.join(map(str, size))}"
            )
        if request["times"]:
            send_pictures(container, request["times"], request["tolerance"])
        return size


def answer(request: dict[str, Any]) -> list[int]:
    """The result of one request."""
    try:
        return read(request)
    except (RefusedError, MemoryError):
        raise
    except Exception as error:  # FFmpeg has many kinds
        raise RefusedError(f"not a valid MP4 file, or cut short: {one_line(error)}") from None
