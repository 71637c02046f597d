"""How a decoded picture is judged: its values as users get them, and as errors count in them.

For the encoder, the report and the commands; no decode needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from igs.format.transfer import CURVED, from_linear

if TYPE_CHECKING:
    from igs.decoder.image import Image
    from igs.format import Group

Values = npt.NDArray[np.float32]


def rounded(image: Image, bit_depth: int, times: float = 1, level: int | None = None) -> Values:
    """A whole picture's values [H, W, C] as a user gets them at its source's depth, as float32: what is measured.

    times: enlarged so many times.
    """
    if bit_depth == 32:
        return np.asarray(image.decode(times, level, "float32"), np.float32)
    dtype, top = ("uint8", 255) if bit_depth == 8 else ("uint16", 65535)
    return image.decode(times, level, dtype).astype(np.float32) / np.float32(top)


def compared(values: Values, groups: Sequence[Group]) -> Values:
    """Picture values [..., C] as errors are measured: colours times their alpha, light by its curve.

    A colour that can't be seen counts for nothing so, and light above white for no more than its code does.
    """
    from igs.format import Alpha, each_group

    if all(group.alpha == Alpha.NONE and group.transfer not in CURVED for group in groups):
        return values
    found = np.array(values, np.float32)
    for group, _, lit, alpha in each_group(groups):
        colours = found[..., lit]
        if group.transfer in CURVED:
            colours[...] = from_linear(colours, group.transfer)
        if alpha is not None:
            colours *= found[..., alpha]
    return found
