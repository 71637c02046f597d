"""The index (spec §4): entries of chunks, nodes of a two-stage index, boxes in integer units, and all their checks.

Arrays only; files are read in reader.py. Checks raise InvalidFile with the byte of the first bad field.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igs.format.bitpack import packed_bytes
from igs.format.error_codes import invalid
from igs.format.fields import BLOCK_ENTRIES, ENTRY_BYTES, MAX_PAYLOAD, MAX_SINGLE_STAGE, NODE_BYTES, Codec
from igs.format.header import Header
from igs.format.limits import Limits
from igs.format.parts import Part

# An entry in a file, and in memory: extent taken apart, reach_area (the upper half of a binary32) as a number.
PACKED = np.dtype([("extent", "<u4"), ("count", "<u2"), ("box", "<i2", 4), ("reach_area", "<u2"), ("crc", "<u2")])
ENTRY = np.dtype(
    [("bytes", "u4"), ("count", "u2"), ("codec", "u1"), ("box", "i2", 4), ("reach_area", "f4"), ("crc", "u2")]
)
NODE = np.dtype([("box", "<i2", 4), ("reach_area", "<f4"), ("count", "<u4"), ("bytes", "<u8"), ("crc", "<u4")])
assert (PACKED.itemsize, NODE.itemsize) == (ENTRY_BYTES, NODE_BYTES)

Entries = NDArray[Any]
F64 = NDArray[np.float64]
BOX_MIN, BOX_MAX = -32768, 32767  # as a low and a high side: −∞ and +∞
_CODEC_AT = 3  # in an entry: the top byte of extent
_KNOWN = np.isin(np.arange(256), [int(c) for c in Codec])  # codecs
AREA_SLACK = 1 + 2.0**-20  # sums of reach areas may be taken in any order and precision


def unpack_entries(data: bytes) -> Entries:
    """Entries from the bytes of a file; any bytes, unchecked."""
    packed = np.frombuffer(data, PACKED)
    entries = np.empty(len(packed), ENTRY)
    for name in ("count", "box", "crc"):
        entries[name] = packed[name]
    entries["bytes"], entries["codec"] = packed["extent"] & MAX_PAYLOAD, packed["extent"] >> 24
    entries["reach_area"] = (packed["reach_area"].astype(np.uint32) << 16).view(np.float32)
    return entries


def pack_entries(entries: Entries) -> bytes:
    """The inverse of ``unpack_entries``; reach areas must be as ``round_up_area`` gives them."""
    packed = np.empty(len(entries), PACKED)
    for name in ("count", "box", "crc"):
        packed[name] = entries[name]
    packed["extent"] = entries["bytes"] | entries["codec"].astype(np.uint32) << 24
    packed["reach_area"] = np.ascontiguousarray(entries["reach_area"]).view(np.uint32) >> 16
    return packed.tobytes()


def payload_crc(payload: bytes) -> int:
    """The checksum of a chunk as its entry holds it: the low half of the CRC-32."""
    return zlib.crc32(payload) & 0xFFFF


def is_two_stage(num_chunks: int) -> bool:
    """Whether an index of so many chunks has nodes in the head and entries in stage two."""
    return num_chunks > MAX_SINGLE_STAGE


def num_nodes(num_chunks: int) -> int:
    """Nodes of a two-stage index."""
    return -(-num_chunks // BLOCK_ENTRIES)


def box_to_units(boxes: F64, box_shift: int) -> NDArray[np.int16]:
    """Boxes in pixels [n, 4] → the smallest boxes in units of 2^box_shift pixels that contain them."""
    scaled = boxes * 2.0**-box_shift
    units = np.concatenate([np.floor(scaled[:, :2]), np.ceil(scaled[:, 2:])], axis=1)
    return np.asarray(np.clip(units, BOX_MIN, BOX_MAX), np.int16)


def box_to_pixels(units: NDArray[np.int16], box_shift: int) -> F64:
    """Boxes in units → pixels [n, 4], infinite where the unit says so."""
    boxes = units.astype(np.float64) * 2.0**box_shift
    boxes[:, :2][units[:, :2] == BOX_MIN] = -np.inf
    boxes[:, 2:][units[:, 2:] == BOX_MAX] = np.inf
    return boxes


def choose_box_shift(width: int, height: int) -> int:
    """The finest unit in which boxes around a picture of this size, and half of it beyond each side, can be told."""
    shift = 0
    while 2 * max(width, height) > BOX_MAX << shift and shift < 15:
        shift += 1
    return shift


def round_up_f32(values: F64) -> NDArray[np.float32]:
    """The next binary32 number above each value: a bound that survives rounding."""
    return np.nextafter(values.astype(np.float32), np.float32(np.inf))


def round_up_area(values: F64) -> NDArray[np.float32]:
    """The next number above each value, 0 or more, that an entry's reach_area can hold: 8 significant bits."""
    bits = round_up_f32(values).view(np.uint32)
    return np.asarray((bits + np.uint32(0xFFFF) & np.uint32(0xFFFF0000)).view(np.float32))


