"""Reading a file bit by bit (spec §4, §5): the head on opening, then the chunks that a region needs and nothing else.

``FileReader`` yields codes and Gaussians, checked; it caches nothing but the index, which is index_reader.py's.
Sampling is the decoder's business.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from igs.format import index as ix
from igs.format.codecs import DECODERS, THREADED, Chunk
from igs.format.error_codes import invalid
from igs.format.errors import InvalidFile, UsageError
from igs.format.fields import HEADER_BYTES
from igs.format.gaussians import Gaussians, dequantize, reach_areas, reach_boxes
from igs.format.index_reader import Chunks, IndexReader
from igs.format.limits import Limits
from igs.format.quantize import Codes
from igs.format.source import Source
from igs.format.threads import default_threads, run

_LIMITS = Limits()
MIN_THREADED = 3000  # entropy-coded Gaussians in one call: a millisecond, some ten times what threads cost


def open_file(
    source: Any, limits: Limits | None = None, allow_partial: bool = False, first_read: int = HEADER_BYTES
) -> FileReader:
    """Open a file; only its head is read.

    source: a path, a bytes-like object, or a file object with seek and read. allow_partial: open a truncated file up to
    its last whole level. first_read: bytes of the first request; over a slow link 65536 fetches most heads in one.
    Raises InvalidFile (LimitExceeded, UnsupportedFile), InputError, UsageError.
    """
    if limits is not None and not isinstance(limits, Limits):
        raise UsageError(f"limits: expected igs.Limits, found {type(limits).__name__}")
    opened = Source(source)
    try:
        return FileReader(opened, limits or _LIMITS, allow_partial, first_read)
    except BaseException:
        opened.close()
        raise


def _span(chunks: list[int]) -> slice | list[int]:
    """An index of arrays by chunk: of successive ones a slice, which takes a tenth of the time."""
    first, last = chunks[0], chunks[0] + len(chunks)
    return slice(first, last) if chunks == list(range(first, last)) else chunks


class FileReader(IndexReader):
    """An open file: its index, and what its chunks hold. Thread-safe; a context manager."""

    def payload(self, chunk: int) -> bytes:
        """A chunk's payload, its checksum checked."""
        return next(self.payloads([chunk]))

    def payloads(self, chunks: Sequence[int] | Chunks) -> Iterator[bytes]:
        """Payloads in the order given, neighbours in the file fetched by one read, checksums checked."""
        wanted = [int(c) for c in chunks]
        if not wanted:
            return
        self._need(wanted)
        self.level_check(max(wanted))
        span = _span(wanted)
        starts, rows = self._starts[span].tolist(), self.entries[span]
        sizes, checks = rows["bytes"].tolist(), rows["crc"].tolist()
        at = 0
        while at < len(wanted):
            stop = at + 1
            while stop < len(wanted) and wanted[stop] == wanted[stop - 1] + 1:
                stop += 1
            begin = starts[at]
            data = self._source.read_at(begin, starts[stop - 1] + sizes[stop - 1] - begin)
            for i in range(at, stop):
                first = starts[i] - begin
                payload = data[first : first + sizes[i]]
                if len(payload) != sizes[i] or ix.payload_crc(payload) != checks[i]:
                    raise self._damaged(wanted[i], payload, starts[i], sizes[i])
                yield payload
            at = stop

    def _damaged(self, chunk: int, payload: bytes, offset: int, size: int) -> InvalidFile:
        where = f"chunk {chunk}"
        if len(payload) != size:
            return invalid("E_TRUNCATED", f"{size} bytes", f"{len(payload)}", offset, where=where)
        crc, found = int(self.entries[chunk]["crc"]), ix.payload_crc(payload)
        return invalid("E_CHUNK_CRC", f"{crc:04x}", f"{found:04x}", offset, where=where)

    def level_check(self, chunk: int) -> None:
        """Raise UsageError if a chunk belongs to a level that this partial file lacks."""
        if chunk >= self._level_first[self.available_levels]:
            raise UsageError(f"chunk {chunk}: its level {self.chunk_level(chunk)} is missing from this partial file")

    def codes(self, chunk: int) -> Codes:
        """A chunk's codes table uint32 [count, code_columns], of its part's header."""
        return self._decode(chunk, self.payload(chunk))

    def _decode(self, chunk: int, payload: bytes) -> Codes:
        entry = self.entries[chunk]
        try:
            part = Chunk(self._header(chunk), int(entry["count"]), self._boxes[:, chunk])
            return DECODERS[int(entry["codec"])](payload, part)
        except InvalidFile as error:
            raise self._in_chunk(error, chunk) from None

    def gaussians(self, chunk: int) -> Gaussians:
        """A chunk's Gaussians: checksum, codec, finiteness, box and reach area checked."""
        return self.read_gaussians([chunk])[0]

    def _decode_all(self, chunks: list[int], payloads: list[bytes], threads: int) -> list[Codes]:
        tables: list[Any] = [None] * len(chunks)

        def work(i: int) -> None:
            tables[i] = self._decode(chunks[i], payloads[i])

        run(len(chunks), threads, work)
        return tables

    def read_gaussians(self, chunks: Sequence[int] | Chunks, threads: int | None = None) -> list[Gaussians]:
        """The Gaussians of several chunks, in the order given: neighbours in one read, all in one dequantisation.

        They must be of one part. threads: for entropy decoding; None: one per core.
        """
        numbers, parts, start = [int(c) for c in chunks], [], 0
        if not numbers:
            return []
        every = self.read_together(numbers, threads)
        firsts = self.first_indices(numbers).tolist()
        for count, first in zip(self.entries["count"][numbers].tolist(), firsts, strict=True):
            parts.append(every.run(start, start + count, first))
            start += count
        return parts

    def read_together(self, chunks: Sequence[int] | Chunks, threads: int | None = None) -> Gaussians:
        """The same as one, of one chunk or more; its first_index is that of the first chunk."""
        numbers = [int(c) for c in chunks]
        payloads = list(self.payloads(numbers))
        if self.chunk_part(min(numbers)) != self.chunk_part(max(numbers)):
            raise UsageError(f"chunks: expected those of one part, found {min(numbers)} to {max(numbers)}")
        rows = self.entries[_span(numbers)]
        counts = rows["count"].tolist()
        slow = sum(itertools.compress(counts, THREADED[rows["codec"]]))
        threads = (threads or default_threads()) if slow >= MIN_THREADED else 1
        every = self._decode_cells(numbers, payloads, counts, threads)
        if every is None:
            every = self._dequantize(numbers, payloads, threads)
        if every is None:  # name the chunk that is at fault
            every = Gaussians.concatenate([self.gaussians(c) for c in numbers])
        return dataclasses.replace(every, first_index=int(self._firsts[numbers[0]]))

    def _decode_cells(
        self, chunks: list[int], payloads: list[bytes], counts: list[int], threads: int
    ) -> Gaussians | None:
        """Checked Gaussians of chunks in cells, at once; None: others, or something is wrong with one."""
        header = self._header(chunks[0])
        if header.lattice is None:
            return None
        from igs.format import cells  # Numba loads with it

        span = _span(chunks)
        boxes, areas = self._boxes[:, span].T, self.entries["reach_area"][span].astype(np.float64)
        grids = cells.clip_box(boxes, header.width, header.height)
        coded = cells.Coded(payloads, np.array(counts, np.int64), grids, boxes, areas)
        return cells.decode_gaussians(coded, header, threads)

    def _dequantize(self, chunks: list[int], payloads: list[bytes], threads: int) -> Gaussians | None:
        """The same step by step, for all chunks; None: a value of one of several is wrong."""
        tables, header = self._decode_all(chunks, payloads, threads), self._header(chunks[0])
        try:
            every = dequantize(header, np.concatenate(tables))
        except InvalidFile as error:
            if len(chunks) > 1:
                return None
            raise self._in_chunk(error, chunks[0]) from None
        boxes, areas, start = reach_boxes(header, every), reach_areas(header, every), 0
        for chunk, table in zip(chunks, tables, strict=True):
            part = slice(start, start + len(table))
            self._check_reach(chunk, boxes[part], areas[part])
            start += len(table)
        return every

    def _check_reach(self, chunk: int, boxes: ix.F64, areas: ix.F64) -> None:
        box = self._boxes[:, chunk]
        out = (boxes[:, :2] < box[:2]).any(axis=1) | (boxes[:, 2:] > box[2:]).any(axis=1)
        offset = int(self._starts[chunk])
        if out.any():
            row = int(out.argmax())
            where = f"chunk {chunk}, Gaussian {row}"
            raise invalid("E_REACH", f"a reach within {box.tolist()}", str(boxes[row].tolist()), offset, where=where)
        total, stated = float(areas.sum()), float(self.entries[chunk]["reach_area"])
        if total > stated * ix.AREA_SLACK:
            where = f"chunk {chunk}"
            raise invalid("E_REACH_AREA", f"reach areas of at most {stated:g}", f"{total:g}", offset, where=where)

    def _in_chunk(self, error: InvalidFile, chunk: int) -> InvalidFile:
        return invalid(error.code, error.expected, error.found, int(self._starts[chunk]), where=f"chunk {chunk}")
