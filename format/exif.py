"""EXIF blocks (spec §10, ``exif``) and the first directory of a TIFF file: what loading and writing pictures share.

Blocks are changed by as few bytes as can be: in place, or by a directory behind all else, so that maker notes and
thumbnails, whose offsets a rewrite would break, stay as and where they were. Pillow reads what tags say, and is loaded
where that is asked for.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 0x0112
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
# Of a TIFF file, whose first directory is mixed up with the layout of its pixels, only these go into the EXIF section.
# description, make, model, software, date, artist, copyright
DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
SUB_DIRECTORIES = (0x8769, 0x8825)  # EXIF, GPS
_ORDER = {b"II*\0": "<", b"MM\0*": ">"}  # byte order, by the first bytes
_EMPTY = b"II*\0\x08\0\0\0" + bytes(6)  # an EXIF block whose one directory has no entries


def copy_descriptive(
    kept: Image.Exif, source: Mapping[int, Any], directory: Callable[[int], Mapping[int, Any]]
) -> None:
    """Copy what describes a picture from a TIFF directory, and its EXIF and GPS directories, as ``directory`` has them.

    Nothing is copied that could contradict the layout of the pixels.
    """
    for tag in DESCRIPTIVE:
        if tag in source:
            kept[tag] = source[tag]
    for tag in SUB_DIRECTORIES:
        found = directory(tag)
        if found:
            kept.get_ifd(tag).update(found)
            kept[tag] = kept.get_ifd(tag)


def with_resolution(block: bytes, x: float, y: float) -> bytes:
    """An EXIF block (TIFF header first) that states a resolution, in dots per inch to a tenth.

    All else stays as and where it was. Anything that isn't an EXIF block is replaced by one.
    """
    from PIL import Image

    if block[:4] not in _ORDER:
        block = _EMPTY
    stated = Image.Exif()
    with contextlib.suppress(Exception):  # a damaged block: the entries are added as far as it can be read
        stated.load(block)
        if [stated.get(tag) for tag in (X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT)] == [x, y, 2]:
            return block
    order = _ORDER[block[:4]]
    file = io.BytesIO(block)
    at = file.seek(0, os.SEEK_END)
    file.write(struct.pack(order + "4I", round(10 * x), 10, round(10 * y), 10))
    places = {X_RESOLUTION: (5, at), Y_RESOLUTION: (5, at + 8)}  # RATIONAL
    entries = {tag: struct.pack(order + "HHII", tag, kind, 1, value) for tag, (kind, value) in places.items()}
    entries[RESOLUTION_UNIT] = struct.pack(order + "HHIH2x", RESOLUTION_UNIT, 3, 1, 2)  # SHORT, inches
    try:
        add_entries(file, entries)
    except struct.error:
        return with_resolution(_EMPTY, x, y)
    return file.getvalue()


def add_entries(file: BinaryIO, entries: Mapping[int, bytes]) -> None:
    """Add entries of 12 bytes, or put them in the place of others, to the first directory of a TIFF or EXIF block.

    The directory is written anew behind all else, so that what others point to, maker notes with offsets of their own
    among it, stays where it was. Raises struct.error for what is no such file.
    """
    file.seek(0)
    head = file.read(8)
    order = _ORDER.get(head[:4], "<")
    (start,) = struct.unpack_from(order + "I", head, 4)
    file.seek(start)
    (count,) = struct.unpack(order + "H", file.read(2))
    rows, following = file.read(12 * count), file.read(4)
    struct.unpack(order + "I", following)  # it is there, and so are the rows
    known = {struct.unpack_from(order + "H", rows, at)[0]: rows[at : at + 12] for at in range(0, len(rows), 12)}
    found = known | dict(entries)
    end = file.seek(0, os.SEEK_END)
    file.write(bytes(end % 2) + struct.pack(order + "H", len(found)))
    file.write(b"".join(found[tag] for tag in sorted(found)) + following)
    file.seek(4)
    file.write(struct.pack(order + "I", end + end % 2))
    file.seek(0, os.SEEK_END)


def upright_exif(block: bytes) -> bytes:
    """An EXIF block (TIFF header first) with the orientation tag of its first directory set to 1.

    Anything that isn't such a block becomes empty.
    """
    order = _ORDER.get(block[:4])
    if order is None or len(block) < 10:
        return b""
    (start,) = struct.unpack_from(order + "I", block, 4)
    if start + 2 > len(block):
        return b""
    (count,) = struct.unpack_from(order + "H", block, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", block, entry)
        if tag == ORIENTATION:
            # SHORT as the standard has it, but LONG (and BYTE) are met in the wild.
            form = {1: "B3x", 3: "H2x", 4: "I"}.get(kind)
            if form is not None:
                one = struct.pack(order + form, 1)
                return block[: entry + 8] + one + block[entry + 12 :]
    return block
