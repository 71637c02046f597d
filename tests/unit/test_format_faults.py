"""Of several faults of the head the first in the file is told (spec §13): damage is not taken for a future version."""

from __future__ import annotations

import itertools
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "conformance"))
from vectors import entry_at, head_of, header, lattice_header, levels_at, random_codes, sections_at

from igs.format import Alpha, Codec, Colour, Group, Limits, join, open_file, write
from igs.format.errors import InvalidFile

GROUPS = (
    Group(channels=4, alpha=Alpha.STRAIGHT, colour=Colour.RGB, name="a"),
    Group(channels=1, colour=Colour.GREY, name="bc"),
)
HEAD = header(5, groups=GROUPS)
BASE = write(
    HEAD,
    [[random_codes(HEAD, 3)], [random_codes(HEAD, 2, 1), random_codes(HEAD, 3, 2)]],
    codec=Codec.RAW,
    sections={"abcd": b"?", "soft": b"igs", "json": b'{"a": "' + b"x" * 300 + b'"}'},
)
LATTICE_HEAD = lattice_header()
LATTICE = write(LATTICE_HEAD, [[random_codes(LATTICE_HEAD, 4)]])
HEADS = [header(n, groups=(Group(channels=n, name=name),)) for n, name in ((2, "a"), (1, "b"))]
PARTS = join([write(h, [[random_codes(h, 2)]], codec=Codec.RAW) for h in HEADS])

Fault = tuple[int, str, tuple[float, ...], str]  # where, struct's layout, values, code

LEVELS, SECTIONS, INDEX = levels_at(BASE), sections_at(BASE), entry_at(BASE)
FIRST_GROUP, SECOND_GROUP = LEVELS - 8 - 2 - 8 - 1, LEVELS - 8 - 2
FAULTS: list[Fault] = [
    (10, "B", (8,), "E_RESERVED"),
    (11, "B", (16,), "E_FIELD"),
    (24, "HH", (65535, 65535), "E_LIMIT_PIXELS"),
    (28, "I", (0,), "E_FIELD"),
    (32, "B", (0,), "E_FIELD"),
    (33, "B", (65,), "E_FIELD"),
    (34, "B", (17,), "E_FIELD"),
    (35, "B", (3,), "E_UNKNOWN"),
    (37, "B", (2,), "E_UNKNOWN"),
    (38, "B", (33,), "E_FIELD"),
    (39, "B", (2,), "E_UNKNOWN"),
    (40, "B", (3,), "E_UNKNOWN"),
    (41, "B", (3,), "E_UNKNOWN"),
    (42, "e", (0.0,), "E_FIELD"),
    (44, "e", (-1.0,), "E_FIELD"),
    (46, "f", (float("nan"),), "E_FIELD"),
    (50, "B", (6,), "E_UNKNOWN"),
    (52, "B", (5,), "E_QUANTIZER"),
    (55, "B", (33,), "E_QUANTIZER"),
    (56, "B", (0x1F,), "E_UNKNOWN"),
    (58, "ff", (1.0, 0.0), "E_QUANTIZER"),
    (FIRST_GROUP - 10, "e", (float("inf"),), "E_FIELD"),
    (FIRST_GROUP, "B", (6,), "E_GROUP"),
    (FIRST_GROUP + 1, "B", (4,), "E_UNKNOWN"),
    (FIRST_GROUP + 2, "B", (3,), "E_UNKNOWN"),
    (FIRST_GROUP + 3, "B", (9,), "E_GROUP"),
    (FIRST_GROUP + 4, "B", (5,), "E_UNKNOWN"),
    (FIRST_GROUP + 4, "B", (1,), "E_GROUP"),
    (FIRST_GROUP + 5, "e", (0.0,), "E_GROUP"),
    (SECOND_GROUP, "B", (2,), "E_GROUP"),
    (SECOND_GROUP + 1, "B", (200,), "E_UNKNOWN"),
    (SECOND_GROUP + 2, "B", (1,), "E_GROUP"),
    (LEVELS, "I", (0,), "E_LEVEL"),
    (SECTIONS, "4s", (b"a1cd",), "E_SECTION"),
    (SECTIONS, "4s", (b"Abcd",), "E_CRITICAL"),
    (SECTIONS + 15, "B", (1,), "E_RESERVED"),
    (SECTIONS + 16 + 12, "B", (2,), "E_UNKNOWN"),
    (SECTIONS + 32, "4s", (b"soft",), "E_SECTION"),
    (SECTIONS + 32 + 4, "I", (2**24 + 1,), "E_LIMIT_SECTION_BYTES"),
    (INDEX + 6, "4h", (5, 5, 4, 9), "E_INDEX"),
    (INDEX + 18 + 3, "B", (200,), "E_CODEC"),
    (INDEX + 36 + 14, "H", (0x7FC0,), "E_INDEX"),
]
# Faults of several fields: what is behind the last of them is not told. The end of level 0 is known at its last entry.
LATE: list[Fault] = [(LEVELS + 4, "Q", (head_of(BASE).level_ends[0] + 1,), "E_LEVEL")]


