"""Files that a fit writes on the way: each appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from igs.format.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name beside ``path``, of the same suffix, to write to; it takes the place of ``path`` at the end.

    Raises InputError where it can't be written.
    """
    temporary = path.with_name(f"{path.stem}.tmp{path.suffix}")
    try:
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
