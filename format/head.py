"""The head as a whole (spec §2, §3.5): header, levels, section table, inline sections, index, checksum.

``parse_head`` checks everything that can be known without reading further; ``build_head`` is its inverse.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from igs.format import index as ix
from igs.format import sections as sx
from igs.format.binary import Cursor, Faults
from igs.format.error_codes import invalid
from igs.format.fields import (
    DRAFT,
    ENTRY_BYTES,
    HEADER_BYTES,
    NODE_BYTES,
    SECTION_ENTRY_BYTES,
    SIGNATURE,
    VERSION,
)
from igs.format.header import OFFSETS, PARTS, TWO_STAGE, Header, build_header, parse_fixed, parse_header
from igs.format.limits import Limits
from igs.format.parts import Layout, Part, parts_of

_CHUNKS, _END = struct.Struct("<I"), struct.Struct("<Q")  # a level; the last one's end follows from file_bytes


def levels_bytes(num_levels: int) -> int:
    """Length of the level records."""
    return _level_at(num_levels) - _END.size


def _level_at(level: int) -> int:
    return (_CHUNKS.size + _END.size) * level


@dataclasses.dataclass(frozen=True)
class Head:
    """A parsed head. Offsets are from the start of the file.

    layout: the table of parts, None where there is one. level_chunks, level_ends: per level. rows: entries, or nodes if
    two_stage. index_offset: where they begin.
    """

    header: Header
    layout: Layout | None
    num_gaussians: int
    head_bytes: int
    file_bytes: int
    level_chunks: tuple[int, ...]
    level_ends: tuple[int, ...]
    sections: tuple[sx.SectionEntry, ...]
    inline: dict[str, bytes]
    two_stage: bool
    rows: ix.Entries
    index_offset: int

    @property
    def num_chunks(self) -> int:
        """Chunks of all levels."""
        return sum(self.level_chunks)

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """The parts in order, at least one."""
        return parts_of(self.header, self.layout, self.num_chunks)

    @property
    def payload_offset(self) -> int:
        """Where the first payload begins."""
        return self.head_bytes + ENTRY_BYTES * self.num_chunks * self.two_stage


def parse_start(start: bytes, limits: Limits) -> int:
    """Check the signature, version and head length in the file's first 58 bytes; returns head_bytes."""
    if start[:8] != SIGNATURE[: len(start)]:
        raise invalid("E_SIGNATURE", f"an .igs file, {SIGNATURE.hex(' ')}", start[:8].hex(" ") or "nothing", 0)
    # The rest of another version's header may be shorter: its version is told first.
    if len(start) >= 10 and (start[8], start[9]) != (VERSION, DRAFT):
        raise invalid("E_VERSION", f"version {VERSION}, draft {DRAFT}", f"version {start[8]}, draft {start[9]}", 8)
    if len(start) < HEADER_BYTES:
        raise invalid("E_TRUNCATED", f"a header of {HEADER_BYTES} bytes", f"{len(start)} bytes", len(start))
    head_bytes = int.from_bytes(start[12:16], "little")
    limits.check("head_bytes", head_bytes, 12)
    if head_bytes < HEADER_BYTES + 4:
        raise invalid("E_HEAD_BYTES", f"head_bytes of at least {HEADER_BYTES + 4}", str(head_bytes), 12)
    return head_bytes


