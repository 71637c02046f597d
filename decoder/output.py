"""Stored values → picture values → integers (spec §8.3): alpha undone, gamma, transfer, clamping, rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from igs.format.errors import UsageError
from igs.format.fields import MIN_ALPHA
from igs.format.transfer import CURVED, srgb_from_linear, to_linear

if TYPE_CHECKING:
    from igs.format import Group

Values = npt.NDArray[np.float32]

_MIN_LENGTH = 2.0**-8  # of a vector: below it its direction is rounding noise
_DTYPES = ("uint8", "uint16", "float32")


def output_dtype(dtype: Any) -> np.dtype[Any]:
    """uint8, uint16 or float32 by name, type or dtype; UsageError for anything else."""
    try:
        found: np.dtype[Any] | None = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.name not in _DTYPES or not found.isnative:
        raise UsageError(f"dtype: expected {', '.join(_DTYPES)}, found {dtype!r}")
    return found


def result_array(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """``out`` if it is fit to take the result, a new array if it is None; UsageError otherwise."""
    if out is None:
        try:
            return np.empty(shape, dtype)
        except (MemoryError, ValueError):
            raise UsageError(f"scale: a result of {shape} {dtype} values does not fit into memory") from None
    expected = f"out: expected a writable C-contiguous {dtype} array of shape {list(shape)}, found "
    if not isinstance(out, np.ndarray):
        raise UsageError(expected + type(out).__name__)
    if out.shape != shape or out.dtype != dtype or not out.flags.carray:
        fit = "" if out.flags.carray else ", not C-contiguous or read-only"
        raise UsageError(f"{expected}{out.dtype} of shape {list(out.shape)}{fit}")
    return out


def is_plain(groups: Sequence[Group]) -> bool:
    """Whether stored values are picture values already."""
    from igs.format import Alpha

    return all(
        group.gamma == 1 and group.alpha != Alpha.PREMULTIPLIED and group.transfer not in CURVED for group in groups
    )


def to_picture(values: Values, groups: Sequence[Group]) -> None:
    """Turn stored values [..., C] into picture values in place: straight alpha, the source's transfer; not clamped."""
    from igs.format import Alpha, each_group

    for group, _, lit, opacity in each_group(groups):
        colours = values[..., lit]
        if group.alpha == Alpha.PREMULTIPLIED:
            alpha = values[..., opacity]
            known = alpha >= np.float32(MIN_ALPHA)
            np.divide(colours, alpha, out=colours, where=known)
            np.copyto(colours, np.float32(0), where=~known)
        if group.gamma != 1:
            np.power(np.maximum(colours, np.float32(0)), np.float32(group.gamma), out=colours)
        if group.transfer in CURVED:
            colours[...] = to_linear(colours, group.transfer)


def visible(pixels: npt.ArrayLike, groups: Sequence[Group], number: int = 0, paper: float = 1.0) -> Values:
    """Picture values [..., C] with straight alpha as RGB in [0, 1], float32 [..., 3]: the colours of one group.

    Alpha is laid over ``paper``; grey is repeated; of a group of other channels the first three, or the first, count.
    Light of high dynamic range is shown as sRGB, clipped at white.
    """
    from igs.format import Alpha, Colour, each_group

    group, whole, *_ = list(each_group(groups))[number]
    values = np.asarray(pixels, np.float32)[..., whole]
    colours = group.channels - (group.alpha != Alpha.NONE)
    if group.colour == Colour.CMYK and colours >= 4:
        rgb = (1 - values[..., :3]) * (1 - values[..., 3:4])  # 1 is all ink
    elif colours >= 3:
        rgb = values[..., :3]
    else:
        rgb = np.repeat(values[..., :1], 3, axis=-1)
    if group.transfer in CURVED:
        rgb = srgb_from_linear(rgb).astype(np.float32)
    if group.alpha != Alpha.NONE:
        alpha = np.clip(values[..., group.channels - 1 : group.channels], 0.0, 1.0)
        rgb = rgb * alpha + np.float32(paper) * (1 - alpha)
    clipped: Values = np.clip(rgb, 0.0, 1.0).astype(np.float32)
    return clipped


def visible_stored(stored: npt.ArrayLike, groups: Sequence[Group]) -> Values:
    """Stored values [..., C] as they look, ``visible``: of what has not become a file yet."""
    values = np.array(stored, np.float32)
    to_picture(values, groups)
    return visible(values, groups)


def to_dtype(values: Values, out: npt.NDArray[Any]) -> None:
    """Write picture values into ``out`` (uint8, uint16 or float32, same shape, C-contiguous)."""
    if out.dtype == np.float32:
        out[...] = values
        return
    from igs.decoder.convert import to_unsigned

    to_unsigned(np.ascontiguousarray(values).reshape(-1), out.reshape(-1))


def normal_channels(groups: Sequence[Group]) -> list[slice]:
    """Where the vectors of normal maps stand among the groups' channels."""
    from igs.format import Colour, each_group

    return [part.colours for part in each_group(groups) if part.group.colour == Colour.NORMAL]


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
