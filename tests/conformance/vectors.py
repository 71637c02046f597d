"""Building blocks of the conformance set: small pictures, and edits of files that keep their checksums right."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from typing import Any

import numpy as np

from igs.format import Colour, Group, Header, Quantizer, quantize, write
from igs.format.head import Head, levels_bytes, parse_head
from igs.format.lattice import Lattice, ValueModel
from igs.format.limits import Limits

OFF = Limits(**{name: float("inf") for name in Limits.__dataclass_fields__})


def header(channels: int = 1, **changes: Any) -> Header:
    """A header of a 16 × 12 picture; 5 + 5, 4 + 4, 4 and 6 bits a channel, all quantisers with small parameters."""
    colour = {1: Colour.GREY, 3: Colour.RGB}.get(channels, Colour.UNSPECIFIED)
    fields: dict[str, Any] = {
        "width": 16,
        "height": 12,
        "channels": channels,
        "groups": (Group(channels=channels, colour=colour),),
        "background": (0.25,) * channels,
        "position": Quantizer.uniform(0, 15.5, 5, shared=True, columns=2),
        "scale": Quantizer.uniform(-1, 2.75, 4, shared=True, columns=2),
        "rotation": Quantizer.affine(0, 1 / 16, 4),
        "feature": Quantizer.uniform(0, 1, 6, shared=True, columns=channels),
        "top_k": 4,
    }
    return Header(**(fields | changes))


def lattice_header(channels: int = 3, **changes: Any) -> Header:
    """The same picture with lattice quantisers: half a deviation, a quarter pixel, colours in steps of about 1/16."""
    head = header(channels, **changes)
    features = head.features
    families = (ValueModel(1, 40, 8, 170), ValueModel(2, 63, -8, 160), ValueModel(0, 0, 0, 180))
    record = Lattice(
        8, 16, 12, 8, (32,) * features, channels == 3, ValueModel(0, 30, 4, 190), 180,
        tuple(families[i % 3] for i in range(features)), tuple(range(16)),
    )  # fmt: skip
    kinds = {name: Quantizer.lattice(getattr(head, name).columns) for name in ("position", "scale", "rotation")}
    return dataclasses.replace(head, **kinds, feature=Quantizer.lattice(features), lattice=record)


def random_codes(head: Header, n: int, seed: int = 0) -> np.ndarray:
    """n rows of codes drawn over the whole range of every column that holds no floats."""
    rng = np.random.default_rng(seed)
    position = rng.uniform(-2, 18, (n, 2))
    sigma = np.exp2(rng.uniform(-1, 2.5, (n, 2)))
    feature = rng.uniform(0, 1, (n, head.features))
    angle = rng.uniform(0, 1, (n, 1))
    if head.shape == 0:
        scale = [sigma, 1 / sigma, np.log2(sigma)][head.scale_map]
        return quantize(head, position, scale, angle, feature)
    if head.shape == 1:  # l11, l22 and l21
        return quantize(head, position, sigma, rng.uniform(-2, 2, (n, 1)), feature)
    off = rng.uniform(-1.3, 1.3, (n, 1)) * sigma.prod(axis=1, keepdims=True)  # beyond 1: not positive definite
    return quantize(head, position, sigma**2, off, feature)


def small_file(channels: int = 1, n: int = 3, **options: Any) -> bytes:
    """A whole file of one chunk, raw."""
    head = header(channels)
    return write(head, [[random_codes(head, n)]], codec=options.pop("codec", 0), **options)


def head_of(data: bytes) -> Head:
    """The parsed head of a valid file."""
    return parse_head(data[: struct.unpack_from("<I", data, 12)[0]], OFF)


def fix_crc(data: bytes | bytearray) -> bytes:
    """The file with head_crc made right for the head that head_bytes tells."""
    end = struct.unpack_from("<I", data, 12)[0]
    return bytes(data[: end - 4]) + struct.pack("<I", zlib.crc32(data[: end - 4])) + bytes(data[end:])


def patch(data: bytes, offset: int, layout: str, *values: Any) -> bytes:
    """The file with a field overwritten, and head_crc made right."""
    edited = bytearray(data)
    struct.pack_into("<" + layout, edited, offset, *values)
    return fix_crc(edited)


def grow_head(data: bytes, at: int, extra: bytes) -> bytes:
    """The file with bytes put into the head at ``at``; head_bytes, level ends and file_bytes move along."""
    head = head_of(data)
    edited = bytearray(data[:at] + extra + data[at:])
    struct.pack_into("<I", edited, 12, head.head_bytes + len(extra))
    struct.pack_into("<Q", edited, 16, head.file_bytes + len(extra))
    levels = levels_at(data)
    for number, end in enumerate(head.level_ends[:-1]):
        place = levels + 12 * number + 4
        struct.pack_into("<Q", edited, place + (len(extra) if place >= at else 0), end + len(extra))
    return fix_crc(edited)


def levels_at(data: bytes) -> int:
    """Offset of the level records."""
    head = head_of(data)
    inline = sum(len(v) for v in head.inline.values())
    return head.index_offset - inline - 16 * len(head.sections) - levels_bytes(len(head.level_ends))


def sections_at(data: bytes) -> int:
    """Offset of the section table."""
    return levels_at(data) + levels_bytes(len(head_of(data).level_ends))


def entry_at(data: bytes, chunk: int = 0) -> int:
    """Offset of a chunk's index entry in a one-stage file."""
    return head_of(data).index_offset + 18 * chunk


def with_payload(data: bytes, payload: bytes, count: int | None = None, codec: int | None = None) -> bytes:
    """A one-chunk file with another payload; size, checksum, ends, and if given count and codec, made right."""
    head = head_of(data)
    edited = bytearray(data[: head.payload_offset] + payload + data[head.level_ends[0] :])
    at, grown = head.index_offset, len(payload) - int(head.rows["bytes"][0])
    codec = int(head.rows["codec"][0]) if codec is None else codec
    struct.pack_into("<I", edited, at, codec << 24 | len(payload))
    struct.pack_into("<H", edited, at + 16, zlib.crc32(payload) & 0xFFFF)
    if count is not None:
        struct.pack_into("<H", edited, at + 4, count)
        struct.pack_into("<I", edited, 28, count)
    struct.pack_into("<Q", edited, 16, head.file_bytes + grown)
    return fix_crc(edited)


def payload_of(data: bytes) -> bytes:
    """The payload of a one-chunk file."""
    head = head_of(data)
    return data[head.payload_offset : head.level_ends[0]]