def build_nodes(entries: Entries) -> Entries:
    """The nodes over blocks of entries, with tight boxes."""
    starts = np.arange(0, len(entries), BLOCK_ENTRIES)
    nodes = np.zeros(len(starts), NODE)
    boxes = entries["box"]
    nodes["box"][:, :2] = np.minimum.reduceat(boxes[:, :2], starts)
    nodes["box"][:, 2:] = np.maximum.reduceat(boxes[:, 2:], starts)
    nodes["reach_area"] = round_up_f32(np.add.reduceat(entries["reach_area"].astype(np.float64), starts))
    nodes["count"] = np.add.reduceat(entries["count"].astype(np.uint32), starts)
    nodes["bytes"] = np.add.reduceat(entries["bytes"].astype(np.uint64), starts)
    nodes["crc"] = [zlib.crc32(pack_entries(entries[s : s + BLOCK_ENTRIES])) for s in starts.tolist()]
    return nodes


def _first(bad: NDArray[np.bool_]) -> int | None:
    return int(bad.argmax()) if bad.any() else None


def _check_common(rows: Entries, offset: int, layout: np.dtype[Any], what: str, numbers: int) -> None:
    """Box order and area, for entries and nodes alike. layout: in the file. numbers: the first row's, for messages."""
    unit, box_at, area_at = layout.itemsize, _offset(layout, "box"), _offset(layout, "reach_area")
    box = rows["box"]
    row = _first((box[:, 0] > box[:, 2]) | (box[:, 1] > box[:, 3]))
    if row is not None:
        where = f"{what} {numbers + row}"
        raise invalid("E_INDEX", "x0 ≤ x1, y0 ≤ y1", str(box[row].tolist()), offset + unit * row + box_at, where=where)
    area = rows["reach_area"]
    row = _first(~(np.isfinite(area) & (area >= 0)))
    if row is not None:
        where = f"{what} {numbers + row}"
        raise invalid(
            "E_INDEX", "a reach_area of 0 or more", str(area[row]), offset + unit * row + area_at, where=where
        )


def _offset(layout: np.dtype[Any], name: str) -> int:
    assert layout.fields is not None
    return int(layout.fields[name][1])


def check_entries(entries: Entries, parts: Sequence[Part], limits: Limits, offset: int, first: int = 0) -> None:
    """Every entry by itself. offset: of entry ``first`` in the file."""
    for part in parts:
        low, high = max(part.first_chunk - first, 0), min(part.last_chunk - first, len(entries))
        if low < high:
            _check_entries(entries[low:high], part.header, limits, offset + ENTRY_BYTES * low, first + low)


