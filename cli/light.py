"""Picture values for formats that say what theirs mean: linear light for EXR, sRGB integers of high dynamic range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igs.format import Colour, Group, Transfer, each_group
from igs.format.transfer import CURVED, linear_from_srgb, srgb_from_linear

Floats = NDArray[np.float32]
_LIGHT = (Colour.GREY, Colour.RGB, Colour.UNSPECIFIED)


CLIPPED = (
    "{:.1%} of the light is brighter than white or below black and was clipped; "
    "exr, tiff and npy (--bit-depth 32) hold all of it"
)


def has_light(groups: Sequence[Group]) -> bool:
    """Whether some group is linear light that may exceed white (spec §3.4, transfer PQ and log)."""
    return any(group.transfer in CURVED for group in groups)


def linear_light(values: Floats, groups: Sequence[Group]) -> Floats:
    """Picture values [H, W, C] as linear light, in place: sRGB is turned into it."""
    for group, _, lit, _ in each_group(groups):
        if group.transfer == Transfer.SRGB and group.colour in _LIGHT:
            values[..., lit] = linear_from_srgb(values[..., lit])
    return values


def shown(values: Floats, groups: Sequence[Group], depth: int) -> tuple[NDArray[Any], float]:
    """uint8 or uint16 [H, W, C] for a display, and the share of the light that was clipped.

    Light becomes sRGB, 1 being the display's white; groups of other transfers are as they are.
    """
    from igs.decoder.output import to_dtype

    clipped = total = 0
    for group, _, lit, _ in each_group(groups):
        if group.transfer in CURVED:
            colours = values[..., lit]
            clipped += int(np.count_nonzero((colours > 1) | (colours < 0)))
            total += colours.size
            colours[...] = srgb_from_linear(np.clip(colours, 0, 1))
    out = np.empty(values.shape, np.uint8 if depth == 8 else np.uint16)
    to_dtype(values, out)
    return out, clipped / max(total, 1)


def dtype_for(groups: Sequence[Group], depth: int, name: str, raw: bool) -> str:
    """What to decode to for ``for_format``: what is written, unless there is light to be turned into it."""
    from igs.decoder.groups import depth_dtype

    lit = name == "exr" or (depth < 32 and has_light(groups))
    return "float32" if lit and not raw else depth_dtype(depth)


def for_format(
    values: NDArray[Any], groups: Sequence[Group], depth: int, name: str, raw: bool
) -> tuple[NDArray[Any], float]:
    """Picture values [H, W, C] as the format of that name wants them, and the share of the light that was clipped.

    EXR is linear light; integers of light that may exceed white are for a display: sRGB. values: float32, or integers
    that are so already (``dtype_for``).
    """
    from igs.decoder.groups import depth_dtype
    from igs.decoder.output import to_dtype

    if name == "exr" and not raw:
        return linear_light(values, groups), 0.0
    if depth < 32 and has_light(groups) and not raw:
        return shown(values, groups, depth)
    if values.dtype == depth_dtype(depth):
        return values, 0.0
    out = np.empty(values.shape, depth_dtype(depth))
    to_dtype(values, out)
    return out, 0.0