def parse_head(data: bytes, limits: Limits) -> Head:
    """The head from exactly its bytes, of which ``parse_start`` has seen the first. Raises InvalidFile."""
    crc, found = int.from_bytes(data[-4:], "little"), zlib.crc32(data[:-4])
    if crc != found:
        raise invalid("E_HEAD_CRC", f"{crc:08x}", f"{found:08x}", len(data) - 4)
    fields = parse_fixed(data[:HEADER_BYTES])
    num_gaussians, num_levels, file_bytes = fields["num_gaussians"], fields["num_levels"], fields["file_bytes"]
    cursor = Cursor(data, HEADER_BYTES)
    header, layout = parse_header(fields, cursor, limits)

    levels_offset = cursor.position
    table = cursor.take(levels_bytes(num_levels), "levels")
    level_chunks = tuple(_CHUNKS.unpack_from(table, _level_at(i))[0] for i in range(num_levels))
    ends = [_END.unpack_from(table, _level_at(i) + _CHUNKS.size)[0] for i in range(num_levels - 1)]
    num_chunks = sum(level_chunks)
    if layout is not None and sum(layout.num_chunks) != num_chunks:
        raise invalid("E_PART", f"parts of {num_chunks} chunks together", str(sum(layout.num_chunks)), HEADER_BYTES)
    two_stage = bool(fields["flags"] & TWO_STAGE)
    if two_stage != ix.is_two_stage(num_chunks):
        raise invalid("E_FIELD", f"two_stage {not two_stage} for {num_chunks} chunks", str(two_stage), OFFSETS["flags"])
    payload_offset = len(data) + ENTRY_BYTES * num_chunks * two_stage
    _check_levels(level_chunks, ends, payload_offset, levels_offset)
    sections, inline = _parse_sections(cursor, fields["num_sections"], limits, file_bytes)
    level_ends = (*ends, file_bytes - sum(s.bytes for s in sections if s.place == sx.TAIL))
    _check_levels(level_chunks, level_ends, payload_offset, levels_offset)
    index_offset = cursor.position
    size = NODE_BYTES * ix.num_nodes(num_chunks) if two_stage else ENTRY_BYTES * num_chunks
    index = cursor.take(size, "index")
    rows = np.frombuffer(index, ix.NODE) if two_stage else ix.unpack_entries(index)
    if cursor.position != cursor.end:
        raise invalid("E_HEAD_BYTES", f"head_bytes of {cursor.position + 4}", str(len(data)), OFFSETS["head_bytes"])
    head = Head(
        header=header,
        layout=layout,
        num_gaussians=num_gaussians,
        head_bytes=len(data),
        file_bytes=file_bytes,
        level_chunks=level_chunks,
        level_ends=level_ends,
        sections=sections,
        inline=inline,
        two_stage=two_stage,
        rows=rows,
        index_offset=index_offset,
    )
    _check_index(head, limits, levels_offset)
    return head


def _parse_sections(
    cursor: Cursor, count: int, limits: Limits, file_bytes: int
) -> tuple[tuple[sx.SectionEntry, ...], dict[str, bytes]]:
    start = cursor.position
    rows = sx.parse_table(cursor.take(SECTION_ENTRY_BYTES * count, "section table"), start, limits)
    tail_offset = file_bytes - sum(row.bytes for row in rows if row.place == sx.TAIL)
    placed: list[sx.SectionEntry] = []
    inline: dict[str, bytes] = {}
    for row in rows:
        if row.place == sx.INLINE:
            placed.append(row._replace(offset=cursor.position))
            inline[row.type] = cursor.take(row.bytes, f"section {row.type}")
        else:
            placed.append(row._replace(offset=tail_offset))
            tail_offset += row.bytes
    return tuple(placed), inline


def _check_levels(chunks: Sequence[int], ends: Sequence[int], payload_offset: int, offset: int) -> None:
    """The levels have chunks, and their ends ascend; the last one's, which the tail leaves, may not be known yet."""
    for number, count in enumerate(chunks):
        if count < 1:
            where = f"level {number}"
            raise invalid("E_LEVEL", "num_chunks of 1 or more", str(count), offset + _level_at(number), where=where)
    previous = payload_offset
    for number, end in enumerate(ends):
        if end <= previous:
            at = _end_at(len(chunks), number, offset)
            raise invalid("E_LEVEL", f"an end above {previous}", str(end), at, where=f"level {number}")
        previous = end


def _end_at(num_levels: int, level: int, levels_offset: int) -> int:
    """The byte that tells a level's end."""
    return OFFSETS["file_bytes"] if level == num_levels - 1 else levels_offset + _level_at(level) + _CHUNKS.size


