"""A whole file in memory, to be rewritten without touching its Gaussians: metadata replaced or stripped.

Payloads, index and unknown ancillary sections are copied as they are, so that an unmodified file comes back byte for
byte, whoever wrote it. Nothing is dequantised.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Container, Mapping
from typing import Any

from igs.format import sections as sx
from igs.format.errors import InvalidFile, UsageError
from igs.format.fields import BLOCK_ENTRIES
from igs.format.head import Head, build_head
from igs.format.header import Header
from igs.format.index import Entries
from igs.format.limits import Limits
from igs.format.reader import open_file


@dataclasses.dataclass(frozen=True, eq=False)
class Document:
    """head: parsed. entries: the whole index. start: the bytes before the payloads. payloads: all that the file holds.

    sections: those that the file holds. partial: levels or sections are missing. damaged: sections that don't match
    their checksum, which stay as they are, can be removed or replaced, and are not passed on as if they were sound.
    """

    head: Head
    entries: Entries
    start: bytes
    payloads: bytes
    sections: tuple[sx.Section, ...]
    partial: bool
    limits: Limits
    damaged: frozenset[str] = frozenset()

    @property
    def header(self) -> Header:
        """The picture's header."""
        return self.head.header

    def to_bytes(self) -> bytes:
        """The file."""
        return b"".join([self.start, self.payloads, *(s.data for s in self.sections if s.place == sx.TAIL)])

    def with_sections(self, changes: Mapping[str, bytes | None]) -> Document:
        """A copy with sections added or replaced, and removed where the value is None; the others stay as they are.

        Raises UsageError for a partial file (the index of what is missing would no longer be true) or a bad type,
        InvalidFile where a damaged section would stay.
        """
        if self.partial:
            raise UsageError("sections of a partial file can't be changed: its missing part would no longer fit")
        kept = self._sound(but=changes)
        added = sx.arrange({name: data for name, data in changes.items() if data is not None})
        return self._rebuilt(sx.in_order([*kept, *added]))

    def section_data(self) -> dict[str, bytes]:
        """The metadata by section type; InvalidFile if one is damaged."""
        return {s.type: s.data for s in self._sound()}

    def _sound(self, but: Container[str] = ()) -> list[sx.Section]:
        kept = [s for s in self.sections if s.type not in but]
        for section in kept:
            if section.type in self.damaged:
                raise InvalidFile(
                    "E_SECTION_CRC", f"section {section.type}: expected its checksum to match, found other bytes"
                )
        return kept

    def without_sections(self) -> Document:
        """A copy without any metadata; critical sections stay."""
        return self.with_sections({s.type: None for s in self.sections if s.type[0].islower()})

    def _rebuilt(self, placed: list[sx.Section]) -> Document:
        if len(placed) > 255:
            raise UsageError(f"sections: expected at most 255, found {len(placed)}")
        nodes = self.head.rows if self.head.two_stage else None
        start = build_head(self.header, self.head.level_chunks, self.entries, placed, nodes, self.head.layout)
        return read(b"".join([start, self.payloads, *(s.data for s in placed if s.place == sx.TAIL)]), self.limits)


def read(source: Any, limits: Limits | None = None) -> Document:
    """The document of a file (path, bytes, file object); everything but the Gaussians themselves is checked.

    A section that doesn't match its checksum is no error (spec §13): it is named in ``damaged``.

    Raises InvalidFile (LimitExceeded, UnsupportedFile), InputError.
    """
    limits = limits or Limits()
    with open_file(source, limits) as file:
        file.load_index()
        count = file.level_range(file.available_levels - 1)[1]
        for first in range(0, count, BLOCK_ENTRIES):
            for _ in file.payloads(range(first, min(first + BLOCK_ENTRIES, count))):
                pass  # checks each payload's checksum
        head = file.head
        start = file.read_bytes(0, head.payload_offset)
        payloads = file.read_bytes(
            head.payload_offset, head.level_ends[file.available_levels - 1] - head.payload_offset
        )
        held = file.sections
        sections = tuple(sx.Section(name, held.raw(name), entry.place) for name, entry in held.entries.items())
        damaged = frozenset(s.type for s in sections if zlib.crc32(s.data) != held.entries[s.type].crc)
        return Document(head, file.entries, start, payloads, sections, file.partial, limits, damaged)
