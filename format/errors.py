"""Errors: everything that igs raises on purpose, and the exit code each becomes on the command line.

A message says what was expected, what was found, and where. ``InvalidFile`` carries one of the codes of spec §13.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable


class IgsError(Exception):
    """Base of all errors that igs raises on purpose. ``exit_code`` is what the commands return for it."""

    exit_code = 4


class IgsWarning(UserWarning):
    """What went otherwise than one would think, told as Python tells it: to those who give no ``on_warning``."""


class UsageError(IgsError, ValueError):
    """An argument or option that makes no sense (exit 1)."""

    exit_code = 1


class InputError(IgsError):
    """A file that can't be read or written, or an image that can't be decoded (exit 2)."""

    exit_code = 2


class OutputError(InputError):
    """A file that can't be written (exit 2); the message names it."""


class InvalidFile(IgsError):
    """The bytes are not a valid .igs file (exit 3).

    code: name of the error in spec §13, such as ``E_SIGNATURE``. offset: the byte in the file that shows it, or None.
    """

    exit_code = 3
    expected = ""  # the two halves of the message, for reports
    found = ""

    def __init__(self, code: str, message: str, offset: int | None = None) -> None:
        self.code = code
        self.message = message
        self.offset = offset
        where = "" if offset is None else f" (at byte {offset})"
        super().__init__(f"{code}: {message}{where}")


class LimitExceeded(InvalidFile):
    """A valid-looking file asks for more than a limit of spec §12 allows (exit 3). The limit can be raised."""


class Unsupported(IgsError):
    """What this installation or output format can't do: a missing library, a field value of the future (exit 5)."""

    exit_code = 5


class UnsupportedFile(InvalidFile, Unsupported):
    """A file that may be valid, but uses a version, section, codec or field value that this reader lacks (exit 5)."""

    exit_code = 5


def teller(on_warning: Callable[[str], None] | None) -> Callable[[str], None]:
    """Who is told of warnings: ``on_warning``, else Python, as an :class:`IgsWarning` where igs was called from."""
    return on_warning or _warn


def _warn(message: str) -> None:
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "igs":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, IgsWarning, stacklevel=level)
