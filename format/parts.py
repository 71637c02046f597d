"""Parts (spec §3.6): sets of a picture's channel groups, each drawn by Gaussians of its own.

A file of one part says nothing about parts. Of several, each has the header that a file of its groups alone would have.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import TYPE_CHECKING, NamedTuple

from igs.format.binary import Cursor
from igs.format.error_codes import invalid
from igs.format.groups import each_group

if TYPE_CHECKING:
    from igs.format.header import Header

MAX_PARTS = 64
_PART = struct.Struct("<BI")


def table_bytes(num_parts: int, num_groups: int) -> int:
    """Length of the table of parts; of one part there is none."""
    return 1 + _PART.size * num_parts + num_groups if num_parts > 1 else 0


class Part(NamedTuple):
    """Some groups and the chunks of their Gaussians.

    header: of these groups alone. groups, channels: their numbers in the picture. last_chunk: plus one.
    """

    header: Header
    groups: tuple[int, ...]
    channels: tuple[int, ...]
    first_chunk: int
    last_chunk: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """The part table. channels, num_chunks: of each part. members: the part of each group, in the groups' order.

    headers: of each part, empty until their parameters are known.
    """

    channels: tuple[int, ...]
    num_chunks: tuple[int, ...]
    members: tuple[int, ...]
    headers: tuple[Header, ...] = ()

    def groups(self, part: int) -> tuple[int, ...]:
        """The numbers of a part's groups."""
        return tuple(i for i, member in enumerate(self.members) if member == part)

    def to_bytes(self) -> bytes:
        """The table of spec §3.6."""
        records = b"".join(_PART.pack(*record) for record in zip(self.channels, self.num_chunks, strict=True))
        return bytes([len(self.channels)]) + records + bytes(self.members)


def parse_layout(cursor: Cursor, num_groups: int, channels: int) -> Layout:
    """The part table behind the fixed header. Raises InvalidFile: E_PART, E_HEAD_BYTES."""
    start = cursor.position
    count = cursor.take(1, "parts")[0]
    if not 2 <= count <= MAX_PARTS:
        raise invalid("E_PART", f"2 to {MAX_PARTS} parts", str(count), start)
    records = list(_PART.iter_unpack(cursor.take(_PART.size * count, "parts")))
    own, chunks = tuple(r[0] for r in records), tuple(r[1] for r in records)
    if 0 in own or sum(own) != channels:
        raise invalid("E_PART", f"parts of {channels} channels together, none without", str(own), start)
    if 0 in chunks:
        raise invalid("E_PART", "num_chunks of 1 or more in each part", str(chunks), start)
    members = tuple(cursor.take(num_groups, "the groups' parts"))
    if max(members) >= count:
        raise invalid("E_PART", f"groups in parts 0 to {count - 1}", str(max(members)), cursor.position - num_groups)
    if len(set(members)) < count:
        raise invalid("E_PART", "a group or more in each part", str(members), cursor.position - num_groups)
    return Layout(own, chunks, members)


def parts_of(header: Header, layout: Layout | None, num_chunks: int) -> tuple[Part, ...]:
    """The parts of a picture, one where there is no table."""
    if layout is None:
        return (Part(header, tuple(range(len(header.groups))), tuple(range(header.channels)), 0, num_chunks),)
    places = [range(g.whole.start, g.whole.stop) for g in each_group(header.groups)]
    parts, first = [], 0
    for number, (own, chunks) in enumerate(zip(layout.headers, layout.num_chunks, strict=True)):
        groups = layout.groups(number)
        channels = tuple(channel for group in groups for channel in places[group])
        parts.append(Part(own, groups, channels, first, first + chunks))
        first += chunks
    return tuple(parts)


def part_header(header: Header, layout: Layout, part: int) -> Header:
    """A picture's header with the groups of a part alone; the quantisers are still to be put in."""
    chosen = layout.groups(part)
    background = [header.background[g.whole] for g in each_group(header.groups)]
    return dataclasses.replace(
        header,
        channels=layout.channels[part],
        groups=tuple(header.groups[i] for i in chosen),
        background=tuple(value for i in chosen for value in background[i]),
    )
