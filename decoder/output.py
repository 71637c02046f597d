"""Stored values → picture values → integers (spec §8.3): alpha undone, gamma, transfer, clamping, rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from igs.format.errors import UsageError
from igs.format.transfer import CURVED, to_linear

if TYPE_CHECKING:
    from igs.format import Group

Values = npt.NDArray[np.float32]

_MIN_ALPHA = 2.0**-9  # below it a premultiplied colour says nothing
_MIN_LENGTH = 2.0**-8  # of a vector: below it its direction is rounding noise
_DTYPES = ("uint8", "uint16", "float32")


def output_dtype(dtype: Any) -> np.dtype[Any]:
    """uint8, uint16 or float32 by name, type or dtype; UsageError for anything else."""
    try:
        found: np.dtype[Any] | None = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.name not in _DTYPES:
        raise UsageError(f"dtype: expected {', '.join(_DTYPES)}, found {dtype!r}")
    return found


def is_plain(groups: Sequence[Group]) -> bool:
    """Whether stored values are picture values already."""
    from igs.format import Alpha

    return all(
        group.gamma == 1 and group.alpha != Alpha.PREMULTIPLIED and group.transfer not in CURVED for group in groups
    )


def to_picture(values: Values, groups: Sequence[Group]) -> None:
    """Turn stored values [..., C] into picture values in place: straight alpha, the source's transfer; not clamped."""
    from igs.format import Alpha

    start = 0
    for group in groups:
        end = start + group.channels
        colours = values[..., start : end - (group.alpha != Alpha.NONE)]
        if group.alpha == Alpha.PREMULTIPLIED:
            alpha = values[..., end - 1 : end]
            visible = alpha >= np.float32(_MIN_ALPHA)
            np.divide(colours, alpha, out=colours, where=visible)
            np.copyto(colours, np.float32(0), where=~visible)
        if group.gamma != 1:
            np.power(np.maximum(colours, np.float32(0)), np.float32(group.gamma), out=colours)
        if group.transfer in CURVED:
            colours[...] = to_linear(colours, group.transfer)
        start = end


def to_dtype(values: Values, out: npt.NDArray[Any]) -> None:
    """Write picture values into ``out`` (uint8, uint16 or float32, same shape, C-contiguous)."""
    if out.dtype == np.float32:
        out[...] = values
        return
    from igs.decoder.convert import to_unsigned

    to_unsigned(np.ascontiguousarray(values).reshape(-1), out.reshape(-1))


def normal_channels(groups: Sequence[Group]) -> list[slice]:
    """Where the vectors of normal maps stand among the groups' channels."""
    from igs.format import Colour

    found, start = [], 0
    for group in groups:
        if group.colour == Colour.NORMAL:
            found.append(slice(start, start + 3))
        start += group.channels
    return found


def renormalize(values: Values) -> None:
    """Give vectors stored as (v + 1)/2 in [..., 3] the length 1, in place; one without direction becomes (0, 0, 1)."""
    values *= 2
    values -= 1
    length = np.sqrt((values.astype(np.float64) ** 2).sum(axis=-1, keepdims=True))
    known = length > _MIN_LENGTH
    np.divide(values, length, out=values, where=known, casting="same_kind")
    np.copyto(values, np.array([0, 0, 1], np.float32), where=~known)
    values += 1
    values /= 2
