"""Collects what travels beside the pixels — ICC profile, EXIF block, XMP packet, resolution — as sections of spec §10.

The orientation is taken out here (the loader applies it to the pixels) and the tag reset to 1
(:mod:`igs.format.exif`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, BinaryIO

from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from igs.format.exif import ORIENTATION, RESOLUTION_UNIT, X_RESOLUTION, Y_RESOLUTION, copy_descriptive, upright_exif
from igs.format.limits import Limits
from igs.format.sections import METRES_PER_INCH, content_problem, phys_section

SECTION_LIMIT = int(Limits.section_bytes)  # that readers accept by default
_SIDEWAYS = range(5, 9)  # orientations that exchange width and height
_CALLED = {"exif": "EXIF data", "iccp": "ICC profile", "phys": "resolution", "xmpd": "XMP packet"}


@dataclasses.dataclass(frozen=True)
class Metadata:
    """sections by type; orientation 1–8 as in EXIF, still to be applied to the pixels."""

    sections: dict[str, bytes]
    orientation: int


def oriented(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels [H, W, C] turned as EXIF orientation 1–8 asks, a view where possible."""
    if orientation in _SIDEWAYS:
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def read_metadata(image: Image.Image, name: str, notes: list[str]) -> Metadata:
    """Sections and orientation of a loaded Pillow image, still to be checked (:func:`sound_sections`).

    EXIF data that can't be read is left out, with a note; it never raises.
    """
    sections: dict[str, bytes] = {}
    try:
        orientation = int(image.getexif().get(ORIENTATION, 1))
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
        packet = packet.encode(errors="surrogatepass")  # what is then no UTF-8 is found by the check
    if isinstance(packet, bytes) and packet:
        sections["xmpd"] = upright_xmp(packet)
    sections |= _resolution(image, orientation)
    return Metadata(sections, orientation if 1 <= orientation <= 8 else 1)


def sound_sections(sections: Mapping[str, bytes], name: str, notes: list[str]) -> dict[str, bytes]:
    """Those that readers accept (spec §10, §12); the others are left out, each with a note."""
    sound = {}
    for kind, data in sections.items():
        problem = content_problem(kind, data)
        if len(data) > SECTION_LIMIT:
            notes.append(f"{name}: metadata of {len(data)} bytes is above the limit and was left out")
        elif problem is not None:
            called = _CALLED.get(kind, f"section {kind}")
            notes.append(f"{name}: the {called} is damaged and was left out: expected {problem[0]}, found {problem[1]}")
        else:
            sound[kind] = data
    return sound


def _resolution(image: Image.Image, orientation: int) -> dict[str, bytes]:
    """The file's own. Pillow reports 72 dpi for a JPEG and 1 for a TIFF that state none; EXIF travels by itself."""
    info = image.info
    found, unit = info.get("dpi"), 1 / METRES_PER_INCH
    if image.format == "JPEG":
        found = info.get("jfif_density") if info.get("jfif_unit") in (1, 2) else None
        unit = 100.0 if info.get("jfif_unit") == 2 else unit
    sideways = orientation in _SIDEWAYS
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if tags.get(296) not in (2, 3):  # no unit: a ratio
            return {}
        # Pillow turns a TIFF as it loads it, forgets the tag, and leaves the resolution; a square one shows no trace.
        width, height = tags.get(256, 0), tags.get(257, 0)
        sideways = sideways or (width > height and image.width < image.height)
        sideways = sideways or (width < height and image.width > image.height)
    return _phys(found or (0, 0), unit, sideways)


def _phys(found: tuple[Any, Any], unit: float, sideways: bool) -> dict[str, bytes]:
    """The section of a resolution across and down, as stored, in ``unit`` per metre; sideways: to be turned."""
    try:
        x, y = (float(v) * unit for v in found)
    except (TypeError, ValueError, ZeroDivisionError):  # a damaged rational
        return {}
    return phys_section(y, x) if sideways else phys_section(x, y)


def read_tiff_metadata(file: BinaryIO, name: str, notes: list[str]) -> dict[str, bytes]:
    """EXIF and resolution of a TIFF that Pillow has no mode for. What is damaged is left out, with a note."""
    kept, sections = Image.Exif(), {}
    try:
        file.seek(0)
        head = file.read(8)
        head += file.read(8) if head[2:4] in (b"+\0", b"\0+") else b""  # BigTIFF

        def directory(tag: int) -> ImageFileDirectory_v2:
            found = ImageFileDirectory_v2(head, group=tag or None)
            at = found.next if tag == 0 else first.get(tag)
            if at is not None:
                file.seek(at)
                found.load(file)
            return found

        first = directory(0)
        copy_descriptive(kept, first, directory)
        unit = {2: 1 / METRES_PER_INCH, 3: 100.0}.get(first.get(RESOLUTION_UNIT, 0))
        if unit is not None:
            found = first.get(X_RESOLUTION, 0), first.get(Y_RESOLUTION, 0)
            sections = _phys(found, unit, first.get(ORIENTATION, 1) in _SIDEWAYS)
        exif = upright_exif(kept.tobytes().removeprefix(b"Exif\0\0")) if len(kept) else b""
    except Exception:  # as below
        notes.append(f"{name}: the EXIF data is damaged and was left out")
        return {}
    return sections | ({"exif": exif} if exif else {})


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
        copy_descriptive(kept, source, source.get_ifd)
        source = kept
    return source.tobytes() if len(source) else b""


def upright_xmp(packet: bytes) -> bytes:
    """An XMP packet with the orientation that it states set to 1."""
    return re.sub(rb"""(tiff:Orientation\s*(?:=\s*["']|>\s*))[2-8]""", rb"\g<1>1", packet)
