"""What the writer refuses, which codec and places it chooses, and rewriting of metadata."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from files import payload_ranges

from igs.format import (
    Alpha,
    Blend,
    Codec,
    Colour,
    Group,
    Header,
    Quantizer,
    ScaleMap,
    Shape,
    UsageError,
    chunk_rows,
    describe,
    describe_text,
    open_file,
    read,
    validate_file,
    write,
)


def make_header(**changes: Any) -> Header:
    fields: dict[str, Any] = {
        "width": 64,
        "height": 48,
        "channels": 3,
        "groups": (Group(channels=3, colour=Colour.RGB),),
        "background": (0.0, 0.0, 0.0),
        "position": Quantizer.uniform(0, 64, 10, shared=True, columns=2),
        "scale": Quantizer.uniform(-2, 3, 6, shared=True, columns=2),
        "rotation": Quantizer.affine(0, 1 / 64, 6),
        "feature": Quantizer.uniform([0, -0.5, -0.5], [1, 0.5, 0.5], 7),
    }
    return Header(**(fields | changes))


def make_codes(header: Header, n: int = 20, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, 2**b, n) for b in header.code_bits], axis=1).astype(np.uint32)


HEADER = make_header()
CODES = make_codes(HEADER)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"width": 0}, "width"),
        ({"height": 65537}, "height"),
        ({"channels": 65}, "channels"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 33}, "top_k"),
        ({"blend": Blend.SUM, "relative_reach2": math.inf}, "top_k"),
        ({"blend": Blend.SUM, "top_k": 0}, "relative_reach2"),
        ({"reach2": 0}, "reach2"),
        ({"reach2": math.nan}, "reach2"),
        ({"reach2": 1e39}, "reach2"),
        ({"relative_reach2": -1}, "relative_reach2"),
        ({"lowpass": -0.1}, "lowpass"),
        ({"box_shift": 16}, "box_shift"),
        ({"shape": Shape.CHOLESKY}, "scale_map"),
        ({"background": (0.0, 0.0)}, "background"),
        ({"background": (0.0, 0.0, math.inf)}, "background"),
        ({"position": Quantizer.float32(3)}, "position"),
        ({"feature": Quantizer.float32(2)}, "feature"),
        ({"groups": ()}, "groups"),
        ({"groups": (Group(channels=2),)}, "groups"),
        ({"groups": (Group(channels=3, colour=Colour.GREY),)}, "groups"),
        ({"groups": (Group(channels=3, bit_depth=12),)}, "groups"),
        ({"groups": (Group(channels=3, gamma=0.01),)}, "groups"),
        ({"groups": (Group(channels=3, gamma=math.nan),)}, "groups"),
        ({"groups": (Group(channels=3, name="x" * 65),)}, "groups"),
        ({"groups": (Group(channels=3, name="a\nb"),)}, "groups"),
        ({"groups": (Group(channels=3, name="\ud800"),)}, "groups"),
        ({"groups": (Group(channels=2, name="a"), Group(channels=1, name="a"))}, "groups"),
        ({"groups": (Group(channels=2), Group(channels=1, alpha=Alpha.STRAIGHT, name="b"))}, "groups"),
    ],
)
def test_headers_that_no_file_can_hold(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError, match=f"header: {field}"):
        write(make_header(**changes), [CODES])


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([], "levels"),
        ([CODES] * 17, "levels"),
        ([CODES[:0]], "shape"),
        ([[]], "none"),
        ([CODES[:, :5]], "shape"),
        ([CODES.astype(float)], "integer array"),
        (["codes"], "integer array"),
        ([np.full_like(CODES, 2**9)], "0 to 63 in column 2"),
        ([CODES.astype(np.int64) - 1000], "0 to 1023 in column 0"),
        ([[np.repeat(CODES, 4000, axis=0)]], "65535"),
    ],
)
def test_codes_that_no_file_can_hold(levels: list[Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        write(HEADER, levels)


def test_float_codes_must_be_finite() -> None:
    header = make_header(scale=Quantizer.float16(2))
    codes = make_codes(header)
    codes[:, 2:4] = 0x7C01
    with pytest.raises(UsageError, match="E_VALUE"):
        write(header, [codes])


@pytest.mark.parametrize("bad", [{"abc": b""}, {"ab1c": b""}, {b"abcd": b"", "abcd": b""}, {"é...": b""}])
def test_section_types(bad: dict[Any, bytes]) -> None:
    with pytest.raises(UsageError, match="section"):
        write(HEADER, [CODES], sections=bad)
    for size in (0, 65536):
        with pytest.raises(UsageError, match="chunk_size"):
            write(HEADER, [CODES], chunk_size=size)


def test_zstd_is_used_where_it_is_smaller() -> None:
    same = np.repeat(CODES[:1], 500, axis=0)
    with open_file(write(HEADER, [[same, CODES]], codec=Codec.ZSTD)) as file:
        assert file.entries["codec"].tolist() == [Codec.ZSTD, Codec.RAW]
        assert np.array_equal(file.codes(0), same)
    with open_file(write(HEADER, [[same, CODES]], codec=Codec.RAW)) as file:
        assert file.entries["codec"].tolist() == [Codec.RAW, Codec.RAW]


@pytest.mark.parametrize("chunk_size", [None, 30])
def test_chunks_can_be_grouped_apart(chunk_size: int | None) -> None:
    codes = make_codes(HEADER, 2000)
    chunks = chunk_rows(HEADER, codes, chunk_size)
    assert len(chunks) > 1
    alike = write(HEADER, [[codes[rows] for rows in chunks]])
    assert alike == write(HEADER, [codes], chunk_size=chunk_size)


def test_chunk_boxes_and_areas_are_tight() -> None:
    """One unit smaller on any side, or one ulp less of area, would be an error."""
    with open_file(write(HEADER, [[CODES]])) as file:
        from igs.format import reach_areas, reach_boxes

        part = file.gaussians(0)
        boxes = reach_boxes(HEADER, part)
        box = np.array(file.chunk_box(0))
        tight = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
        assert (np.abs(box - tight) < 1).all()
        area = reach_areas(HEADER, part).sum()
        assert area <= file.entries["reach_area"][0] <= area * (1 + 2.0**-7)


def test_small_sections_are_inline_and_large_ones_behind() -> None:
    sections = {"soft": b"igs", "json": b'{"a": "' + b"x" * 300 + b'"}', "exif": b"II*\0"}
    with open_file(write(HEADER, [CODES], sections=sections)) as file:
        assert [(s.type, s.place) for s in file.head.sections] == [("exif", 0), ("soft", 0), ("json", 1)]
        assert dict(file.sections) == sections
        with pytest.raises(KeyError):
            file.sections["iccp"]


def test_metadata_can_be_stripped_and_replaced_without_touching_the_rest() -> None:
    plain = write(HEADER, [CODES])
    rich = write(HEADER, [CODES], sections={"soft": b"igs", "json": b"{}", "qqqq": bytes(999)})
    assert read(rich).without_sections().to_bytes() == plain
    changed = read(rich).with_sections({"json": b'{"a": 1}', "iccp": None})
    assert {s.type: s.data for s in changed.sections} == {"soft": b"igs", "json": b'{"a": 1}', "qqqq": bytes(999)}
    assert changed.payloads == read(plain).payloads
    assert changed.header == read(plain).header


def test_describe_uses_the_names_of_the_specification() -> None:
    header = make_header(relative_reach2=math.inf, reach2=9.0, feature=Quantizer.codebook(np.zeros((2, 4, 3))))
    data = write(header, [make_codes(header)], sections={"json": b"{}"})
    with open_file(data) as file:
        found = describe(file, chunks=True)
        text = describe_text(file)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["relative_reach2"] is None
    assert found["position"] == {"kind": "uniform", "bits": 10, "shared": True, "stages": 0, "lo": [0], "hi": [64]}
    assert found["rotation"]["step"] == [0.015625]
    assert (found["feature"]["stages"], found["feature"]["rows"]) == (2, 4)
    assert found["groups"][0]["colour"] == "rgb"
    assert found["num_chunks"] == len(found["chunks"])
    assert found["sections"][0] | {"bytes": 2, "type": "json"} == found["sections"][0]
    assert found["file_bytes"] == len(data)
    assert "64 × 48 pixels" in text
    assert "Q² = none" in text
    assert "codebook" in text


def test_the_validator_reports_everything_it_finds() -> None:
    data = bytearray(write(HEADER, [[CODES, CODES, CODES]], codec=Codec.RAW, sections={"json": b"[" + b" " * 300}))
    payloads = payload_ranges(data)
    for chunk in (0, 2):
        data[payloads[chunk][0]] ^= 1
    report = validate_file(bytes(data))
    assert [f.code for f in report.findings] == ["E_CHUNK_CRC", "E_CHUNK_CRC", "E_SECTION_CONTENT"]
    assert (report.checked_chunks, report.checked_gaussians) == (1, 20)
    assert report.exit_code == 3
    found = json.loads(json.dumps(report.to_dict()))
    assert found["valid"] is False
    assert found["findings"][0]["number"] == 301
    assert found["findings"][0]["offset"] > 0


def test_nested_json_is_a_finding_not_a_crash() -> None:
    data = write(HEADER, [CODES], sections={"json": b"[" * 200_000})
    assert [f.code for f in validate_file(data).findings] == ["E_SECTION_CONTENT"]


def test_no_chunk_packs_more_gaussians_per_byte_than_readers_allow() -> None:
    """65 535 equal Gaussians are a few bytes of zstd, which a reader takes for a bomb: they stay raw."""
    data = write(HEADER, [[np.repeat(CODES[:1], 65535, axis=0)]], codec=Codec.ZSTD)
    with open_file(data) as file:
        assert file.entries["codec"].tolist() == [Codec.RAW]


@pytest.mark.parametrize("chunk_size", [1, 7, None])
def test_equal_gaussians_can_be_partitioned(chunk_size: int | None) -> None:
    data = write(HEADER, [np.repeat(CODES[:1], 700, axis=0)], codec=Codec.RAW, chunk_size=chunk_size)
    with open_file(data) as file:
        assert file.entries["count"].max() <= (chunk_size or 700)
        assert file.num_gaussians == 700


def test_equal_headers_are_equal() -> None:
    assert make_header() == make_header()
    assert make_header() != make_header(scale_map=ScaleMap.RAW)
    assert make_header().bits_per_gaussian == 20 + 12 + 6 + 21
    assert make_header().code_columns == 8
