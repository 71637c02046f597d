"""Pictures that the tests of loading make, and what a loaded one is."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from igs.encoder.loading.source import SourceImage
from igs.format import Alpha


def png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png", **options)
    return buffer.getvalue()


def ramp(*shape: int, top: int = 255) -> np.ndarray:
    """Different values everywhere, so that any transposition or channel swap shows."""
    count = int(np.prod(shape))
    return (
        (np.arange(count, dtype=np.float64) * 97 % (top + 1))
        .reshape(shape)
        .astype(np.uint8 if top < 256 else np.uint16)
    )


def kind(source: SourceImage) -> str:
    """The loaded layout in Pillow's terms."""
    (group,) = source.groups
    assert group.channels == source.channels
    assert group.alpha in (Alpha.NONE, Alpha.PREMULTIPLIED)
    return group.colour.name + ("+A" if group.alpha != Alpha.NONE else "")