def _check_entries(entries: Entries, header: Header, limits: Limits, offset: int, first: int) -> None:
    future = _first(~_KNOWN[entries["codec"]])
    if future is not None:  # told only if nothing before it is wrong (spec §13)
        if future:
            _check_entries(entries[:future], header, limits, offset, first)
        known = f"codec {', '.join(f'{c.value} {c.name.lower()}' for c in Codec)}"
        where, found = f"chunk {first + future}", str(entries["codec"][future])
        raise invalid("E_CODEC", known, found, offset + ENTRY_BYTES * future + _CODEC_AT, where=where)
    count, size, codec = entries["count"].astype(np.int64), entries["bytes"].astype(np.int64), entries["codec"]
    if header.lattice is not None and _plainly_right(entries, count, size):
        _check_limits(count, size, header, limits, offset)
        return

    def fail(code: str, bad: NDArray[np.bool_], expected: str, found: NDArray[Any], at: int) -> None:
        row = _first(bad)
        if row is not None:
            where = f"chunk {first + row}"
            raise invalid(code, expected, str(found[row]), offset + ENTRY_BYTES * row + at, where=where)

    fail("E_INDEX", size == 0, "bytes of 1 or more", size, 0)
    fail("E_INDEX", count == 0, "a count of 1 or more", count, 4)
    _check_common(entries, offset, PACKED, "chunk", first)
    coded = codec == Codec.CELLS
    if header.lattice is None:
        fail("E_INDEX", coded, "codec cells only with lattice quantisers", codec, _CODEC_AT)
    else:
        fail("E_INDEX", ~coded, "codec cells with lattice quantisers", codec, _CODEC_AT)
    wrong = (codec == Codec.RAW) & (size != (count * header.bits_per_gaussian + 7) // 8)
    row = _first(wrong)
    if row is not None:
        expected = f"{packed_bytes(int(count[row]), header.code_bits)} bytes for {count[row]} Gaussians"
        fail("E_CHUNK_BYTES", wrong, expected, size, 0)
    _check_limits(count, size, header, limits, offset)


def _plainly_right(entries: Entries, count: NDArray[np.int64], size: NDArray[np.int64]) -> bool:
    """Whether entries of chunks in cells are all right, in a third of the time that it takes to say what is not."""
    box, area = entries["box"], entries["reach_area"]
    return bool(
        min(size.min(), count.min()) > 0
        and (box[:, :2] <= box[:, 2:]).all()
        and area.min() >= 0
        and area.max() < np.inf
        and (entries["codec"] == Codec.CELLS).all()
    )


def _check_limits(
    count: NDArray[np.int64], size: NDArray[np.int64], header: Header, limits: Limits, offset: int
) -> None:
    limits.check("chunk_bytes", int(count.max()) * 4 * header.code_columns, offset)
    limits.check("gaussians_per_byte", float((count / size).max()), offset)


def check_nodes(nodes: Entries, num_chunks: int, limits: Limits, offset: int) -> None:
    """Every node by itself, and that it has a Gaussian and a byte for each chunk: what is kept of these is memory."""
    _check_common(nodes, offset, NODE, "node", 0)
    entries = np.minimum(BLOCK_ENTRIES, num_chunks - BLOCK_ENTRIES * np.arange(len(nodes)))
    for name in ("count", "bytes"):
        row = _first(nodes[name] < entries.astype(np.uint64))
        if row is not None:
            expected, found = f"{name} of its {entries[row]} chunks or more", str(nodes[name][row])
            at = offset + NODE_BYTES * row + _offset(NODE, name)
            raise invalid("E_NODE", expected, found, at, where=f"node {row}")
    size = nodes["bytes"].astype(np.float64)
    limits.check("gaussians_per_byte", float((nodes["count"] / size).max()), offset)


def check_block(node: Any, entries: Entries, number: int, offset: int) -> None:
    """A node against its block of entries (``E_NODE``). offset: of the node."""
    box, boxes = node["box"], entries["box"]
    where = f"node {number}"
    for name, at in (("count", 12), ("bytes", 16)):
        total = sum(entries[name].tolist())
        if total != int(node[name]):
            raise invalid("E_NODE", f"{name} of {total}, as its entries", str(node[name]), offset + at, where=where)
    if (boxes[:, :2].min(axis=0) < box[:2]).any() or (boxes[:, 2:].max(axis=0) > box[2:]).any():
        raise invalid("E_NODE", "a box around its entries'", str(box.tolist()), offset, where=where)
    total = float(entries["reach_area"].astype(np.float64).sum())
    if total > float(node["reach_area"]) * AREA_SLACK:
        raise invalid("E_NODE", f"a reach_area of at least {total:g}", str(node["reach_area"]), offset + 8, where=where)
