"""The process that opens MP4 files, run as a script; `video.py` is its only caller.

FFmpeg's decoders are not made for malicious files. A fork therefore answers each request, with
limits on memory and processor time; it may crash without harm.

A request is one line of JSON on stdin: {"path", "times" of the wanted frames in seconds, ascending,
"tolerance" in seconds, "size" [H, W] or null for any, "memory" in bytes}. The answer has the frames
of `hdf5_reader.py`: "n" has one picture, uint8 [H, W, 3]; "j" comes last, with {"result"} or
{"error"} as JSON. The result is the video's size, [H, W].
This script imports neither torch nor fastifo.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np

STALL_S = 20.0  # processor time between two frames
ANSWERED = 33  # exit code of a fork that has sent its answer


class RefusedError(Exception):
    """The file is not read; the message says why."""


def restart_timer() -> None:
    """Restarts the timer that ends the process when it makes no progress."""
    signal.setitimer(signal.ITIMER_PROF, STALL_S)


def send(kind: bytes, content: Any) -> None:
    """Writes a frame of the answer to stdout.  content: bytes, or an array."""
    view = memoryview(content).cast("B")
    sys.stdout.buffer.write(kind + len(view).to_bytes(8, "little"))
    sys.stdout.buffer.write(view)


def send_pictures(container: Any, times: list[float], tolerance: float) -> None:
    """Sends the picture shown at each time."""
    stream = container.streams.video[0]
    before = max(0.0, times[0] - tolerance)
    container.seek(int(before / stream.time_base), stream=stream, backward=True)
    last, index = None, 0
    for frame in container.decode(stream):
        restart_timer()
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


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The reply to one request, {"result"} or {"error"}, within the limits."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + request["memory"],) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    restart_timer()
    try:
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
        return {"result": size}
    except RefusedError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "reading it takes more memory than its frames need"}
    except Exception as error:  # FFmpeg has many kinds
        text = " ".join(f"{error}".split())[:300]
        return {"error": f"not a valid MP4 file, or cut short: {text}"}


def main() -> None:
    """Answers requests until stdin is closed."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                send(b"j", json.dumps(answer(request)).encode())
                sys.stdout.buffer.flush()
                os._exit(ANSWERED)
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != ANSWERED:  # an answer may be half sent: the parent starts another reader
            os._exit(64 - code if code < 0 else 64)


if __name__ == "__main__":
    main()
