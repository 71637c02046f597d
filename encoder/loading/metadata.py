"""Collects what travels beside the pixels — ICC profile, EXIF block, XMP packet, resolution — as sections of spec §10.

The orientation is taken out here (the loader applies it to the pixels) and the tag reset to 1, in the EXIF bytes in
place, so that maker notes and thumbnails, whose offsets a rewrite would break, stay as they were.
"""

from __future__ import annotations

import dataclasses
import re
import struct
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from igs.format.sections import METRES_PER_INCH, phys_section

SECTION_LIMIT = 2**24  # bytes of one section that readers accept by default (spec §12)
_ORIENTATION = 0x0112
# Of a TIFF file, whose first directory is mixed up with the layout of its pixels, only these go into the EXIF section.
# description, make, model, software, date, artist, copyright
_DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
_SUB_DIRECTORIES = (0x8769, 0x8825)  # EXIF, GPS


@dataclasses.dataclass(frozen=True)
class Metadata:
    """sections by type; orientation 1–8 as in EXIF, still to be applied to the pixels."""

    sections: dict[str, bytes]
    orientation: int


def oriented(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels [H, W, C] turned as EXIF orientation 1–8 asks, a view where possible."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def read_metadata(image: Image.Image, name: str, notes: list[str]) -> Metadata:
    """Sections and orientation of a loaded Pillow image. Damaged metadata is left out, with a note; it never raises."""
    sections: dict[str, bytes] = {}
    try:
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF raises anything from struct.error to SyntaxError
        orientation = 1
        notes.append(f"{name}: the EXIF data is damaged and was left out")
    else:
        exif = _exif(image)
        if exif:
            sections["exif"] = exif
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes) and profile:
        sections["iccp"] = profile
    packet = image.info.get("xmp", image.info.get("XML:com.adobe.xmp"))
    if isinstance(packet, str):
        packet = packet.encode()
    if isinstance(packet, bytes) and packet:
        pattern = rb"""(tiff:Orientation\s*(?:=\s*["']|>\s*))[2-8]"""
        sections["xmpd"] = re.sub(pattern, rb"\g<1>1", packet)
    sections |= _resolution(image, orientation)
    for key in [key for key, value in sections.items() if len(value) > SECTION_LIMIT]:
        notes.append(f"{name}: metadata of {len(sections.pop(key))} bytes is above the limit and was left out")
    return Metadata(sections, orientation if 1 <= orientation <= 8 else 1)


def _resolution(image: Image.Image, orientation: int) -> dict[str, bytes]:
    """The file's own. Pillow reports 72 dpi for a JPEG and 1 for a TIFF that state none; EXIF travels by itself."""
    info = image.info
    found, unit = info.get("dpi"), 1 / METRES_PER_INCH
    if image.format == "JPEG":
        found = info.get("jfif_density") if info.get("jfif_unit") in (1, 2) else None
        unit = 100.0 if info.get("jfif_unit") == 2 else unit
    if image.format == "TIFF" and image.tag_v2.get(296) not in (2, 3):  # type: ignore[attr-defined]  # no unit: a ratio
        return {}
    try:
        x, y = (float(v) * unit for v in found or (0, 0))
    except (TypeError, ValueError, ZeroDivisionError):  # a damaged rational
        return {}
    return phys_section(y, x) if orientation in range(5, 9) else phys_section(x, y)


def _exif(image: Image.Image) -> bytes:
    block = image.info.get("exif")
    if not isinstance(block, bytes) or not block:
        block = _rewritten(image)
    if block.startswith(b"Exif\0\0"):
        block = block[6:]
    return upright_exif(block)


def _rewritten(image: Image.Image) -> bytes:
    """EXIF that the file has in another form (PNG text, TIFF directories) as a block; empty if there is none."""
    source = image.getexif()
    if image.format == "TIFF":
        kept = Image.Exif()
        for tag in _DESCRIPTIVE:
            if tag in source:
                kept[tag] = source[tag]
        for tag in _SUB_DIRECTORIES:
            directory = source.get_ifd(tag)
            if directory:
                kept.get_ifd(tag).update(directory)
                kept[tag] = kept.get_ifd(tag)
        source = kept
    return source.tobytes() if len(source) else b""


def upright_exif(block: bytes) -> bytes:
    """An EXIF block (TIFF header first) with the orientation tag of its first directory set to 1.

    Anything that isn't such a block becomes empty.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 10:
        return b""
    (start,) = struct.unpack_from(order + "I", block, 4)
    if start + 2 > len(block):
        return b""
    (count,) = struct.unpack_from(order + "H", block, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", block, entry)
        if tag == _ORIENTATION:
            # SHORT as the standard has it, but LONG (and BYTE) are met in the wild.
            form = {1: "B3x", 3: "H2x", 4: "I"}.get(kind)
            if form is not None:
                one = struct.pack(order + form, 1)
                return block[: entry + 8] + one + block[entry + 12 :]
    return block
