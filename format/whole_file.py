"""Writing files that appear whole or not at all: under a name of their own first, renamed at the end (spec §14)."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

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
    temporary = _new_beside(target, path)
    try:
        with open(temporary, "w+b") as file:  # not fdopen: writers of images look at the name
            yield file
            file.flush()
            if mode is not None and os.name == "posix":
                with contextlib.suppress(OSError):
                    os.fchmod(file.fileno(), stat.S_IMODE(mode))
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


def _new_beside(target: Path, path: str | Path) -> str:
    """An empty file of a new name in the target's folder, with the mode that any new file has there."""
    while True:
        name = target.with_name(f".{target.name[:_KEPT]}.{secrets.token_hex(4)}.tmp")
        with contextlib.suppress(FileExistsError):
            return _make(name, path)


def _make(name: Path, path: str | Path) -> str:
    """Create a file that wasn't there: FileExistsError if it was, OutputError if it can't be."""
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from error
    return str(name)


def _move_new(temporary: str, target: Path, path: str | Path) -> None:
    """Rename without replacing a file that appeared in the meantime."""
    try:
        try:
            os.link(temporary, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            _make(target, path)
            os.replace(temporary, target)
    except FileExistsError as error:
        raise OutputError(f"{path}: exists already (--no-overwrite)") from error
