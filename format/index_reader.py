"""What an open file says of its chunks (spec §3.5, §4, §9): the head, the index as far as it has been read, sections.

Which chunks a region needs, where they lie, how much there is of a file. What is in them is reader.py's.
"""

from __future__ import annotations

import bisect
import itertools
import math
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from igs.format import index as ix
from igs.format.error_codes import invalid
from igs.format.errors import UsageError
from igs.format.fields import BLOCK_ENTRIES, ENTRY_BYTES, HEADER_BYTES, MEAN_UNIT, NODE_BYTES, UNIT, LevelMode
from igs.format.head import Head, check_end, parse_head, parse_start
from igs.format.header import Header
from igs.format.limits import Limits
from igs.format.parts import Part
from igs.format.sections import INLINE, SectionEntry
from igs.format.source import Source

Chunks = NDArray[np.intp]


class Level(NamedTuple):
    """One level of quality. first_chunk: the number of its first chunk. end: the byte behind its last payload."""

    first_chunk: int
    num_chunks: int
    num_gaussians: int
    end: int


class Extent(NamedTuple):
    """What a part takes. first_index: file-wide, of its first Gaussian. num_bytes: of its payloads."""

    first_index: int
    num_gaussians: int
    num_bytes: int


class Sections(Mapping[str, bytes]):
    """The metadata sections that this file holds, read and checked when asked for (``E_SECTION_CRC``)."""

    def __init__(self, entries: Sequence[SectionEntry], inline: Mapping[str, bytes], source: Source) -> None:
        self.entries = {e.type: e for e in entries}
        self._inline = inline
        self._source = source

    def raw(self, name: str) -> bytes:
        """The bytes as they are, damaged or not."""
        entry = self.entries[name]
        return self._inline[name] if entry.place == INLINE else self._source.read_at(entry.offset, entry.bytes)

    def __getitem__(self, name: str) -> bytes:
        entry, data = self.entries[name], self.raw(name)
        if len(data) != entry.bytes or zlib.crc32(data) != entry.crc:
            found = f"{zlib.crc32(data):08x}"
            raise invalid("E_SECTION_CRC", f"{entry.crc:08x}", found, entry.offset, where=f"section {name}")
        return data

    def __contains__(self, name: object) -> bool:
        return name in self.entries  # without reading it

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class IndexReader:
    """An open file as far as its index tells. Thread-safe; a context manager.

    Chunks are numbered from 0 through all levels and parts.

    ``partial``: some levels or tail sections are missing. ``available_levels``: how many levels are there.
    ``box_x0 box_y0 box_x1 box_y1``: float64 [num_chunks] boxes in pixels, NaN in blocks of stage two not read yet.
    """

    def __init__(self, source: Source, limits: Limits, allow_partial: bool, first_read: int) -> None:
        self._source = source
        self.limits = limits
        start = source.read_at(0, max(first_read, HEADER_BYTES))
        head_bytes = parse_start(start[:HEADER_BYTES], limits)
        if source.length < head_bytes:
            raise invalid("E_TRUNCATED", f"a head of {head_bytes} bytes", f"{source.length} bytes", source.length)
        if len(start) < head_bytes:
            start += source.read_at(len(start), head_bytes - len(start))
        if len(start) < head_bytes:
            raise invalid("E_TRUNCATED", f"a head of {head_bytes} bytes", f"{len(start)} bytes", len(start))
        self.head: Head = parse_head(start[:head_bytes], limits)
        self.header = self.head.header
        self.available_levels = self._find_levels(allow_partial)
        self._find_present()
        self._lock = threading.Lock()
        self._part_first = [part.first_chunk for part in self.head.parts]
        self._level_first = [0, *itertools.accumulate(self.head.level_chunks)]
        self._build_index()

    def _find_levels(self, allow_partial: bool) -> int:
        length, head = self._source.length, self.head
        if length > head.file_bytes:
            raise invalid("E_TRAILING", f"{head.file_bytes} bytes", f"{length} bytes", head.file_bytes)
        whole = sum(end <= length for end in head.level_ends)
        exact = length in (head.file_bytes, *head.level_ends)
        if not whole or not (exact or allow_partial):
            ends = f"{head.file_bytes} bytes, or the end of a level ({', '.join(map(str, head.level_ends))})"
            raise invalid("E_TRUNCATED", ends, f"{length} bytes", length)
        return whole

    def _find_present(self) -> None:
        length = self._source.length
        self.partial = length < self.head.file_bytes
        present = [s for s in self.head.sections if s.offset + s.bytes <= length]
        self.sections = Sections(present, self.head.inline, self._source)

    def refresh(self) -> int:
        """Look again how long the source is, which may be growing; returns ``available_levels``, never fewer.

        A length between two levels' ends is no error here. Raises InvalidFile if the source has become shorter than the
        levels that there were, or longer than the whole file.
        """
        with self._lock:
            before = self.head.level_ends[self.available_levels - 1]
            length = self._source.remeasure()
            if length < before:
                raise invalid("E_TRUNCATED", f"{before} bytes or more, which there were", f"{length} bytes", length)
            self.available_levels = self._find_levels(allow_partial=True)
            self._find_present()
            return self.available_levels

    # -- the index

    def _build_index(self) -> None:
        head, n = self.head, self.head.num_chunks
        self._loaded: NDArray[np.bool_] | None = None
        if not head.two_stage:
            self.entries = head.rows
            self._boxes = np.ascontiguousarray(ix.box_to_pixels(head.rows["box"], self._shift).T)
            self._starts = head.payload_offset + _cumulative(head.rows["bytes"])
            self._firsts = _cumulative(head.rows["count"])
        else:
            blocks = ix.num_nodes(n)
            self.entries = np.zeros(n, ix.ENTRY)
            self._boxes = np.full((4, blocks * BLOCK_ENTRIES), np.nan)
            self._node_boxes = np.ascontiguousarray(ix.box_to_pixels(head.rows["box"], self._shift).T)
            self._starts = np.zeros(n, np.int64)
            self._firsts = np.zeros(n, np.int64)
            self._node_starts = head.payload_offset + _cumulative(head.rows["bytes"])
            self._node_firsts = _cumulative(head.rows["count"])
            self._loaded = np.zeros(blocks, bool)
        self.box_x0, self.box_y0, self.box_x1, self.box_y1 = (b[:n] for b in self._boxes)

    @property
    def _shift(self) -> int:
        assert self.header.box_shift is not None
        return self.header.box_shift

    def load_index(self, blocks: Sequence[int] | None = None) -> None:
        """Read and check blocks of a two-stage index (all of them by default); nothing to do for the other kind."""
        if self._loaded is None:
            return
        for block in range(len(self._loaded)) if blocks is None else blocks:
            if not self._loaded[block]:
                with self._lock:
                    if not self._loaded[block]:
                        self._load_block(block)

    def _load_block(self, block: int) -> None:
        head, n = self.head, self.head.num_chunks
        first, last = block * BLOCK_ENTRIES, min((block + 1) * BLOCK_ENTRIES, n)
        offset = head.head_bytes + ENTRY_BYTES * first
        data = self._source.read_at(offset, ENTRY_BYTES * (last - first))
        node = head.rows[block]
        if zlib.crc32(data) != node["crc"] or len(data) != ENTRY_BYTES * (last - first):
            found = f"{zlib.crc32(data):08x}"
            raise invalid("E_NODE_CRC", f"{node['crc']:08x}", found, offset, where=f"block {block}")
        rows = ix.unpack_entries(data)
        ix.check_entries(rows, head.parts, self.limits, offset, first)
        ix.check_block(node, rows, block, head.index_offset + NODE_BYTES * block)
        starts = int(self._node_starts[block]) + _cumulative(rows["bytes"])
        for level, boundary in enumerate(self._level_first[1:-1]):
            if first < boundary <= last:
                check_end(head, level, int(starts[boundary - 1 - first]) + int(rows["bytes"][boundary - 1 - first]))
        self.entries[first:last] = rows
        self._starts[first:last] = starts
        self._firsts[first:last] = int(self._node_firsts[block]) + _cumulative(rows["count"])
        self._boxes[:, first:last] = ix.box_to_pixels(rows["box"], self._shift).T
        assert self._loaded is not None
        self._loaded[block] = True

    def _need(self, chunks: Sequence[int] | Chunks) -> None:
        """Have the entries of chunks at hand; UsageError for a number that there isn't."""
        for chunk in (min(chunks), max(chunks)):
            if not 0 <= chunk < self.num_chunks:
                raise UsageError(f"chunk: expected 0 to {self.num_chunks - 1}, found {chunk}")
        if self._loaded is not None:
            self.load_index(sorted({chunk // BLOCK_ENTRIES for chunk in chunks}))

    def _entry(self, chunk: int) -> Any:
        self._need([chunk])
        return self.entries[chunk]

    def chunks_in_box(
        self, x0: float, y0: float, x1: float, y1: float, level: int | None = None, part: Part | None = None
    ) -> Chunks:
        """Numbers, ascending, of the chunks that sample points in the closed box (pixels) can need at ``level``.

        level: None is the highest available one; lower levels are included as the file's level_mode says. part: only
        its chunks; None: those of all. The corners are rounded as sample points are (spec §7). Reads blocks of a
        two-stage index as needed, and none that holds no entry of the part.
        """
        first, last = self.level_range(level)
        if part is not None:
            first, last = max(first, part.first_chunk), min(last, part.last_chunk)
        if not (math.isfinite(x0 + x1) and math.isfinite(y0 + y1)):
            raise UsageError(f"box: expected finite numbers, found {x0}, {y0}, {x1}, {y1}")
        x0, y0, x1, y1 = (math.floor(v * UNIT + 0.5) * MEAN_UNIT for v in (x0, y0, x1, y1))
        bx0, by0, bx1, by1 = self._boxes
        if self._loaded is None:
            span = slice(first, last)
            hit = (bx0[span] <= x1) & (bx1[span] >= x0) & (by0[span] <= y1) & (by1[span] >= y0)
            return np.asarray(hit.nonzero()[0] + first if first else hit.nonzero()[0])
        nx0, ny0, nx1, ny1 = self._node_boxes
        blocks = ((nx0 <= x1) & (nx1 >= x0) & (ny0 <= y1) & (ny1 >= y0)).nonzero()[0]
        blocks = blocks[(blocks >= first // BLOCK_ENTRIES) & (blocks <= (last - 1) // BLOCK_ENTRIES)]
        self.load_index(blocks.tolist())
        chunks = (blocks[:, None] * BLOCK_ENTRIES + np.arange(BLOCK_ENTRIES)).reshape(-1)
        hit = (bx0[chunks] <= x1) & (bx1[chunks] >= x0) & (by0[chunks] <= y1) & (by1[chunks] >= y0)
        return np.asarray(chunks[hit & (chunks >= first) & (chunks < last)])

    def level_range(self, level: int | None = None) -> tuple[int, int]:
        """First chunk, and last plus one, that ``level`` (None: the highest available) is decoded from."""
        if level is None:
            level = self.available_levels - 1
        if not 0 <= level < self.available_levels:
            raise UsageError(f"level: expected 0 to {self.available_levels - 1}, found {level}")
        first = self._level_first[level] if self.header.level_mode == LevelMode.REPLACEMENT else 0
        return first, self._level_first[level + 1]

    def chunk_level(self, chunk: int) -> int:
        """The level that a chunk belongs to."""
        return int(np.searchsorted(self._level_first, chunk, side="right")) - 1

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts in order, at least one: groups with Gaussians of their own."""
        return self.head.parts

    def chunk_part(self, chunk: int) -> int:
        """The number of the part that a chunk belongs to."""
        return bisect.bisect_right(self._part_first, chunk) - 1

    def _header(self, chunk: int) -> Header:
        """The header of a chunk's part."""
        return self.head.parts[self.chunk_part(chunk)].header

    def chunk_box(self, chunk: int) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 in pixels; infinite where the box is open."""
        self._entry(chunk)
        x0, y0, x1, y1 = self._boxes[:, chunk].tolist()
        return x0, y0, x1, y1

    # -- facts

    @property
    def num_gaussians(self) -> int:
        """Gaussians of all levels, as the header states, also those that a partial file lacks."""
        return self.head.num_gaussians

    @property
    def num_chunks(self) -> int:
        """Chunks of all levels, as the index states."""
        return self.head.num_chunks

    @property
    def file_bytes(self) -> int:
        """Length of the whole file as the header states it; a partial file is shorter."""
        return self.head.file_bytes

    @property
    def bytes_read(self) -> int:
        """Bytes fetched from the source so far."""
        return self._source.bytes_read

    @property
    def levels(self) -> tuple[Level, ...]:
        """All levels, also those that a partial file lacks. In a two-stage index with several reads some blocks."""
        bounds = self._level_first
        firsts = [self._before(b)[0] for b in bounds]
        return tuple(
            Level(bounds[i], bounds[i + 1] - bounds[i], firsts[i + 1] - firsts[i], end)
            for i, end in enumerate(self.head.level_ends)
        )

    def part_extent(self, part: Part) -> Extent:
        """How much of the file a part is. Of a two-stage index it reads the blocks where the part begins and ends."""
        first, start = self._before(part.first_chunk)
        last, end = self._before(part.last_chunk)
        return Extent(first, last - first, end - start)

    def _before(self, chunk: int) -> tuple[int, int]:
        """Gaussians before a chunk, and the offset where its payload begins; of the number of chunks those of all.

        Reads the chunk's block of a two-stage index, unless the node says it.
        """
        if chunk == self.num_chunks:
            return self.num_gaussians, self.head.level_ends[-1]
        if self._loaded is not None and chunk % BLOCK_ENTRIES == 0:
            block = chunk // BLOCK_ENTRIES
            return int(self._node_firsts[block]), int(self._node_starts[block])
        self._need([chunk])
        return int(self._firsts[chunk]), int(self._starts[chunk])

    def first_indices(self, chunks: Sequence[int] | Chunks) -> NDArray[np.int64]:
        """The file-wide index of the first Gaussian of each of some chunks, one or more, int64 [n]."""
        self._need(chunks)
        return np.asarray(self._firsts[chunks])

    def read_bytes(self, offset: int, count: int) -> bytes:
        """Bytes of the file as they are, unchecked: for programs that copy parts."""
        return self._source.read_at(offset, count)

    # -- end

    def close(self) -> None:
        """Close the file if it was opened by path."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _cumulative(values: NDArray[Any]) -> NDArray[np.int64]:
    """Sums of all values before each one."""
    values = values.astype(np.int64)
    return np.asarray(values.cumsum() - values)
