"""Golden bytes: a whole file literally, and the annotated dump of spec §15, which is the same file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from igs.format import Codec, Colour, Group, Header, Quantizer, open_file, write
from igs.format.codes import CODES

SPEC = (Path(__file__).resolve().parents[2] / "spec" / "igs.md").read_text()

HEADER = Header(
    width=16,
    height=12,
    channels=1,
    groups=(Group(channels=1, colour=Colour.GREY, name="y"),),
    background=(0.25,),
    position=Quantizer.uniform(0, 15.5, 5, shared=True, columns=2),
    scale=Quantizer.uniform(-1, 2.75, 4, shared=True, columns=2),
    rotation=Quantizer.affine(0, 1 / 16, 4),
    feature=Quantizer.uniform(0, 1, 6),
    top_k=4,
)
CODES_TABLE = np.array([[10, 12, 8, 4, 0, 63], [20, 8, 10, 2, 3, 21], [31, 23, 6, 6, 8, 0]], np.uint32)
SECTIONS = {"soft": b"spec"}

GOLDEN = """
89 49 47 53 0d 0a 1a 0a 00 01 00 00 b7 00 00 00 c2 00 00 00 00 00 00 00 10 00 00 00 0c 00 00 00
03 00 00 00 01 01 01 00 01 00 04 00 00 02 00 00 00 00 c8 41 00 00 10 41 00 00 00 00 00 05 01 00
00 04 01 00 01 04 00 00 00 06 00 00 00 00 00 00 00 00 78 41 00 00 80 bf 00 00 30 40 00 00 00 00
00 00 80 3d 00 00 00 00 00 00 80 3f 00 00 80 3e 01 00 00 08 01 00 00 80 3f 01 79 01 00 00 00 c2
00 00 00 00 00 00 00 73 6f 66 74 04 00 00 00 3e 17 0e c0 00 00 00 00 73 70 65 63 0b 00 00 00 03
00 00 00 fa ff fb ff 17 00 13 00 95 9e eb 43 8e f2 b2 48 98 31 38 08 8a 7e 86 2e aa 91 18 0c fe
15 00
"""


def dump_lines() -> list[tuple[int, bytes, str]]:
    """Offset, bytes and remark of each line of the dump in spec §15."""
    section = SPEC[SPEC.index("## 15 A whole file") :]
    rows = re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} )*[0-9a-f]{2}) *(.*)$", section, re.MULTILINE)
    return [(int(at, 16), bytes.fromhex(hexes), remark) for at, hexes, remark in rows]


def test_writes_the_golden_bytes() -> None:
    assert write(HEADER, [[CODES_TABLE]], codec=Codec.RAW, sections=SECTIONS) == bytes.fromhex(GOLDEN)


def test_reads_the_golden_bytes() -> None:
    with open_file(bytes.fromhex(GOLDEN)) as file:
        assert file.header == HEADER.__class__(**{**HEADER.__dict__, "box_shift": 0})
        assert np.array_equal(file.codes(0), CODES_TABLE)
        assert dict(file.sections) == SECTIONS


def test_the_dump_in_the_specification_is_this_file() -> None:
    at, data = 0, b""
    for offset, part, remark in dump_lines():
        assert offset == at, hex(offset)
        assert remark, hex(offset)
        data += part
        at += len(part)
    assert data == bytes.fromhex(GOLDEN)


def test_the_gaussians_that_the_specification_lists() -> None:
    """The table behind the dump: means, then factors as hexadecimal floats."""
    section = SPEC[SPEC.index("## 15 A whole file") :]
    number = r"(-?0x[0-9a-f.]+p[+-]\d+)"
    rows = re.findall(rf"^\| \d \| (-?\d+), (-?\d+) \| {number} \| {number} \| {number} \| {number} \|$", section, re.M)
    with open_file(bytes.fromhex(GOLDEN)) as file:
        gaussians = file.gaussians(0)
    assert len(rows) == len(gaussians)
    for row, mean, factor, feature in zip(rows, gaussians.means, gaussians.factors, gaussians.features, strict=True):
        assert [int(v) for v in row[:2]] == mean.tolist()
        assert [float.fromhex(v) for v in row[2:5]] == factor.tolist()
        assert float.fromhex(row[5]) == feature[0]


def test_the_error_table_is_the_code() -> None:
    section = SPEC[SPEC.index("## 13 Errors") : SPEC.index("## 14 Writer")]
    rows = re.findall(r"^\| (\d{3}) \| `([EW]_[A-Z_]+)` \| (.+?) \| (yes|no) \|$", section, re.MULTILINE)
    listed = {name: (int(number), condition, fatal == "yes") for number, name, condition, fatal in rows}
    assert listed == {name: tuple(code) for name, code in CODES.items()}
