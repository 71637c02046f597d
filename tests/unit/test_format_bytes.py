"""Golden bytes: two whole files literally, and the annotated dumps of spec §15, which are the same files."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_cells

from igs.format import Codec, Colour, Group, Header, Quantizer, open_file, write
from igs.format.arithmetic import cospi_sinpi, exp2, log2
from igs.format.binary import round_f16, round_f32
from igs.format.error_codes import CODES
from igs.format.fields import HEADER_BYTES
from igs.format.header import ATTRIBUTES, FIXED, parse_fixed
from igs.format.lattice import Lattice, ValueModel

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
89 49 47 53 0d 0a 1a 0a 00 02 00 00 93 00 00 00 9e 00 00 00 00 00 00 00 0f 00 0b 00 03 00 00 00
01 01 01 00 01 00 04 00 00 02 40 4e 80 48 00 00 00 00 08 05 08 04 01 04 00 06 00 00 00 00 00 00
78 41 00 00 80 bf 00 00 30 40 00 00 00 00 00 00 80 3d 00 00 00 00 00 00 80 3f 00 34 01 00 00 08
01 00 3c 01 79 01 00 00 00 73 6f 66 74 04 00 00 00 3e 17 0e c0 00 00 00 00 73 70 65 63 0b 00 00
00 03 00 fa ff fb ff 17 00 13 00 ec 43 8e f2 e8 8c c8 56 8a 7e 86 2e aa 91 18 0c fe 15 00
"""

GOLDEN_CODED = """
89 49 47 53 0d 0a 1a 0a 00 02 00 00 74 00 00 00 85 00 00 00 00 00 00 00 0f 00 0b 00 03 00 00 00
01 01 01 00 00 00 04 00 00 02 40 4e 80 48 00 00 00 00 05 00 05 00 05 00 05 00 0c 10 0c 0c 1c 00
20 06 c0 b0 08 a8 b0 05 00 00 00 03 00 00 00 00 34 01 00 00 08 01 00 3c 01 79 01 00 00 00 11 00
00 02 03 00 fa ff fb ff 16 00 11 00 f2 43 a6 6b 2f 1b 5c d9 66 66 57 5e 32 d0 c8 82 00 c0 53 88
72 9c 10 d0 b8
"""


CODED = dataclasses.replace(
    HEADER,
    position=Quantizer.lattice(2),
    scale=Quantizer.lattice(2),
    rotation=Quantizer.lattice(1),
    feature=Quantizer.lattice(1),
    lattice=Lattice(
        12,
        16,
        12,
        12,
        (28,),
        False,
        ValueModel(0, 32, 6, 192),
        176,
        (ValueModel(2, 48, 8, 168),),
        (5, *[0] * 7, 3, *[0] * 7),
    ),
)
CODED_TABLE = np.array([[12, 6, 1, 5, 7, 4], [5, 18, 2, 3, 0, 15], [28, 20, 3, 0, 0, 0]], np.uint32)
FILES = {"15.1": bytes.fromhex(GOLDEN), "15.2": bytes.fromhex(GOLDEN_CODED)}
NUMBER = r"(-?0x[0-9a-f.]+p[+-]\d+)"


def section(number: str) -> str:
    """The text of a subsection of the specification."""
    return re.split(r"^### ", SPEC[SPEC.index(f"### {number} ") + 4 :], flags=re.MULTILINE)[0]


def test_writes_the_golden_bytes() -> None:
    assert write(HEADER, [[CODES_TABLE]], codec=Codec.RAW, sections=SECTIONS) == FILES["15.1"]
    assert write(CODED, [[CODED_TABLE]]) == FILES["15.2"]


def test_reads_the_golden_bytes() -> None:
    for data, header, codes, sections in (
        (FILES["15.1"], HEADER, CODES_TABLE, SECTIONS),
        (FILES["15.2"], CODED, CODED_TABLE, {}),
    ):
        with open_file(data) as file:
            assert file.header == dataclasses.replace(header, box_shift=0)
            assert np.array_equal(file.codes(0), codes)
            assert dict(file.sections) == sections


@pytest.mark.parametrize("number", FILES)
def test_the_dump_in_the_specification_is_this_file(number: str) -> None:
    rows = re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} )*[0-9a-f]{2}) *(.*)$", section(number), re.MULTILINE)
    data = b""
    for at, part, remark in rows:
        assert int(at, 16) == len(data), at
        assert remark, at
        data += bytes.fromhex(part)
    assert data == FILES[number]


