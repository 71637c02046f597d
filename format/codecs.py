"""Chunk codecs (spec §5): a registry from the index's ``codec`` to functions between codes tables and payloads.

A codec states no sizes of its own: they follow from the count and the header's code columns, so that a payload is
checked before anything is allocated for it. The writer encodes: raw by bitpack.py, cells and columns by the modules
of these names, zstd here.
Offsets in errors are added by the reader.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import zstandard
from numpy.typing import NDArray

from igs.format.bitpack import packed_bytes, unpack, unused_bits_are_zero
from igs.format.error_codes import invalid
from igs.format.fields import Codec
from igs.format.header import Header
from igs.format.quantize import Codes

WINDOW_MAX = 2**23  # memory that a decompressor may hold besides the content, as RFC 8878 recommends
ZSTD_LEVEL = 19  # chunks are a few KiB: the strongest level costs next to nothing


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What the head says about a chunk. box: float64 [4], x0, y0, x1, y1 in pixels."""

    header: Header
    count: int
    box: NDArray[np.float64]


Decode = Callable[[bytes, Chunk], Codes]


def _decode_raw(payload: bytes, chunk: Chunk) -> Codes:
    count, bits = chunk.count, chunk.header.code_bits
    expected = packed_bytes(count, bits)
    if len(payload) != expected:
        raise invalid("E_CHUNK_BYTES", f"{expected} bytes for {count} Gaussians", str(len(payload)))
    if not unused_bits_are_zero(payload, count, bits):
        raise invalid("E_PADDING", "zero in the unused bits of the last byte", hex(payload[-1]))
    return unpack(payload, count, bits)


def plane_bytes(bits: Sequence[int]) -> int:
    """Byte planes of one Gaussian: Σ⌈b/8⌉."""
    return sum(-(-b // 8) for b in bits)


def encode_zstd(codes: Codes, bits: Sequence[int]) -> bytes:
    little = np.ascontiguousarray(codes.T, "<u4").view(np.uint8).reshape(len(bits), len(codes), 4)
    planes = [little[column, :, byte].tobytes() for column, b in enumerate(bits) for byte in range(-(-b // 8))]
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=False, write_content_size=True)
    return compressor.compress(b"".join(planes))


def zstd_content(payload: bytes, expected: int) -> bytes:
    """The content of the one frame that ``payload`` is, checked to state ``expected`` bytes before decompressing."""
    try:
        frame = zstandard.get_frame_parameters(payload)
        if payload[:4] != zstandard.FRAME_HEADER:
            raise invalid("E_ZSTD", "a Zstandard frame", "a skippable one")
        if frame.content_size == zstandard.CONTENTSIZE_UNKNOWN:
            raise invalid("E_ZSTD", "a frame that states its content size", "none")
        if frame.dict_id:
            raise invalid("E_ZSTD", "a frame without a dictionary", f"dictionary {frame.dict_id}")
        if frame.window_size > max(WINDOW_MAX, expected):
            raise invalid("E_ZSTD", f"a window of at most {WINDOW_MAX} bytes", str(frame.window_size))
        if frame.content_size != expected:
            raise invalid("E_CHUNK_BYTES", f"a content size of {expected}", str(frame.content_size))
        # The library ignores max_output_size where the frame states a size, hence the check above.
        return zstandard.ZstdDecompressor().decompress(payload, read_across_frames=False, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise invalid("E_ZSTD", "one valid Zstandard frame and nothing behind it", str(error)) from None


def _decode_zstd(payload: bytes, chunk: Chunk) -> Codes:
    count, bits = chunk.count, chunk.header.code_bits
    content = zstd_content(payload, count * plane_bytes(bits))
    planes = np.frombuffer(content, np.uint8).reshape(-1, count)
    codes = np.empty((count, len(bits)), np.uint32)
    row = 0
    for column, b in enumerate(bits):
        value = planes[row].astype(np.uint32)
        for byte in range(1, -(-b // 8)):
            value |= planes[row + byte].astype(np.uint32) << np.uint32(8 * byte)
        row += -(-b // 8)
        codes[:, column] = value
        if b % 8 and int(planes[row - 1].max()) >> (b % 8):
            raise invalid("E_PADDING", f"zero at and above bit {b} of code column {column}", "a set bit")
    return codes


def _decode_cells(payload: bytes, chunk: Chunk) -> Codes:
    from igs.format import cells  # Numba loads with it

    assert chunk.header.lattice is not None
    box = cells.clip_box(chunk.box, chunk.header.width, chunk.header.height)
    return cells.decode(payload, chunk.count, chunk.header.lattice, box)


def _decode_columns(payload: bytes, chunk: Chunk) -> Codes:
    from igs.format import columns

    return columns.decode(payload, chunk.count, chunk.header.code_bits)


THREADED = np.isin(np.arange(256), [Codec.CELLS, Codec.COLUMNS])  # by codec: slow enough to be worth threads

# payload and chunk → codes; raises InvalidFile
DECODERS: dict[int, Decode] = {
    Codec.RAW: _decode_raw,
    Codec.ZSTD: _decode_zstd,
    Codec.CELLS: _decode_cells,
    Codec.COLUMNS: _decode_columns,
}
