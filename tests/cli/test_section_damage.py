"""Metadata that is damaged or isn't what its type says: told of, and no harm to the picture (spec §13)."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import igs
from igs.format import open_file, read, validate_file
from igs.format.describe import describe, describe_text
from igs.format.errors import InvalidFile

Make = Callable[..., bytes]
WORDS = b"some program " * 30  # more than goes into the head, whose checksum would cover it
PROFILE = b"\0" * 36 + b"acsp" + b"\0" * 4000


class Asked(io.BytesIO):
    """A file that adds up what is read of it."""

    total = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.total += len(data)
        return data


def damaged(data: bytes, content: bytes) -> bytes:
    """With one byte of a section's content flipped."""
    at = data.index(content) + 5
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_whether_there_is_a_section_is_not_asked_of_its_bytes(igs_bytes: Make) -> None:
    source = Asked(igs_bytes(sections={"iccp": PROFILE}))
    with open_file(source) as file:
        before = source.total
        assert "iccp" in file.sections
        assert "exif" not in file.sections
        assert describe(file)["sections"][0]["present"]
        assert source.total == before
    with igs.open(source) as image:
        before = source.total
        assert "iccp" in image.metadata
        assert source.total == before


def test_a_damaged_section_spoils_nothing_else(cli: Any, igs_bytes: Make, tmp_path: Path) -> None:
    whole = igs_bytes(sections={"iccp": PROFILE, "soft": WORDS})
    path = tmp_path / "damaged.igs"
    path.write_bytes(damaged(damaged(whole, PROFILE), WORDS))
    with open_file(path) as file:
        assert "section soft: 390 bytes, tail, damaged" in describe_text(file)
        with pytest.raises(InvalidFile, match="E_SECTION_CRC"):
            file.sections["soft"]
    result = cli("igs-decode", path, tmp_path / "out.png")
    assert result.code == 0, result.err
    assert "section iccp" in result.err
    assert "left out" in result.err
    assert cli("igs-info", path).code == 0


def test_a_damaged_section_goes_when_asked_and_is_not_passed_on_as_sound(
    cli: Any, igs_bytes: Make, tmp_path: Path
) -> None:
    data = damaged(igs_bytes(sections={"soft": WORDS, "xmpd": b"<x/>"}), WORDS)
    document = read(data)
    assert document.damaged == {"soft"}
    assert document.to_bytes() == data
    with pytest.raises(InvalidFile, match="soft"):
        document.with_sections({"xmpd": None})
    with pytest.raises(InvalidFile, match="soft"):
        document.section_data()
    assert set(document.with_sections({"soft": None}).section_data()) == {"xmpd"}
    assert document.with_sections({"soft": b"another"}).section_data()["soft"] == b"another"
    path, out = tmp_path / "damaged.igs", tmp_path / "out.igs"
    path.write_bytes(data)
    assert cli("igs-edit", path, out, "--remove", "xmp").code == 3
    assert cli("igs-edit", path, out, "--strip").code == 0
    assert out.read_bytes() == igs_bytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("json", b'{"a": NaN}'),
        ("json", b"[1]"),
        ("json", b'{"a": 1'),
        ("json", b'{"a": "\xff"}'),
        ("soft", b"\xff"),
        ("xmpd", b"\xff"),
        ("phys", b"\0" * 8),
        ("exif", b"MM\0\x2a"),
        ("iccp", b"profile"),
    ],
)  # fmt: skip
def test_what_a_validator_refuses_a_reader_refuses(igs_bytes: Make, name: str, content: bytes) -> None:
    data = igs_bytes(sections={name: content})
    report = validate_file(data)
    assert [finding.code for finding in report.findings] == ["E_SECTION_CONTENT"]
    with igs.open(data) as image, pytest.raises(InvalidFile, match="E_SECTION_CONTENT"):
        image.metadata[name]


def test_a_long_number_is_read(igs_bytes: Make) -> None:
    data = igs_bytes(sections={"json": b'{"a": 1, "b": %s}' % (b"1" * 5000)})
    assert validate_file(data).valid
    with igs.open(data) as image:
        stated = image.metadata["json"]
    assert stated["a"] == 1
    assert isinstance(stated["a"], int)
    assert stated["b"] == float("inf")
