"""Reading and writing files for the commands: ``-`` as stdin and stdout; outputs that appear whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from igs.format.errors import InputError, InvalidFile, OutputError, UsageError
from igs.format.limits import Limits
from igs.format.whole_file import whole_file

PIPE = "-"
ODD_NAMES = "backslashreplace"  # how names that aren't UTF-8 become text: \udcff for the byte ff, as on a terminal


def display(path: str) -> str:
    """How a path is named in messages."""
    return "standard input" if path == PIPE else path


@contextlib.contextmanager
def named(source: str) -> Iterator[None]:
    """Put the file's name before the message of an error that doesn't carry it."""
    try:
        yield
    except InvalidFile as error:
        error.args = (f"{source}: {error}",)
        raise
    except OutputError:
        raise
    except (InputError, UsageError) as error:
        if source not in str(error):
            error.args = (f"{source}: {error}",)
        raise


def read_stdin(limit: int) -> bytes:
    """All of stdin, at most ``limit`` bytes."""
    if sys.stdin is None:
        raise InputError("standard input: closed")
    stream = sys.stdin.buffer
    if sys.stdin.isatty():
        raise UsageError("expected data on standard input, found a terminal")
    data = bytearray()
    while block := stream.read(1 << 20):  # read(limit) would allocate the limit
        data += block
        if len(data) > limit:
            raise InputError(f"standard input: more than {limit} bytes (--memory-limit)")
    if not data:
        raise InputError("standard input: no data")
    return bytes(data)


def write_stdout(data: bytes) -> None:
    if sys.stdout is None:
        raise OutputError("standard output: closed")
    sys.stdout.flush()
    rest = memoryview(data)
    while rest:  # with PYTHONUNBUFFERED this is a raw stream, which may take a part only
        rest = rest[sys.stdout.buffer.write(rest) :]
    sys.stdout.buffer.flush()


def check_input(path: str) -> None:
    """Raise InputError now for a file that can't be read, rather than after a long wait for something else."""
    if path == PIPE:
        return
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def source_data(source: str, memory_limit: int) -> Any:
    """What a reader takes: the bytes of standard input, or the path of a file that can be read."""
    if source == PIPE:
        return read_stdin(memory_limit)
    check_input(source)
    return source


def limits(asked: Mapping[str, Any]) -> Limits:
    """A reader's limits by a command's options."""
    return Limits(pixels=asked["size_limit"], side=asked["dimension_limit"])


def check_terminal(path: str, *, force: bool) -> None:
    """Raise UsageError if bytes would go to a terminal."""
    if path == PIPE and not force and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError("not writing binary data to a terminal; name a file, or use --force")


Named = tuple[str, Any]  # the option, empty for an argument, and the path that it was given: None or "-" for none


def check_outputs(inputs: Iterable[Named], outputs: Iterable[Named], *, overwrite: bool = True) -> None:
    """Raise before any work is done for what a command must not write: every file that it reads and writes is here.

    UsageError for an output that is an input or another output, by whatever name; OutputError for one that exists,
    where ``overwrite`` is off. Devices and named pipes may be written as often as one likes.
    """
    taken: dict[Any, str] = {}
    for what, group in (("input", inputs), ("output", outputs)):
        for option, path in group:
            if option and str(path) == PIPE:
                raise UsageError(f"{option}: expected the name of a file, found -: only IN and OUT may be pipes")
            if path is None or str(path) in ("", PIPE) or _is_device(path):
                continue
            name = f"{option} {path}".strip()
            known = identities(path)
            if what == "output":
                for key in known:
                    if key in taken:
                        raise UsageError(f"{name}: would overwrite {taken[key]}, the same file")
                if not overwrite and os.path.exists(path) and not os.path.isdir(path):
                    raise OutputError(f"{name}: exists already (--no-overwrite)")
            taken |= dict.fromkeys(known, f"the {what} {name}")


def _is_device(path: Any) -> bool:
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def identities(path: str | Path) -> list[Any]:
    """What two names of one file have in common: the resolved path, and the inode where it exists (hard links)."""
    found: list[Any] = [os.path.normcase(os.path.realpath(path))]
    with contextlib.suppress(OSError):
        status = os.stat(path)
        found += [(status.st_dev, status.st_ino)] if status.st_ino else []
    return found


@contextlib.contextmanager
def output(path: str, *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """``whole_file``; for ``-`` memory, which goes to standard output when the block ends well.

    Some formats are written with seeks, and what failed leaves nothing in a pipe.
    """
    if path != PIPE:
        with whole_file(path, overwrite=overwrite) as file:
            yield file
        return
    memory = io.BytesIO()
    yield memory
    write_stdout(memory.getvalue())


class GrowingFile:
    """A file that grows piece by piece and can be followed. What it has stays, whatever becomes of the rest.

    A context manager. Errors are OutputErrors, which name it, but for a pipe whose reader has gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._named():
            # Unbuffered: a buffer that could not be written would fail again when the file is closed.
            self._file = open(path, "wb", buffering=0)  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> GrowingFile:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._named():
            self._file.close()

    def write(self, text: str) -> None:
        """Put text at the end, in UTF-8."""
        rest = memoryview(text.encode())
        with self._named():
            while rest:
                rest = rest[self._file.write(rest) :]

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror or error}") from error