def damaged(data: bytes, *faults: Fault) -> bytes:
    edited = bytearray(data)
    for at, layout, values, _ in faults:
        struct.pack_into("<" + layout, edited, at, *values)
    end = struct.unpack_from("<I", edited, 12)[0]
    struct.pack_into("<I", edited, end - 4, zlib.crc32(edited[: end - 4]))
    return bytes(edited)


def code_of(data: bytes) -> str:
    with pytest.raises(InvalidFile) as caught:
        open_file(data, Limits())
    return caught.value.code


@pytest.mark.parametrize("fault", FAULTS + LATE, ids=lambda f: f"{f[0]}_{f[3]}")
def test_each_alone_has_its_code(fault: Fault) -> None:
    assert code_of(damaged(BASE, fault)) == fault[3]


def test_the_base_has_no_fault() -> None:
    for data in (BASE, LATTICE, PARTS):
        open_file(data).close()


def test_of_two_faults_the_first_is_told() -> None:
    for first, second in itertools.combinations(FAULTS, 2):
        if first[0] + struct.calcsize("<" + first[1]) <= second[0]:
            code = code_of(damaged(BASE, first, second))
            if second[3] in ("E_UNKNOWN", "E_CRITICAL", "E_CODEC") or first[0] < INDEX:
                assert code == first[3], (first, second)


def test_a_codec_behind_a_level_whose_end_is_wrong() -> None:
    codec = (INDEX + 18 + 3, "B", (200,), "E_CODEC")
    assert code_of(damaged(BASE, LATE[0], codec)) == "E_LEVEL"
    before = (INDEX + 3, "B", (200,), "E_CODEC")
    assert code_of(damaged(BASE, LATE[0], before)) == "E_CODEC"


def test_lattice_quantisers_and_what_contradicts_them() -> None:
    raw, kind = (41, "B", (0,), "E_FIELD"), (56, "B", (7,), "E_UNKNOWN")
    assert code_of(damaged(LATTICE, raw, kind)) == "E_FIELD"
    family, colour = (58 + 5 + 3, "B", (0xC0,), "E_QUANTIZER"), (levels_at(LATTICE) - 8 + 4, "B", (9,), "E_UNKNOWN")
    assert code_of(damaged(LATTICE, family, colour)) == "E_QUANTIZER"
    assert code_of(damaged(LATTICE, colour)) == "E_UNKNOWN"


def test_parts_and_what_contradicts_them() -> None:
    mode, blend = (35, "B", (1,), "E_PART"), (37, "B", (2,), "E_UNKNOWN")
    assert code_of(damaged(PARTS, mode, blend)) == "E_PART"
    assert code_of(damaged(PARTS, (35, "B", (3,), "E_UNKNOWN"))) == "E_UNKNOWN"
    group = levels_at(PARTS) - 18
    transfer = (group + 1, "B", (7,), "E_UNKNOWN")
    empty, swapped = (58 + 12, "B", (0,), "E_PART"), (58 + 1, "B", (1,), "E_PART")
    other = (58 + 6, "B", (2,), "E_PART")
    assert code_of(damaged(PARTS, transfer)) == "E_UNKNOWN"
    assert code_of(damaged(PARTS, empty, transfer)) == "E_PART"
    assert code_of(damaged(PARTS, swapped, other)) == "E_PART"


def test_damage_of_one_other_byte_is_seldom_told_as_the_future() -> None:
    """Of bytes that hold no such value some still shift what follows to where the first that is wrong is one."""
    fields = {35, 37, 39, 40, 41, 50, 52, 54, 56, *range(FIRST_GROUP + 1, FIRST_GROUP + 5)}
    fields |= {*range(SECOND_GROUP + 1, SECOND_GROUP + 5)}
    for entry in range(SECTIONS, SECTIONS + 48, 16):
        fields |= {*range(entry, entry + 4), entry + 12}
    fields |= {INDEX + 18 * i + 3 for i in range(3)}
    rng, future = np.random.default_rng(0), []
    for at in range(10, INDEX + 54):
        if at in fields or 12 <= at < 16:
            continue
        for value in rng.integers(0, 256, 3).tolist():
            try:
                open_file(damaged(BASE, (at, "B", (value,), ""))).close()
            except InvalidFile as error:
                if error.code in ("E_UNKNOWN", "E_CRITICAL", "E_CODEC"):
                    future.append((at, value))
    assert len(future) <= 2, future
