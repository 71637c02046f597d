"""Bytes on demand: a path, a bytes-like object or a seekable file behind one thread-safe ``read_at`` that counts.

No knowledge of the format. Everything that can go wrong below becomes an InputError.
"""

from __future__ import annotations

import io
import os
import stat
import threading
from pathlib import Path
from typing import Any

from igs.format.errors import InputError, UsageError


class Source:
    """A readable thing of known length. ``bytes_read`` counts what was really fetched. Thread-safe."""

    def __init__(self, source: Any) -> None:
        self._lock = threading.Lock()
        self._owned = False
        self._data: memoryview | None = None
        self._file: Any = None
        self.bytes_read = 0
        self.name = "<bytes>"
        if isinstance(source, bytes | bytearray | memoryview):
            view = memoryview(source)
            self._data = view.cast("B") if view.contiguous else memoryview(view.tobytes())
            self.length = len(self._data)
        elif isinstance(source, str | os.PathLike):
            self._open(Path(os.fspath(source)))
        elif hasattr(source, "read") and hasattr(source, "seek"):
            self._file = source
            self.name = str(getattr(source, "name", "<file object>"))
            self.length = self._measure()
        else:
            raise UsageError(f"expected a path, bytes or a file with seek and read, found {type(source).__name__}")

    def _open(self, path: Path) -> None:
        self.name = str(path)
        try:
            # Asked first: opening a pipe without a writer would wait for ever.
            if not stat.S_ISREG(path.stat().st_mode):
                raise InputError(f"{path}: expected a regular file; read pipes and devices into bytes first")
            self._file = io.FileIO(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
        self._owned = True
        self.length = self._measure()

    def _measure(self) -> int:
        try:
            length = self._file.seek(0, os.SEEK_END)
            return int(self._file.tell() if length is None else length)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{self.name}: can't tell its length: {error}") from error

    def remeasure(self) -> int:
        """The length as it is now: of a file that is still being written it has grown; bytes never change."""
        with self._lock:
            if self._data is None:
                if self._file is None:
                    raise UsageError(f"{self.name}: read after close")
                self.length = self._measure()
        return self.length

    def read_at(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``, fewer only at the end of the source."""
        count = max(0, min(count, self.length - offset))
        with self._lock:
            if self._data is not None:
                self.bytes_read += count
                return bytes(self._data[offset : offset + count])
            if self._file is None:
                raise UsageError(f"{self.name}: read after close")
            parts: list[bytes] = []
            left = count
            try:
                self._file.seek(offset)
                while left:
                    part = self._file.read(left)
                    if not isinstance(part, bytes | bytearray | memoryview) or len(part) > left:
                        raise InputError(f"{self.name}: expected read({left}) to give at most so many bytes")
                    if not part:
                        break
                    parts.append(bytes(part))
                    left -= len(part)
            except (OSError, ValueError) as error:
                raise InputError(f"{self.name}: {error}") from error
            self.bytes_read += count - left
            return b"".join(parts)

    def close(self) -> None:
        """Close the file if this object opened it; later reads raise UsageError."""
        with self._lock:
            if self._owned and self._file is not None:
                self._file.close()
            self._file = None
            self._data = None
