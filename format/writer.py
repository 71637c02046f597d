"""Codes tables → the bytes of a file (spec §2, §14). Partial control over chunks and codecs is the caller's.

What stands in the index (boxes, areas) is computed from the dequantised codes, exactly as a reader will check it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igs.format import index as ix
from igs.format.bitpack import pack
from igs.format.codecs import encode_zstd
from igs.format.errors import InvalidFile, UsageError
from igs.format.fields import MAX_COUNT, MAX_LEVELS, MAX_PAYLOAD, MEAN_UNIT, Codec
from igs.format.gaussians import dequantize, reach_areas, reach_boxes
from igs.format.head import build_head
from igs.format.header import Header, build_header
from igs.format.limits import Limits
from igs.format.partition import max_chunks, partition
from igs.format.quantize import Codes
from igs.format.sections import TAIL, arrange

Level = Codes | Sequence[Codes]


def write(
    header: Header,
    levels: Sequence[Level],
    *,
    codec: Codec = Codec.ZSTD,
    chunk_size: int | None = None,
    sections: Mapping[str, bytes] | None = None,
) -> bytes:
    """The file as bytes.

    levels: one codes table uint32 [n, header.code_columns] per level, which is then grouped into chunks, or a list of
    such tables, which become the chunks as they are. codec: ZSTD and COLUMNS mean that codec wherever it is smaller
    than raw; not looked at with lattice quantisers, whose chunks are all CELLS.
    chunk_size: at most so many Gaussians per chunk, 1–65535; None lets partition.py weigh index against reads.
    sections: metadata by type. Raises UsageError for a header, code or section that no valid file can hold.
    """
    header.validate()
    if not 1 <= len(levels) <= MAX_LEVELS:
        raise UsageError(f"levels: expected 1 to {MAX_LEVELS}, found {len(levels)}")
    if chunk_size is not None and not 1 <= chunk_size <= MAX_COUNT:
        raise UsageError(f"chunk_size: expected 1 to {MAX_COUNT}, found {chunk_size}")
    header = _with_box_shift(header)
    placed = arrange(sections or {})

    payloads: list[bytes] = []
    entries: list[ix.Entries] = []
    for number, level in enumerate(levels):
        level_entries, level_payloads = _write_level(header, level, Codec(codec), chunk_size, f"level {number}")
        entries.append(level_entries)
        payloads += level_payloads
    index = np.concatenate(entries)
    if sum(index["count"].tolist()) >= 2**32:
        raise UsageError("levels: expected fewer than 2^32 Gaussians")
    head = build_head(header, [len(e) for e in entries], index, placed)
    return b"".join([head, *payloads, *(s.data for s in placed if s.place == TAIL)])


def _with_box_shift(header: Header) -> Header:
    if header.box_shift is not None:
        return header
    return dataclasses.replace(header, box_shift=ix.choose_box_shift(header.width, header.height))


def chunk_rows(header: Header, codes: Codes, chunk_size: int | None = None) -> list[NDArray[np.intp]]:
    """The chunks that :func:`write` makes of a level's codes table, as its rows; see partition.py."""
    header, gaussians = _with_box_shift(header), dequantize(header, codes)
    means = gaussians.means.astype(np.float64) * MEAN_UNIT
    return _chunk_rows(header, codes, means, reach_boxes(header, gaussians), chunk_size)


def _chunk_rows(
    header: Header, codes: Codes, means: ix.F64, boxes: ix.F64, chunk_size: int | None
) -> list[NDArray[np.intp]]:
    bits = header.bits_per_gaussian if header.lattice is None else _cells_bits(header, codes, means)
    limit = max_chunks(len(codes), bits, _head_rest(header))
    order, sizes = partition(boxes, header.width, header.height, bits / 8, chunk_size, limit)
    return np.split(order, np.cumsum(sizes)[:-1])


