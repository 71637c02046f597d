"""Light above white for who can show none: pictures of high dynamic range as sRGB integers, sRGB as linear light."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igs.format import Colour, Group, Transfer, each_group
from igs.format.transfer import CURVED, linear_from_srgb, srgb_from_linear

Floats = NDArray[np.float32]
_LIGHT = (Colour.GREY, Colour.RGB, Colour.UNSPECIFIED)


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
