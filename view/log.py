"""The log of an encode: JSON lines as ``igs-encode --log`` writes them, checked line by line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from igs.format.errors import InputError

_LONGEST = 1 << 28  # bytes: a line per step of a very long fit is a hundredth of it


class Entry(NamedTuple):
    """One line. psnr: dB of the fit before quantisation, None where not measured."""

    step: int
    num_gaussians: int
    loss: float
    psnr: float | None
    seconds: float


def read_log(source: str | bytes, name: str) -> list[Entry]:
    """The entries of a log, by path or as bytes. Raises InputError with the number of the line that is at fault."""
    if isinstance(source, bytes):
        data = source
    else:
        try:
            with Path(source).open("rb") as file:
                data = file.read(_LONGEST + 1)
        except OSError as error:
            raise InputError(f"{name}: {error.strerror or error}") from error
    if len(data) > _LONGEST:
        raise InputError(f"{name}: expected a log of at most {_LONGEST} bytes")
    found = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            found.append(_entry(row))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            expected = "expected an object with step, num_gaussians, loss, psnr and seconds (igs-encode --log)"
            raise InputError(f"{name}: line {number}: {expected}, found {line[:60]!r}") from error
    if not found:
        raise InputError(f"{name}: expected a log of igs-encode --log, found no line")
    return found


def _entry(row: dict[str, Any]) -> Entry:
    def number(key: str) -> float:
        value = row[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(key)
        return float(value)

    psnr = None if row["psnr"] is None else number("psnr")
    loss = math.nan if row["loss"] is None else number("loss")
    return Entry(int(number("step")), int(number("num_gaussians")), loss, psnr, number("seconds"))
