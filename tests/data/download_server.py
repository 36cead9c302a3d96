"""A local server of one file that truncates, stalls, or sends a wrong size or wrong bytes."""

import contextlib
import http.server
import time

NAME = "hopper-medium-v2.hdf5"
NOT_HONOURING = (  # If-Range
    "206 without a range", "206 of another place", "206 of another version",
)  # fmt: skip


class Server(http.server.ThreadingHTTPServer):
    """Answers each request in the next of `ways`, and all further ones in the last."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.ways = ["complete"]
        self.asked: list[str | None] = []  # each request's Range
        self.tag = '"first"'  # identifies the version of the content; empty: nothing does

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{NAME}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        pass

    def _send_headers(self, way: str, first: int, size: int) -> None:
        """first, size: of the bytes that follow in the content."""
        server = self.server
        end = first + size - 1
        lengths: dict[str, str | int | None] = {
            "more": size + 500, "fewer": size - 500, "no length": None,
            "odd length": "abc", "negative length": -5, "huge length": 10**14, "endless": None,
        }  # fmt: skip
        length = lengths.get(way, size)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if server.tag:
            self.send_header("ETag", server.tag)
        if first and way != "206 without a range":
            shift = 64 if way == "206 of another place" else 0
            self.send_header(
                "Content-Range",
                f"bytes {first - shift}-{end - shift}/{end + 1}",
            )
        if way == "compressed":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()

    def do_GET(self) -> None:
        server = self.server
        way = server.ways.pop(0) if len(server.ways) > 1 else server.ways[0]
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        content, first = server.content, 0
        if way in ("404", "503", "302"):
            self.send_response(int(way))
            self.send_header("Location", "ftp://127.0.0.1:9/x")
            self.end_headers()
            return
        same = self.headers.get("If-Range") == server.tag
        if wanted is not None and way != "no ranges" and (same or way in NOT_HONOURING):
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if first >= len(content):
                self.send_error(416)
                return
        body = content[first:]
        if way == "page":
            body = b"<html>not found</html>"
        if way == "other bytes":
            body = content[:9] + bytes(len(content) - 9)
        self.send_response(206 if first else 200)
        self._send_headers(way, first, len(body))
        if way == "endless":
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(bytes(1 << 16))
            return
        if way == "truncated":
            body = body[: len(body) // 2]
        if way == "stall":
            self.wfile.write(body[: len(body) // 3])
            self.wfile.flush()
            time.sleep(3)
            return
        self.wfile.write(body)