@pytest.mark.parametrize("number", FILES)
def test_the_gaussians_that_the_specification_lists(number: str) -> None:
    """The table behind the dump: means, then factors as hexadecimal floats."""
    row_of = rf"^\| \d \| (-?\d+), (-?\d+) \| {NUMBER} \| {NUMBER} \| {NUMBER} \| {NUMBER} \|$"
    rows = re.findall(row_of, section(number), re.MULTILINE)
    with open_file(FILES[number]) as file:
        gaussians = file.gaussians(0)
    assert len(rows) == len(gaussians)
    for row, mean, factor, feature in zip(rows, gaussians.means, gaussians.factors, gaussians.features, strict=True):
        assert [int(v) for v in row[:2]] == mean.tolist()
        assert [float.fromhex(v) for v in row[2:5]] == factor.tolist()
        assert float.fromhex(row[5]) == feature[0]


def test_the_symbols_that_the_specification_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, int]] = []
    read = reference_cells.Coder.symbol

    def symbol(self: Any, low: int, high: int, start: Any) -> int:
        slot = self.x % 2**16
        k = read(self, low, high, start)
        seen.append((slot, start(k), start(k + 1)))
        return k

    monkeypatch.setattr(reference_cells.Coder, "symbol", symbol)
    assert CODED.lattice is not None
    record = reference_cells.Record(CODED.lattice.to_bytes(), 1)
    with open_file(FILES["15.2"]) as file:
        rows = reference_cells.decode(file.payload(0), 3, record, file.chunk_box(0), 16, 12)
    assert rows == CODED_TABLE.tolist()
    listed = re.findall(r"^ *(\d+)  \[ *(\d+), *(\d+)\)  ", section("15.2"), re.MULTILINE)
    assert [tuple(map(int, row)) for row in listed] == seen
    stated = re.findall(r"^\| \d \| ((?:\d+, ){5}\d+) \|$", section("15.2"), re.MULTILINE)
    assert [list(map(int, row.split(", "))) for row in stated] == rows


def test_the_elementary_functions_that_the_specification_lists() -> None:
    functions = {
        "exp2": exp2,
        "log2": log2,
        "cospi": lambda t: cospi_sinpi(t)[0],
        "sinpi": lambda t: cospi_sinpi(t)[1],
    }
    listed = re.findall(r"(\w+)\(([\d.-]+)\) += (-?0x[\da-f.]+p[+-]\d+)", SPEC)
    assert {name for name, _, _ in listed} == set(functions)
    for name, argument, value in listed:
        assert float(functions[name](np.array([float(argument)]))[0]) == float.fromhex(value)


def test_the_error_table_is_the_code() -> None:
    section = SPEC[SPEC.index("## 13 Errors") : SPEC.index("## 14 Writer")]
    rows = re.findall(r"^\| (\d{3}) \| `([EW]_[A-Z_]+)` \| (.+?) \| (yes|no) \|$", section, re.MULTILINE)
    listed = {name: (int(number), condition, fatal == "yes") for number, name, condition, fatal in rows}
    assert listed == {name: tuple(code) for name, code in CODES.items()}


def test_the_fixed_header_is_read_as_it_is_described() -> None:
    rng = np.random.default_rng(0)
    for data in (GOLDEN, GOLDEN_CODED, *(rng.bytes(HEADER_BYTES).hex() for _ in range(200))):
        start = bytes.fromhex(data.replace("\n", " "))[:HEADER_BYTES]
        fields, expected = parse_fixed(start), FIXED.parse(start)
        assert list(fields) == [name for name in expected if not name.startswith("_")]
        for name, value in fields.items():
            found = dict(value._asdict()) if name in ATTRIBUTES else value
            wanted = (
                {"form": expected[name].form, "bits": expected[name].bits} if name in ATTRIBUTES else expected[name]
            )
            assert repr(found) == repr(wanted)  # so that NaN is NaN


def test_floats_are_rounded_as_numpy_does() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=2000) * np.exp2(rng.uniform(-160, 160, 2000))
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)[: 2**15 - 2**10].astype(np.float64)
    between = (halves[:-1] + halves[1:]) / 2
    with np.errstate(over="ignore"):
        for value in (*values, *between, 65519.999, 65520.0, 3.4028235677973366e38, np.inf, -np.inf, -0.0, np.nan):
            assert repr(round_f16(float(value))) == repr(float(np.float16(value)))
            assert repr(round_f32(float(value))) == repr(float(np.float32(value)))
