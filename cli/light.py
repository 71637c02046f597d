"""Picture values for formats that say what theirs mean: linear light for EXR, sRGB integers of high dynamic range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igs.format import Alpha, Colour, Group, Transfer
from igs.format.transfer import CURVED, linear_from_srgb, srgb_from_linear

Floats = NDArray[np.float32]
_LIGHT = (Colour.GREY, Colour.RGB, Colour.UNSPECIFIED)


def has_light(groups: Sequence[Group]) -> bool:
    """Whether some group is linear light that may exceed white (spec §3.4, transfer PQ and log)."""
    return any(group.transfer in CURVED for group in groups)


def linear_light(values: Floats, groups: Sequence[Group]) -> Floats:
    """Picture values [H, W, C] as linear light, in place: sRGB is turned into it."""
    for group, colours in _parts(values, groups):
        if group.transfer == Transfer.SRGB and group.colour in _LIGHT:
            colours[...] = linear_from_srgb(colours)
    return values


def shown(values: Floats, groups: Sequence[Group], depth: int) -> tuple[NDArray[Any], float]:
    """uint8 or uint16 [H, W, C] for a display, and the share of the light that was clipped.

    Light becomes sRGB, 1 being the display's white; groups of other transfers are as they are.
    """
    from igs.decoder.output import to_dtype

    clipped = total = 0
    for group, colours in _parts(values, groups):
        if group.transfer in CURVED:
            clipped += int(np.count_nonzero((colours > 1) | (colours < 0)))
            total += colours.size
            colours[...] = srgb_from_linear(np.clip(colours, 0, 1))
    out = np.empty(values.shape, np.uint8 if depth == 8 else np.uint16)
    to_dtype(values, out)
    return out, clipped / max(total, 1)


def _parts(values: Floats, groups: Sequence[Group]) -> Iterator[tuple[Group, Floats]]:
    """Each group with its colours, without alpha, as views."""
    start = 0
    for group in groups:
        end = start + group.channels
        yield group, values[..., start : end - (group.alpha != Alpha.NONE)]
        start = end
