"""Writes 16-bit PNG (grey, grey with alpha, RGB, RGBA), most of which Pillow can't.

Source: the PNG specification, third edition, sections 5 (chunks), 7 and 9 (scanlines and filters). Not interlaced.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from igs.format.sections import resolution

_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # by number of channels
_STRIP = 64  # rows filtered at once: bounds the memory, large enough for NumPy to be quick


def write_png16(file: BinaryIO, pixels: NDArray[np.uint16], sections: Mapping[str, bytes], level: int = 6) -> None:
    """Write pixels [H, W, C], C 1–4 (of 2 and 4 the last is alpha), with sections ``iccp exif xmpd phys``.

    level: of zlib's compression, 0–9.
    """
    height, width, channels = pixels.shape
    file.write(b"\x89PNG\r\n\x1a\n")
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPE[channels], 0, 0, 0))
    if "iccp" in sections:
        _chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(sections["iccp"]))
    density = resolution(sections)
    if density is not None:
        _chunk(file, b"pHYs", struct.pack(">IIB", *density, 1))
    if "exif" in sections:
        _chunk(file, b"eXIf", sections["exif"])
    if "xmpd" in sections:
        _chunk(file, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + sections["xmpd"])
    deflate = zlib.compressobj(level)
    above = np.zeros((1, 2 * width * channels), np.uint8)
    for first in range(0, height, _STRIP):
        rows = pixels[first : first + _STRIP].astype(">u2").reshape(-1, width * channels).view(np.uint8)
        packed = deflate.compress(_filtered(rows, above, 2 * channels))
        if packed:
            _chunk(file, b"IDAT", packed)
        above = rows[-1:]
    _chunk(file, b"IDAT", deflate.flush())
    _chunk(file, b"IEND", b"")


def _chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))


def _filtered(rows: NDArray[np.uint8], above: NDArray[np.uint8], step: int) -> bytes:
    """Rows [n, bytes], each behind the number of the filter that gives it the smallest sum of absolute differences."""
    x = rows.astype(np.int16)
    up = np.concatenate([above, rows[:-1]]).astype(np.int16)
    left, corner = np.zeros_like(x), np.zeros_like(x)
    left[:, step:], corner[:, step:] = x[:, :-step], up[:, :-step]
    # Paeth: whichever of left, up, corner is nearest to left + up − corner, in this order when equal
    to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    nearest_up = np.where(to_up <= to_corner, up, corner)
    paeth = np.where((to_left <= to_up) & (to_left <= to_corner), left, nearest_up)
    candidates = np.stack([(x - p).astype(np.uint8) for p in (np.zeros_like(x), left, up, (left + up) >> 1, paeth)])
    cost = abs(candidates.view(np.int8).astype(np.int32)).sum(axis=2)  # [5, n]
    best = cost.argmin(axis=0)
    chosen = candidates[best, np.arange(len(rows))]
    return np.concatenate([best[:, None].astype(np.uint8), chosen], axis=1).tobytes()