def _write_level(
    header: Header, level: Level, codec: Codec, chunk_size: int | None, where: str
) -> tuple[ix.Entries, list[bytes]]:
    tables = [level] if isinstance(level, np.ndarray) else list(level)
    tables = [_checked(header, table, where) for table in tables]
    if not tables:
        raise UsageError(f"{where}: expected one Gaussian or more, found none")
    codes = np.concatenate(tables)
    try:
        gaussians = dequantize(header, codes)
    except InvalidFile as error:
        raise UsageError(f"{where}: {error}") from None
    means = gaussians.means.astype(np.float64) * MEAN_UNIT
    boxes, areas = reach_boxes(header, gaussians), reach_areas(header, gaussians)
    if isinstance(level, np.ndarray):
        chunks = _chunk_rows(header, codes, means, boxes, chunk_size)
        order, sizes = np.concatenate(chunks), [len(rows) for rows in chunks]
        codes, boxes, areas, means = codes[order], boxes[order], areas[order], means[order]
    else:
        sizes = [len(table) for table in tables]
        if max(sizes) > MAX_COUNT:
            raise UsageError(f"{where}: expected at most {MAX_COUNT} Gaussians in a chunk, found {max(sizes)}")

    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp)
    entries = np.zeros(len(sizes), ix.ENTRY)
    low = np.minimum.reduceat(boxes[:, :2], starts)
    high = np.maximum.reduceat(boxes[:, 2:], starts)
    assert header.box_shift is not None
    entries["box"] = ix.box_to_units(np.concatenate([low, high], axis=1), header.box_shift)
    entries["reach_area"] = ix.round_up_area(np.add.reduceat(areas, starts))
    entries["count"] = sizes
    payloads = []
    for row, start in enumerate(starts.tolist()):
        rows = slice(start, start + sizes[row])
        if header.lattice is None:
            chosen, payload = _encode(codes[rows], header.code_bits, codec)
        else:
            box = ix.box_to_pixels(entries["box"][row : row + 1], header.box_shift)[0]
            chosen, payload = Codec.CELLS, _encode_cells(header, codes[rows], box, means[rows])
        if len(payload) > MAX_PAYLOAD:
            raise UsageError(f"{where}: expected at most {MAX_PAYLOAD} bytes in a chunk, found {len(payload)}")
        entries[row]["codec"], entries[row]["bytes"] = chosen, len(payload)
        entries[row]["crc"] = ix.payload_crc(payload)
        payloads.append(payload)
    return entries, payloads


def _checked(header: Header, table: Any, where: str) -> Codes:
    if not isinstance(table, np.ndarray) or table.dtype.kind not in "ui":
        raise UsageError(f"{where}: expected codes as an integer array, found {type(table).__name__}")
    if table.ndim != 2 or table.shape[1] != header.code_columns or not len(table):
        raise UsageError(f"{where}: expected codes of shape [n ≥ 1, {header.code_columns}], found {table.shape}")
    top = np.array([2**b - 1 for b in header.code_bits], np.int64)
    bad = (table < 0) | (table > top)
    if bad.any():
        column = int(bad.any(axis=0).argmax())
        raise UsageError(f"{where}: expected codes of 0 to {top[column]} in column {column}, found others")
    return table.astype(np.uint32, copy=False)


def _head_rest(header: Header) -> int:
    fields = ("version", "draft", "flags", "head_bytes", "file_bytes", "num_gaussians", "num_levels", "num_sections")
    return len(build_header(header, None, **dict.fromkeys(fields, 0), signature=bytes(8))) + 8  # one level, checksum


def _cells_bits(header: Header, codes: Codes, means: ix.F64) -> float:
    """Bits per Gaussian where all are in one chunk: of flat pictures twice those of others."""
    everywhere = np.array([-np.inf, -np.inf, np.inf, np.inf])
    return 8 * len(_encode_cells(header, codes, everywhere, means)) / len(codes)


def _encode_cells(header: Header, codes: Codes, box: ix.F64, means: ix.F64) -> bytes:
    from igs.format import cells  # Numba loads with it

    assert header.lattice is not None
    return cells.encode(codes, header.lattice, cells.clip_box(box, header.width, header.height), means).payload


def _encode_columns(codes: Codes, bits: tuple[int, ...]) -> bytes:
    from igs.format import columns  # Numba loads with it

    return columns.encode(codes, bits)


def _encode(codes: Codes, bits: tuple[int, ...], codec: Codec) -> tuple[Codec, bytes]:
    payload = pack(codes, bits)
    if codec != Codec.RAW:
        other = encode_zstd(codes, bits) if codec == Codec.ZSTD else _encode_columns(codes, bits)
        # What packs too well would be refused as a bomb by readers with the default limits.
        if len(other) < len(payload) and len(codes) <= Limits().gaussians_per_byte * len(other):
            return codec, other
    return Codec.RAW, payload
