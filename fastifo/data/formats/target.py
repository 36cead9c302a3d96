"""The file that the HDF5 library writes to, which survives a full disk."""

from typing import Any, BinaryIO


class Target:
    """The file that the HDF5 library writes to; remembers the first error of a write.

    The library crashes where it cannot write what it must when a file is closed. After an error
    further writes are therefore dropped, and the caller raises the error afterwards.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self.raw = raw
        self.error: OSError | None = None
        self.place = self.size = 0

    def write(self, content: Any) -> int:
        """Writes all of `content`, or drops it after an error."""
        view = memoryview(content).cast("B")
        done = 0
        while done < len(view) and self.error is None:
            try:
                done += self.raw.write(view[done:])
            except OSError as error:
                self.error = error
        self.place += len(view)
        self.size = max(self.size, self.place)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Reads what was written; zeros where that was dropped."""
        view = memoryview(buffer).cast("B")
        view[:] = bytes(len(view))
        self.raw.seek(self.place)
        content = self.raw.read(len(view)) or b""
        view[: len(content)] = content
        self.place += len(view)
        self.raw.seek(self.place)
        return len(view)

    def read(self, size: int) -> bytes:
        """The next bytes; see `readinto`."""
        buffer = bytearray(size)
        self.readinto(buffer)
        return bytes(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves the place of the next read or write."""
        self.place = offset + (0, self.place, self.size)[whence]
        self.raw.seek(self.place)
        return self.place

    def tell(self) -> int:
        """The place of the next read or write."""
        return self.place

    def truncate(self, size: int | None = None) -> int:
        """Sets the size of the file."""
        self.size = self.place if size is None else size
        if self.error is None:
            try:
                self.raw.truncate(self.size)
            except OSError as error:
                self.error = error
        return self.size

    def flush(self) -> None:
        """Does nothing: `write_atomic` syncs the file."""
