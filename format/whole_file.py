"""Writing files that appear whole or not at all: under a name of their own first, renamed at the end (spec §14)."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

from igs.format.errors import OutputError

_KEPT = 50  # characters of the name, for whoever finds a file left over: four bytes each leave room for the rest in 255


@contextlib.contextmanager
def whole_file(path: str | Path, *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """A binary file that becomes ``path`` when the block ends well, and is removed on any error or interrupt.

    It lies in the same folder meanwhile, as the rename must not cross file systems, under a name that no other file
    has. What isn't a regular file (a device, a named pipe) gets it all at the end. Raises OutputError if ``path``
    can't be written, or exists and ``overwrite`` is off.
    """
    target = Path(os.path.realpath(path))  # a link stays a link, its target is replaced
    try:
        mode = os.stat(path).st_mode  # of the name given: that of a pipe in /dev/fd leads to no file
    except OSError:
        mode = None
    if mode is not None and stat.S_ISDIR(mode):
        raise OutputError(f"{path}: is a directory")
    if mode is not None and stat.S_ISREG(mode) and not overwrite:
        raise OutputError(f"{path}: exists already (--no-overwrite)")
    if mode is not None and not stat.S_ISREG(mode):
        yield from _direct(path)
        return
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name[:_KEPT]}.", suffix=".tmp", dir=target.parent)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from error
    try:
        os.close(handle)
        with open(temporary, "w+b") as file:  # not fdopen: writers of images look at the name
            yield file
            file.flush()
            _set_mode(file, mode)
        if overwrite:
            os.replace(temporary, target)
        else:
            _move_new(temporary, target, path)
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.filename not in (None, temporary):
            raise
        raise OutputError(f"{path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _direct(path: str | Path) -> Iterator[BinaryIO]:
    """Memory that goes to a device or pipe when all is there: some formats are written with seeks."""
    memory = io.BytesIO()
    try:
        stream = open(path, "wb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from error
    with contextlib.closing(stream):
        yield memory
        try:
            stream.write(memory.getbuffer())
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror or error}") from error


def _set_mode(file: IO[bytes], mode: int | None) -> None:
    """mkstemp makes files that only their owner can read; give them what an ordinary new (or the replaced) file has."""
    if os.name != "posix":
        return
    if mode is None:
        mask = os.umask(0)
        os.umask(mask)
        mode = 0o666 & ~mask
    with contextlib.suppress(OSError):
        os.fchmod(file.fileno(), stat.S_IMODE(mode))


def _move_new(temporary: str, target: Path, path: str | Path) -> None:
    """Rename without replacing a file that appeared in the meantime."""
    try:
        os.link(temporary, target)
    except FileExistsError as error:
        raise OutputError(f"{path}: exists already (--no-overwrite)") from error
    except OSError:  # a file system without hard links
        os.replace(temporary, target)
