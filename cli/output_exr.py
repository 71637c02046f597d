"""Writes OpenEXR pictures: 32-bit float, ZIP-compressed, by the OpenEXR library (extra ``images``)."""

from __future__ import annotations

import importlib
from typing import Any, BinaryIO

import numpy as np

from igs.format.errors import Unsupported

_CHANNELS = {"L": ("Y",), "LA": ("Y", "A"), "RGB": ("R", "G", "B"), "RGBA": ("R", "G", "B", "A")}


def write_exr(file: BinaryIO, pixels: Any, layout: str, density: tuple[float, float] | None) -> None:
    """Write float32 [H, W, C], linear light with straight alpha, which is multiplied in as the format has it.

    Channels of no colour model are named c00, c01, …. density: dots per inch. Raises Unsupported where the
    library is missing.
    """
    try:
        library = importlib.import_module("OpenEXR")
    except ImportError as error:
        raise Unsupported(
            'writing EXR needs the OpenEXR library: pip install "igs-codec[images]"; npy works without'
        ) from error
    names = _CHANNELS.get(layout) or tuple(f"c{number:02}" for number in range(pixels.shape[2]))
    if layout in ("LA", "RGBA"):
        pixels = np.concatenate([pixels[..., :-1] * pixels[..., -1:], pixels[..., -1:]], axis=-1)
    header: dict[str, Any] = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage}
    if density is not None:
        header |= {"xDensity": density[0], "pixelAspectRatio": density[1] / density[0]}
    planes = {name: np.ascontiguousarray(pixels[..., number]) for number, name in enumerate(names)}
    library.File(header, planes).write(file)
