"""What a command says: messages for a person, and JSON for a program."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from typing import Any

import click

from igs.format.errors import OutputError


@dataclasses.dataclass
class Console:
    """Messages for a person, on stderr: warnings unless quiet, details if verbose."""

    quiet: bool = False
    verbose: int = 0

    def warn(self, message: str) -> None:
        if not self.quiet:
            click.echo(f"warning: {message}", err=True)

    def note(self, message: str) -> None:
        if not self.quiet:
            click.echo(message, err=True)

    def detail(self, message: str) -> None:
        if self.verbose and not self.quiet:
            click.echo(message, err=True)


def print_result(text: str, *, err: bool = False) -> None:
    """What a command was asked for, on stdout; err: on stderr. Raises OutputError where that was closed (``>&-``).

    click.echo prints nothing then, and says nothing.
    """
    if (sys.stderr if err else sys.stdout) is None:
        raise OutputError(f"standard {'error' if err else 'output'}: closed")
    click.echo(text, err=err)


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON that every parser takes, in ASCII whatever the terminal's encoding; NaN and infinities become null."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return int(value)
    return str(value)
