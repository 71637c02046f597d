"""Metadata bytes in, the same bytes out: through an .igs file, through edits of it, and through image formats."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from igs.cli.output import FORMATS, write_image
from igs.encoder.loading.image import load_image
from igs.format import Group, Header, Quantizer, read, validate_file, write
from igs.format.exif import upright_exif
from igs.format.sections import phys_section

TYPES = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=4, max_size=4).map(
    lambda name: name[0].lower() + name[1:]  # ancillary
)
BYTES = st.binary(max_size=600)  # below and above what a writer puts into the head
ANY = st.dictionaries(TYPES.filter(lambda name: name not in ("exif", "iccp", "json", "phys", "soft", "xmpd")), BYTES)
# What their types ask for, and anything behind it.
ICC = BYTES.map(lambda data: bytes(36) + b"acsp" + bytes(88) + data)
XMP = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=400).map(str.encode)
EXIF = st.tuples(st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]), BYTES).map(
    lambda parts: parts[0] + bytes(6) + parts[1]  # an empty directory, and what no tag points to
)
PHYS = st.tuples(st.integers(1, 2**32 - 2), st.integers(1, 2**32 - 2)).map(lambda xy: phys_section(*xy)["phys"])
KNOWN = st.fixed_dictionaries({}, optional={"iccp": ICC, "xmpd": XMP, "exif": EXIF, "phys": PHYS})


def small(sections: dict[str, bytes]) -> bytes:
    q = Quantizer
    header = Header(
        width=8, height=6, channels=1, groups=(Group(channels=1),), background=(0.5,),
        position=q.uniform([0, 0], [8, 6], 5), scale=q.uniform(0, 2, 4, shared=True, columns=2),
        rotation=q.uniform(0, 1, 3), feature=q.uniform(0, 1, 6),
    )  # fmt: skip
    return write(header, [np.array([[9, 9, 3, 3, 1, 40], [20, 12, 5, 2, 6, 9]], np.uint32)], sections=sections)


def found(data: bytes) -> dict[str, bytes]:
    return {s.type: s.data for s in read(data).sections}


@given(ANY, KNOWN, ANY, KNOWN)
def test_sections_come_back_whatever_else_changes(
    old: dict[str, bytes], known: dict[str, bytes], new: dict[str, bytes], also: dict[str, bytes]
) -> None:
    before, data = {**old, **known}, small({**old, **known})
    assert found(data) == before
    document = read(data)
    edited = document.with_sections({**new, **also})
    assert found(edited.to_bytes()) == {**before, **new, **also}
    assert edited.payloads == document.payloads
    assert validate_file(edited.to_bytes()).valid
    assert edited.with_sections({**dict.fromkeys({**new, **also}), **before}).to_bytes() == data
    assert edited.without_sections().to_bytes() == small({})


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "tiff", "avif"])
@given(KNOWN, st.booleans())
def test_formats_keep_what_they_have_a_place_for(name: str, sections: dict[str, bytes], deep: bool) -> None:
    sections = {k: v for k, v in sections.items() if k != "phys"}  # in dots per inch it is rounded: test_decode.py
    if name == "tiff":
        sections.pop("exif", None)  # only tags that describe
    kind: Any = np.uint16 if deep and name == "png" else np.uint8
    buffer = io.BytesIO()
    assert write_image(buffer, np.zeros((4, 5, 3), kind), FORMATS[name], "RGB", sections) == []
    assert load_image(buffer.getvalue()).sections == sections


@given(BYTES)
def test_upright_exif_changes_no_length_and_nothing_twice(data: bytes) -> None:
    once = upright_exif(data)
    assert upright_exif(once) == once
    assert len(once) in (0, len(data))
