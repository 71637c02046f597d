"""Sections (spec §10): the table of metadata blocks, their order, and which of them a reader has to know.

The bytes themselves stay as they are; only ``content_problem`` looks inside, and ``parse_json``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from igs.format.error_codes import invalid
from igs.format.errors import UsageError
from igs.format.fields import SECTION_ENTRY_BYTES
from igs.format.limits import Limits

ENTRY = struct.Struct("<4sIIB3s")
PHYS = struct.Struct("<II")  # pixels per metre, x and y
INLINE, TAIL = 0, 1
KNOWN_CRITICAL: tuple[str, ...] = ()
_DIGITS = 400  # of an integer in JSON; Python reads longer ones slowly, or not at all
INLINE_BYTES = 256  # what a writer puts into the head: small enough not to weigh on a reader of one pixel
assert ENTRY.size == SECTION_ENTRY_BYTES


class SectionEntry(NamedTuple):
    """One row of the table. offset: where its bytes are in the file."""

    type: str
    bytes: int
    crc: int
    place: int
    offset: int

    @property
    def critical(self) -> bool:
        """Whether a reader that does not know the type must refuse the file."""
        return self.type[0].isupper()


def section_name(name: str | bytes) -> str:
    """The type as text; raises UsageError unless it is four ASCII letters."""
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    if not (isinstance(text, str) and len(text) == 4 and text.isascii() and text.isalpha()):
        raise UsageError(f"section type: expected four ASCII letters, found {text!r}")
    return text


class Section(NamedTuple):
    """A section to be written."""

    type: str
    data: bytes
    place: int


def arrange(sections: Mapping[str, bytes] | Mapping[bytes, bytes] | Mapping[str | bytes, bytes]) -> list[Section]:
    """Sections in the order of the table: inline first (critical and small ones), ascending by type."""
    found: dict[str, Section] = {}
    for key, data in sections.items():
        name = section_name(key)
        if name in found:
            raise UsageError(f"sections: type {name!r} given twice")
        data = bytes(data)
        place = INLINE if name[0].isupper() or len(data) <= INLINE_BYTES else TAIL
        found[name] = Section(name, data, place)
    if len(found) > 255:
        raise UsageError(f"sections: expected at most 255, found {len(found)}")
    return in_order(found.values())


def in_order(sections: Iterable[Section]) -> list[Section]:
    """The order of the table."""
    return sorted(sections, key=lambda s: (s.place, s.type))


METRES_PER_INCH = 0.0254


def phys_section(x: float, y: float) -> dict[str, bytes]:
    """The section ``phys`` of a resolution in pixels per metre; nothing for one that its fields can't hold."""
    numbers = [round(v) if 0.5 < v < 2**32 - 1 else 0 for v in (x, y)]
    return {"phys": PHYS.pack(*numbers)} if all(numbers) else {}


def resolution(sections: Mapping[str, bytes]) -> tuple[int, int] | None:
    """Pixels per metre along x and y, as ``phys`` has it; None if it is missing or damaged."""
    data = sections.get("phys", b"")
    return None if len(data) != PHYS.size or not all(PHYS.unpack(data)) else PHYS.unpack(data)


def resolution_per_inch(sections: Mapping[str, bytes]) -> tuple[float, float] | None:
    """The same in pixels per inch."""
    found = resolution(sections)
    return None if found is None else (found[0] * METRES_PER_INCH, found[1] * METRES_PER_INCH)


def parse_table(table: bytes, offset: int, limits: Limits) -> list[SectionEntry]:
    """The table's rows, whose offsets are not known yet (0). offset: of the table in the file.

    Each is judged field by field, so that what is told is what stands first (spec §13).
    """
    rows: list[SectionEntry] = []
    names: set[str] = set()
    for at in range(0, len(table), SECTION_ENTRY_BYTES):
        raw, size, crc, place, reserved = ENTRY.unpack_from(table, at)
        if not (raw.isascii() and raw.isalpha()):
            raise invalid("E_SECTION", "a type of four ASCII letters", repr(raw), offset + at)
        name = raw.decode()
        if name in names:
            raise invalid("E_SECTION", "every type once", f"{name} twice", offset + at)
        names.add(name)
        limits.check("section_bytes", size, offset + at + 4)
        if place not in (INLINE, TAIL):
            raise invalid("E_UNKNOWN", "place 0 inline, 1 tail", str(place), offset + at + 12, where=f"section {name}")
        row = SectionEntry(name, size, crc, place, 0)
        if rows and (place, name) <= (rows[-1].place, rows[-1].type):
            raise invalid("E_SECTION", f"a type after {rows[-1].type}, inline before tail", name, offset + at)
        if row.critical and place != INLINE:
            raise invalid("E_SECTION", "a critical section inline", "tail", offset + at + 12, where=f"section {name}")
        if row.critical and name not in KNOWN_CRITICAL:
            raise invalid("E_CRITICAL", "critical sections that this reader knows", name, offset + at)
        if any(reserved):
            raise invalid("E_RESERVED", "three zero bytes", reserved.hex(), offset + at + 13, where=f"section {name}")
        rows.append(row)
    return rows


def parse_json(data: bytes) -> Any:
    """The value that a section ``json`` holds; ValueError or RecursionError if there is none."""

    def number(text: str) -> int | float:
        return int(text) if len(text) <= _DIGITS else float(text)

    def no_constant(name: str) -> None:
        raise ValueError(f"{name} is no JSON")  # NaN and Infinity, which the parser would take

    return json.loads(data.decode(), parse_constant=no_constant, parse_int=number)


def content_problem(name: str, data: bytes) -> tuple[str, str] | None:
    """(expected, found) if a known section does not hold what spec §10 says a reader checks, else None."""
    if name in ("json", "soft", "xmpd"):
        try:
            data.decode()
        except UnicodeDecodeError:
            return "UTF-8", "other bytes"
        if name == "json":
            try:
                value = parse_json(data)
            except (ValueError, RecursionError):
                return "a JSON object", "text that is not JSON"
            if not isinstance(value, dict):
                return "a JSON object", f"a JSON {type(value).__name__}"
    if name == "exif" and (len(data) < 8 or data[:4] not in (b"II*\0", b"MM\0*")):
        return "a TIFF header of 8 bytes", repr(data[:8])
    if name == "phys" and (len(data) != 8 or not all(PHYS.unpack(data))):
        return "two numbers of four bytes above 0", data.hex(" ")[:40] or "nothing"
    if name == "iccp" and (len(data) < 128 or data[36:40] != b"acsp"):
        return "an ICC profile", "bytes without its signature 'acsp'"
    return None
