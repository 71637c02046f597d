"""Picture values as an output format means them: linear light in EXR, sRGB integers of high dynamic range elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igs.decoder.light import has_light, linear_light, shown
from igs.format import Group

CLIPPED = (
    "{:.1%} of the light is brighter than white or below black and was clipped; "
    "exr, tiff and npy (--bit-depth 32) hold all of it"
)


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
