"""Every way to be invalid: file name → (bytes, limits to open it with). The name states the code that must come out."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator

import numpy as np
import zstandard
from chosen import Above, Chooser, chosen_file
from vectors import (
    entry_at,
    fix_crc,
    grow_head,
    head_of,
    header,
    lattice_header,
    levels_at,
    patch,
    payload_of,
    random_codes,
    sections_at,
    small_file,
    with_payload,
)

from igs.format import Blend, Codec, Group, Quantizer, ScaleMap, Shape, join, quantize, write
from igs.format.codecs import plane_bytes
from igs.format.lattice import Lattice, ValueModel

Case = tuple[str, bytes, dict[str, float]]
SECTIONS = {"json": b'{"a": 1}', "soft": b"igs", "abcd": b"?"}


def cases() -> Iterator[Case]:
    """All of them, by number."""
    for part in (
        _file(),
        _head(),
        _quantizers(),
        _groups(),
        _parts(),
        _levels(),
        _sections(),
        _index(),
        _stages(),
        _chunks(),
        _streams(),
        _first_faults(),
    ):
        for name, data in part:
            yield name, data, {}
    yield from _limits()


def _file() -> Iterator[tuple[str, bytes]]:
    base = small_file()
    yield "101_E_SIGNATURE", b"\x8a" + base[1:]
    yield "101_E_SIGNATURE_newlines", base.replace(b"\r\n", b"\n")
    yield "101_E_SIGNATURE_seven_bits", bytes(b & 127 for b in base)
    yield "101_E_SIGNATURE_png", b"\x89PNG\r\n\x1a\n" + base[8:]
    yield "102_E_VERSION", patch(base, 8, "B", 1)
    yield "102_E_VERSION_draft", patch(base, 9, "B", 1)
    yield "102_E_VERSION_short", base[:8] + b"\1\0"
    yield "103_E_TRUNCATED", base[:-1]
    yield "103_E_TRUNCATED_empty", b""
    yield "103_E_TRUNCATED_signature", base[:5]
    yield "103_E_TRUNCATED_version", base[:8] + b"\1"
    yield "103_E_TRUNCATED_header", base[:40]
    yield "103_E_TRUNCATED_head", base[:120]
    yield "104_E_TRAILING", base + b"\0"
    yield "105_E_HEAD_BYTES", grow_head(base, head_of(base).head_bytes - 4, bytes(4))
    yield "105_E_HEAD_BYTES_small", patch(base, 12, "I", 61)
    yield "105_E_HEAD_BYTES_index", patch(base, levels_at(base), "I", 2)
    yield "106_E_HEAD_CRC", base[:24] + b"\x11" + base[25:]


def _head() -> Iterator[tuple[str, bytes]]:
    base = small_file()
    yield "107_E_RESERVED", patch(base, 10, "B", 8)
    yield "107_E_RESERVED_flags_2", patch(base, 10, "B", 4)
    for field, offset in (("level_mode", 35), ("blend", 37), ("primitive", 39), ("shape", 40), ("scale_map", 41)):
        yield f"108_E_UNKNOWN_{field}", patch(base, offset, "B", 7)
    yield "108_E_UNKNOWN_kind", patch(base, 50, "B", 14)
    for field, offset, layout, value in (
        ("box_shift", 11, "B", 16),
        ("num_gaussians", 28, "I", 0),
        ("channels", 32, "B", 0),
        ("channels_65", 32, "B", 65),
        ("num_groups", 33, "B", 0),
        ("num_levels", 34, "B", 0),
        ("num_levels_17", 34, "B", 17),
        ("top_k", 38, "B", 0),
        ("top_k_33", 38, "B", 33),
        ("reach2", 42, "e", 0.0),
        ("reach2_nan", 42, "e", float("nan")),
        ("reach2_large", 42, "e", 1025.0),
        ("relative_reach2", 44, "e", -1.0),
        ("lowpass", 46, "f", float("inf")),
        ("two_stage", 10, "B", 1),
    ):
        yield f"109_E_FIELD_{field}", patch(base, offset, layout, value)
    yield "109_E_FIELD_background", patch(base, levels_at(base) - 10, "e", float("inf"))
    sum_head = header(blend=Blend.SUM, top_k=0, relative_reach2=float("inf"))
    summed = write(sum_head, [[random_codes(sum_head, 1)]])
    yield "109_E_FIELD_sum_relative_reach2", patch(summed, 44, "e", 9.0)
    yield "109_E_FIELD_sum_top_k", patch(summed, 38, "B", 4)
    matrix = header(shape=Shape.CHOLESKY, scale_map=ScaleMap.RAW)
    yield "109_E_FIELD_scale_map", patch(write(matrix, [[random_codes(matrix, 1)]]), 41, "B", 1)


def _quantizers() -> Iterator[tuple[str, bytes]]:
    base = small_file()
    yield "110_E_QUANTIZER_bits", patch(base, 51, "B", 0)
    yield "110_E_QUANTIZER_bits_33", patch(base, 51, "B", 33)
    yield "110_E_QUANTIZER_stages", patch(base, 50, "B", 0x18)
    yield "110_E_QUANTIZER_order", patch(base, 58, "ff", 1.0, 0.0)
    yield "110_E_QUANTIZER_nan", patch(base, 58, "f", float("nan"))
    floats = header(position=Quantizer.float32(2))
    data = write(floats, [[random_codes(floats, 1)]])
    yield "110_E_QUANTIZER_shared", patch(data, 50, "B", 0x0B)
    yield "110_E_QUANTIZER_float_bits", patch(data, 51, "B", 16)
    lattice = lattice_header()
    data = write(lattice, [[random_codes(lattice, 4)]])
    yield "110_E_QUANTIZER_lattice", patch(data, 52, "BB", 2, 16)
    yield "110_E_QUANTIZER_lattice_bits", patch(data, 51, "B", 8)
    yield "110_E_QUANTIZER_lattice_shared", patch(data, 56, "B", 0x0D)
    yield "110_E_QUANTIZER_lattice_ycbcr", patch(data, 58 + 4 + 3, "B", 2)
    yield "110_E_QUANTIZER_lattice_family", patch(data, 58 + 5 + 3, "B", 0xC0)
    yield "109_E_FIELD_lattice_scale_map", patch(data, 41, "B", 0)
    yield "109_E_FIELD_lattice_shape", patch(data, 40, "BB", 1, 0)
    yield "109_E_FIELD_lattice_lowpass", patch(data, 46, "f", 0.5)
    book = header(feature=Quantizer.codebook(np.linspace(0, 1, 4).reshape(2, 2, 1)))
    yield "110_E_QUANTIZER_codebook", patch(write(book, [[random_codes(book, 1)]]), 56, "B", 0x94)


def _groups() -> Iterator[tuple[str, bytes]]:
    rgb = small_file(3)
    group = levels_at(rgb) - 8  # seven bytes and name_bytes; the name is empty
    yield "111_E_GROUP", patch(rgb, group, "B", 2)
    yield "111_E_GROUP_colour", patch(rgb, group + 4, "B", 1)
    yield "111_E_GROUP_bit_depth", patch(rgb, group + 3, "B", 12)
    yield "111_E_GROUP_gamma", patch(rgb, group + 5, "e", 0.0)
    named_head = header(3, groups=(Group(channels=3, name="n"),))
    named = write(named_head, [[random_codes(named_head, 1)]])
    yield "111_E_GROUP_name", patch(named, levels_at(named) - 1, "B", 0xFF)
    yield "111_E_GROUP_control", patch(named, levels_at(named) - 1, "B", 10)
    yield "111_E_GROUP_name_bytes", patch(rgb, group + 7, "B", 65)
    grey = small_file(1)
    yield "111_E_GROUP_alpha", patch(grey, levels_at(grey) - 8 + 2, "B", 1)
    yield "108_E_UNKNOWN_transfer", patch(rgb, group + 1, "B", 4)
    yield "108_E_UNKNOWN_alpha", patch(rgb, group + 2, "B", 3)
    yield "108_E_UNKNOWN_colour", patch(rgb, group + 4, "B", 5)
    twice = header(2, groups=(Group(channels=1, name="a"), Group(channels=1, name="b")))
    data = write(twice, [[random_codes(twice, 1)]])
    yield "111_E_GROUP_same_name", patch(data, levels_at(data) - 1, "c", b"a")
    half = header(2, groups=(Group(channels=1), Group(channels=1, name="b")))
    data = write(half, [[random_codes(half, 1)]])
    at = levels_at(data) - 1  # the only name, of one byte
    cut = bytearray(data[: at - 1] + b"\0" + data[at + 1 :])
    struct.pack_into("<IQ", cut, 12, head_of(data).head_bytes - 1, len(cut))
    yield "111_E_GROUP_no_names", fix_crc(cut)


def _parts() -> Iterator[tuple[str, bytes]]:
    heads = [header(n, groups=(Group(channels=n, name=name),)) for n, name in ((2, "a"), (1, "b"))]
    base = join([write(h, [[random_codes(h, 2)]], codec=Codec.RAW) for h in heads])
    at = 58  # num_parts, two records of five bytes, and the part of each of two groups
    yield "117_E_PART", patch(base, at, "B", 1)
    yield "117_E_PART_many", patch(base, at, "B", 65)
    yield "117_E_PART_channels", patch(base, at + 1, "B", 1)
    yield "117_E_PART_channels_of_groups", patch(patch(base, at + 1, "B", 1), at + 6, "B", 2)
    yield "117_E_PART_no_channels", patch(patch(base, at + 1, "B", 3), at + 6, "B", 0)
    yield "117_E_PART_chunks", patch(base, at + 2, "I", 2)
    yield "117_E_PART_no_chunks", patch(patch(base, at + 2, "I", 2), at + 7, "I", 0)
    yield "117_E_PART_member", patch(base, at + 12, "B", 2)
    yield "117_E_PART_empty", patch(base, at + 12, "B", 0)
    yield "117_E_PART_mode", patch(base, 35, "B", 1)


def _levels() -> Iterator[tuple[str, bytes]]:
    head = header()
    base = write(head, [[random_codes(head, 3)], [random_codes(head, 2, 1)]], codec=Codec.RAW)
    at, ends = levels_at(base), head_of(base).level_ends
    yield "112_E_LEVEL", patch(base, at + 4, "Q", ends[0] + 1)
    yield "112_E_LEVEL_order", patch(base, at + 4, "Q", ends[1])
    yield "112_E_LEVEL_last", patch(base, 16, "Q", len(base) + 1) + b"\0"
    yield "112_E_LEVEL_chunks", patch(patch(base, at, "I", 0), at + 12, "I", 2)
    tail = small_file(sections={"json": b'{"a": "' + b"x" * 300 + b'"}'})
    yield "112_E_LEVEL_tail", patch(tail, sections_at(tail) + 4, "I", 2 * len(tail))
    yield "103_E_TRUNCATED_level", base[: ends[0] + 3]


def _sections() -> Iterator[tuple[str, bytes]]:
    base = small_file(sections=SECTIONS)
    at = sections_at(base)
    inline = at + 48
    yield "113_E_SECTION", patch(base, at, "4s", b"zzzz")
    yield "113_E_SECTION_type", patch(base, at, "4s", b"ab1d")
    yield "113_E_SECTION_twice", patch(base, at + 16, "4s", b"abcd")
    big = small_file(sections={"json": b'{"a": "' + bytes(300).replace(b"\0", b"x") + b'"}'})
    yield "113_E_SECTION_critical_tail", patch(big, sections_at(big), "4s", b"Json")
    yield "114_E_CRITICAL", patch(base, at, "4s", b"Abcd")
    yield "107_E_RESERVED_section", patch(base, at + 15, "B", 1)
    yield "108_E_UNKNOWN_place", patch(base, at + 12, "B", 2)
    yield "115_E_SECTION_CRC", patch(base, inline, "B", 1)
    for name, data in (
        ("json", b"[1]"),
        ("json", b"{"),
        ("json", b'{"a": NaN}'),
        ("json", b"\xef\xbb\xbf{}"),
        ("soft", b"\xff"),
        ("exif", b"IIII"),
        ("exif", b"II*\0\x08\0\0"),
        ("iccp", bytes(128)),
        ("phys", b"\1" * 7),
        ("phys", b"\1" * 4 + bytes(4)),
    ):
        yield f"116_E_SECTION_CONTENT_{name}_{len(data)}", small_file(sections={name: data})


def _index() -> Iterator[tuple[str, bytes]]:
    head = header()
    base = write(head, [[random_codes(head, 3), random_codes(head, 2, 1)]], codec=Codec.RAW)
    at = entry_at(base)
    yield "201_E_INDEX_bytes", patch(base, at, "I", 0)
    yield "201_E_INDEX_count", patch(base, at + 4, "H", 0)
    yield "201_E_INDEX_box", patch(base, at + 6, "4h", 5, 5, 4, 9)
    yield "201_E_INDEX_reach_area", patch(base, at + 14, "H", 0x7FC0)
    yield "201_E_INDEX_negative_area", patch(base, at + 14, "H", 0xBF80)
    yield "202_E_COUNT", patch(base, 28, "I", 6)
    yield "201_E_INDEX_codec", patch(base, at + 3, "B", 2)
    lattice = lattice_header()
    coded = write(lattice, [[random_codes(lattice, 4)]])
    for codec in (0, 1, 3):
        yield f"201_E_INDEX_codec_{codec}", patch(coded, entry_at(coded) + 3, "B", codec)
    yield "205_E_CODEC", patch(base, at + 3, "B", 200)


def two_stage_file() -> bytes:
    """The smallest file whose index has two stages: 4097 chunks of one Gaussian."""
    head = header()
    return write(head, [[random_codes(head, 1)] * 4097], codec=Codec.RAW)


def _stages() -> Iterator[tuple[str, bytes]]:
    base = two_stage_file()
    at, block = head_of(base).index_offset, head_of(base).head_bytes
    box = struct.unpack_from("<4h", base, at)
    yield "203_E_NODE", patch(base, at, "4h", *box[:3], box[3] - 1)
    yield "203_E_NODE_count", patch(patch(base, at + 12, "I", 255), at + 28 + 12, "I", 257)
    yield "203_E_NODE_bytes", patch(base, at + 16, "Q", 255)
    head = header()
    codes = [random_codes(head, 2)] * 4097
    pairs = write(head, [codes], codec=Codec.RAW)
    first = head_of(pairs).index_offset
    for name, place, layout in (("entries_count", 12, "I"), ("entries_bytes", 16, "Q")):  # with the right sums
        values = [struct.unpack_from("<" + layout, pairs, first + 28 * i + place)[0] for i in (0, 1)]
        moved = patch(pairs, first + place, layout, values[0] + 1)
        yield f"203_E_NODE_{name}", patch(moved, first + 28 + place, layout, values[1] - 1)
    more = struct.unpack_from("<Q", pairs, first + 16)[0] + 1
    yield "112_E_LEVEL_nodes", patch(pairs, first + 16, "Q", more)
    yield "203_E_NODE_reach_area", patch(base, at + 8, "f", struct.unpack_from("<f", base, at + 8)[0] / 2)
    yield "204_E_NODE_CRC", base[: block + 100] + b"\x7f" + base[block + 101 :]
    yield "103_E_TRUNCATED_stage_two", base[: block + 100]
    yield "109_E_FIELD_one_stage", patch(base, 10, "B", 0)
    yield "201_E_INDEX_node", patch(base, at + 8, "f", float("inf"))


def _chunks() -> Iterator[tuple[str, bytes]]:
    base = small_file()
    payload = payload_of(base)
    yield "301_E_CHUNK_CRC", base[:-1] + bytes([base[-1] ^ 1])
    yield "302_E_CHUNK_BYTES", with_payload(base, payload + b"\0")
    yield "304_E_PADDING", with_payload(base, payload[:-1] + bytes([payload[-1] | 0x80]))

    head = header()
    planes = bytes(3 * plane_bytes(head.code_bits))
    frame = zstandard.ZstdCompressor(write_content_size=True).compress
    yield "302_E_CHUNK_BYTES_zstd", with_payload(base, frame(planes + b"\0"), codec=1)
    yield "302_E_CHUNK_BYTES_bomb", with_payload(base, frame(bytes(2**24)), codec=1)
    yield "303_E_ZSTD", with_payload(base, b"not a frame", codec=1)
    yield "303_E_ZSTD_broken", with_payload(base, frame(planes)[:-1], codec=1)
    yield "303_E_ZSTD_trailing", with_payload(base, frame(planes) + b"\0", codec=1)
    yield "303_E_ZSTD_two_frames", with_payload(base, frame(planes) + frame(b""), codec=1)
    no_size = zstandard.ZstdCompressor(write_content_size=False).compress(planes)
    yield "303_E_ZSTD_no_size", with_payload(base, no_size, codec=1)
    yield "303_E_ZSTD_skippable", with_payload(base, b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + frame(planes), codec=1)
    # A frame header that names dictionary 7: descriptor with a one-byte dictionary id and a one-byte content size.
    named = b"\x28\xb5\x2f\xfd\x21\x07" + bytes([len(planes)]) + struct.pack("<I", len(planes) << 3 | 1)[:3] + planes
    wide = b"\x28\xb5\x2f\xfd\x80\x88" + struct.pack("<I", len(planes)) + named[7:]
    yield "303_E_ZSTD_window", with_payload(base, wide, codec=1)
    yield "303_E_ZSTD_dictionary", with_payload(base, named, codec=1)
    for detail, content in (("short", planes[:-1]), ("long", planes + b"\0")):  # not the size that the frame states
        block = struct.pack("<I", len(content) << 3 | 1)[:3] + content
        sized = b"\x28\xb5\x2f\xfd\x20" + bytes([len(planes)]) + block
        yield f"303_E_ZSTD_{detail}", with_payload(base, sized, codec=1)
    yield "304_E_PADDING_zstd", with_payload(base, frame(b"\x20" + planes[1:]), codec=1)

    for kind, value, layout in ((Quantizer.float16(2), 0x7C00, "H"), (Quantizer.float32(2), 0x7FC00000, "I")):
        floats = header(position=kind)
        data = write(floats, [[random_codes(floats, 1)]], codec=Codec.RAW)
        name = f"305_E_VALUE_float{kind.bits}"
        yield name, with_payload(data, struct.pack("<" + layout, value) + payload_of(data)[struct.calcsize(layout) :])
    box = struct.unpack_from("<4h", base, entry_at(base) + 6)
    yield "306_E_REACH", patch(base, entry_at(base) + 6, "4h", box[0] + 1, *box[1:])
    area = struct.unpack_from("<H", base, entry_at(base) + 14)[0]
    plain = header(scale=Quantizer.uniform(0, 0, 1, shared=True, columns=2))
    round_ = write(plain, [[np.array([[16, 12, 0, 0, 0, 5]], np.uint32)]], codec=Codec.RAW)  # at (8, 6), σ = 1, R = 5
    yield "306_E_REACH_margin", patch(round_, entry_at(round_) + 6, "4h", 3, 1, 13, 11)  # R, not R⁺, to each side
    wide = header(scale_map=ScaleMap.RAW, scale=Quantizer.float32(2))
    codes = quantize(wide, [[8, 6]], [[2.5532331466674805] * 2], [[0]], [[1]])  # π·R²·D = 512·(1 + 1.05·2^-19)
    above = struct.unpack("<I", struct.pack("<f", 512.0))[0] >> 16
    data = write(wide, [[codes]], codec=Codec.RAW)
    yield "307_E_REACH_AREA_beyond_tolerance", patch(data, entry_at(data) + 14, "H", above)
    yield "307_E_REACH_AREA", patch(base, entry_at(base) + 14, "H", area - 1)


def _streams() -> Iterator[tuple[str, bytes]]:
    head = lattice_header()
    cells = write(head, [[random_codes(head, 20)]])
    plain = header()
    columns = write(plain, [[np.repeat(random_codes(plain, 3), 9, axis=0)]], codec=Codec.COLUMNS)
    for name, base, start, count in (("", cells, 4, 20), ("_columns", columns, 0, 27)):
        payload = payload_of(base)
        state = start + 5
        yield f"308_E_STREAM{name}", with_payload(base, payload[:-2])
        yield f"308_E_STREAM{name}_odd", with_payload(base, payload[:-1])
        yield f"308_E_STREAM{name}_longer", with_payload(base, payload + b"\0\0")
        yield f"308_E_STREAM{name}_short", with_payload(base, payload[: state - 1])
        yield f"308_E_STREAM{name}_state", with_payload(base, payload[:start] + bytes(5) + payload[state:])
        yield f"308_E_STREAM{name}_count", with_payload(base, payload, count + 1)
        yield f"308_E_STREAM{name}_flipped", with_payload(base, payload[:-4] + bytes([payload[-4] ^ 1]) + payload[-3:])
    yield from _refused()
    yield "308_E_STREAM_trim", with_payload(cells, b"\xff\xff\0\0" + payload_of(cells)[4:])


def _refused() -> Iterator[tuple[str, bytes]]:
    """Payloads in which one number is what a MUST forbids, and that a reader without this check takes to their end."""
    models = ValueModel(1, 63, 8, 176), ValueModel(2, 63, 0, 192)
    record = Lattice(24, 4, 10, 8, (16,), False, models[0], 170, (models[1],), tuple(range(16)))
    for name, changes, coder, reason in (
        ("row", {"position": 8}, Chooser(18, extremes=0.15), "no row"),
        ("point", {"position": 12}, Chooser(44, extremes=0.15), "no point"),
        ("code", {"position": 220}, Chooser(1, extremes=0.15), "beyond"),
        ("angle", {"rotation": 80}, Above(1, True), "not below"),
        ("place", {"position": 90}, Above(1, False), "not below"),
        ("low_state", {}, Chooser(1, extremes=0.15), ""),
    ):
        lattice = dataclasses.replace(record, **changes)
        head = dataclasses.replace(lattice_header(1, width=64, height=48), lattice=lattice, box_shift=0)
        yield f"308_E_STREAM_{name}", chosen_file(head, 12, coder, low=name == "low_state")
        assert bool(coder.refused) == bool(reason)
        assert all(reason in r for r in coder.refused)


def _first_faults() -> Iterator[tuple[str, bytes]]:
    """Several faults of the head: what stands first is told, not a value of the future that comes of it (spec §13)."""
    rgb = small_file(3, sections=SECTIONS)
    group = levels_at(rgb) - 8
    yield "109_E_FIELD_then_unknown", patch(patch(rgb, 32, "B", 0), 35, "B", 7)
    yield "110_E_QUANTIZER_then_unknown", patch(patch(rgb, 58, "ff", 1.0, 0.0), group + 1, "B", 52)
    two = header(2, groups=(Group(channels=1, name="a"), Group(channels=1, name="b")), background=(0.5, 0.25))
    data = write(two, [[random_codes(two, 3)]], codec=Codec.RAW)
    yield "110_E_QUANTIZER_shifted", patch(data, 56, "B", 0)  # not shared: parameters are read from what follows
    yield "111_E_GROUP_then_unknown", patch(rgb, group, "BB", 2, 52)
    heads = [header(n, groups=(Group(channels=n, name=name),)) for n, name in ((2, "a"), (1, "b"))]
    parts = join([write(h, [[random_codes(h, 2)]], codec=Codec.RAW) for h in heads])
    yield "117_E_PART_then_unknown", patch(patch(parts, 35, "B", 1), 37, "B", 7)
    critical = patch(rgb, sections_at(rgb), "4s", b"Abcd")
    yield "112_E_LEVEL_then_critical", patch(critical, levels_at(rgb), "I", 0)
    yield (
        "113_E_SECTION_then_critical",
        patch(patch(rgb, sections_at(rgb), "4s", b"ab1d"), sections_at(rgb) + 16, "4s", b"Json"),
    )
    yield "109_E_FIELD_two_stage_then_critical", patch(critical, 10, "B", 1)
    head = header()
    chunks = write(head, [[random_codes(head, 3), random_codes(head, 2, 1)]], codec=Codec.RAW)
    future = patch(chunks, entry_at(chunks, 1) + 3, "B", 200)
    yield "201_E_INDEX_then_codec", patch(future, entry_at(chunks) + 6, "4h", 5, 5, 4, 9)
    yield "302_E_CHUNK_BYTES_then_codec", patch(future, entry_at(chunks) + 4, "H", 4)


def _limits() -> Iterator[Case]:
    base = small_file()
    yield "401_E_LIMIT_PIXELS", patch(base, 24, "HH", 2**15 - 1, 2**14 - 1), {}
    yield "402_E_LIMIT_SIDE", patch(base, 24, "HH", 2**15, 0), {}
    yield "403_E_LIMIT_GAUSSIANS", patch(base, 28, "I", 2**24 + 1), {}
    yield "404_E_LIMIT_CHANNELS", small_file(3), {"channels": 2}
    yield "405_E_LIMIT_HEAD_BYTES", patch(base + bytes(0), 12, "I", 2**26 + 1)[: len(base)], {}
    big = small_file(sections={"json": b'{"a": "' + b"x" * 300 + b'"}'})
    yield "406_E_LIMIT_SECTION_BYTES", patch(big, sections_at(big) + 4, "I", 2**24 + 1), {}

    wide = header(64, feature=Quantizer.uniform(0, 1, 1, shared=True, columns=64))
    frame = zstandard.ZstdCompressor(level=19, write_content_size=True).compress
    bomb = write(wide, [[np.zeros((1, wide.code_columns), np.uint32)]])
    planes = frame(bytes(65535 * plane_bytes(wide.code_bits)))
    yield "407_E_LIMIT_CHUNK_BYTES", with_payload(bomb, planes, 65535, 1), {}

    huge = header(scale=Quantizer.uniform(0, 15, 4, shared=True, columns=2), reach2=1024.0)
    codes = random_codes(huge, 1)
    codes[:, 2:4] = 15  # σ = 2^15 pixels on a picture of 16 × 12
    yield "408_E_LIMIT_REACH_RATIO", write(huge, [[codes]]), {}

    head = header()
    one = write(head, [[np.zeros((1, head.code_columns), np.uint32)]])
    planes = frame(bytes(65535 * plane_bytes(head.code_bits)))
    yield "409_E_LIMIT_GAUSSIANS_PER_BYTE", with_payload(one, planes, 65535, 1), {}