def _check_index(head: Head, limits: Limits, levels_offset: int) -> None:
    """The rows in the head, and their sums."""
    rows, header = head.rows, head.header
    sizes = rows["bytes"].tolist()
    if head.two_stage:  # ends of lower levels lie within blocks and are checked when those are read
        ix.check_nodes(rows, head.num_chunks, limits, head.index_offset)
        _check_count(head)
        check_end(head, len(head.level_ends) - 1, head.payload_offset + sum(sizes), levels_offset)
    else:
        faults, chunk, end = Faults(), 0, head.payload_offset
        with faults.noting():
            ix.check_entries(rows, head.parts, limits, head.index_offset)
        for number, chunks in enumerate(head.level_chunks):
            end += sum(sizes[chunk : chunk + chunks])
            chunk += chunks
            with faults.noting(head.index_offset + ENTRY_BYTES * chunk):  # known behind its last entry
                check_end(head, number, end, levels_offset)
        faults.raise_first()
        _check_count(head)
    area = float(rows["reach_area"].astype(np.float64).sum())
    limits.check("reach_ratio", area / (header.width * header.height + 4096), head.index_offset)


def _check_count(head: Head) -> None:
    counts = sum(head.rows["count"].tolist())
    if counts != head.num_gaussians:
        raise invalid("E_COUNT", f"counts that sum to {head.num_gaussians}", str(counts), OFFSETS["num_gaussians"])


def check_end(head: Head, level: int, end: int, levels_offset: int | None = None) -> None:
    """A level's stated end against the sum of its payloads."""
    if head.level_ends[level] != end:
        at = None if levels_offset is None else _end_at(len(head.level_ends), level, levels_offset)
        raise invalid("E_LEVEL", f"an end of {end}", str(head.level_ends[level]), at, where=f"level {level}")


def build_head(
    header: Header,
    level_chunks: Sequence[int],
    entries: ix.Entries,
    sections: Sequence[sx.Section],
    nodes: ix.Entries | None = None,
    layout: Layout | None = None,
) -> bytes:
    """The head, and stage two behind it if there is one. nodes: made from the entries unless given."""
    two_stage = ix.is_two_stage(len(entries))
    if two_stage and nodes is None:
        nodes = ix.build_nodes(entries)
    packed = ix.pack_entries(entries)
    rows = nodes.tobytes() if two_stage and nodes is not None else packed
    inline = b"".join(s.data for s in sections if s.place == sx.INLINE)
    table = b"".join(sx.ENTRY.pack(s.type.encode(), len(s.data), zlib.crc32(s.data), s.place, b"") for s in sections)
    fields: dict[str, Any] = {
        "signature": SIGNATURE,
        "version": VERSION,
        "draft": DRAFT,
        "flags": TWO_STAGE * two_stage | PARTS * (layout is not None),
        "num_gaussians": sum(entries["count"].tolist()),
        "num_levels": len(level_chunks),
        "num_sections": len(sections),
    }
    size = len(build_header(header, layout, **fields, head_bytes=0, file_bytes=0)) + levels_bytes(len(level_chunks))
    head_bytes = size + len(table) + len(inline) + len(rows) + 4
    end = head_bytes + len(packed) * two_stage
    sizes = entries["bytes"].tolist()
    levels, chunk = b"", 0
    for chunks in level_chunks:
        end += sum(sizes[chunk : chunk + chunks])
        chunk += chunks
        levels += _CHUNKS.pack(chunks) + _END.pack(end)
    file_bytes = end + sum(len(s.data) for s in sections if s.place == sx.TAIL)
    head = build_header(header, layout, **fields, head_bytes=head_bytes, file_bytes=file_bytes)
    head += levels[: -_END.size] + table + inline + rows
    head += zlib.crc32(head).to_bytes(4, "little")
    return head + (packed if two_stage else b"")
