"""igs-edit: metadata in and out without a byte of the Gaussians changed, fewer bits, refusals, several files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

import igs
from igs.format import read, validate_file
from igs.format.sections import phys_section, resolution

Make = Callable[..., bytes]
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x01\0\0\0\0\0\0\0"  # orientation 1
XMP = b"<x:xmpmeta/>"
SECTIONS = {"iccp": ICC, "exif": EXIF, "xmpd": XMP, "json": b'{"a": 1}', "wxyz": b"\0\1\2"}


@pytest.fixture
def source(tmp_path: Path, igs_bytes: Make) -> Path:
    path = tmp_path / "in.igs"
    path.write_bytes(igs_bytes(sections=SECTIONS))
    return path


def sections(data: bytes | Path) -> dict[str, bytes]:
    return {s.type: s.data for s in read(data).sections}


def test_set_files_are_stored_as_they_are(cli: Any, tmp_path: Path, igs_bytes: Make) -> None:
    data = igs_bytes()
    args = ["--set-dpi", "300,150"]
    for option, content in (("icc", ICC), ("exif", b"Exif\0\0" + EXIF), ("xmp", XMP), ("json", b'{"b": [2]}')):
        (tmp_path / option).write_bytes(content)
        args += [f"--set-{option}", tmp_path / option]
    result = cli("igs-edit", "-", "-", *args, stdin=data)
    assert result.code == 0, result.err
    expected = {"iccp": ICC, "exif": EXIF, "xmpd": XMP, "json": b'{"b": [2]}'} | phys_section(
        300 / 0.0254, 150 / 0.0254
    )
    assert sections(result.out) == expected
    assert read(result.out).payloads == read(data).payloads
    assert validate_file(result.out).valid
    assert cli("igs-edit", "-", "-", "--strip", stdin=result.out).out == data


RDF = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>'


@pytest.mark.parametrize(
    "packet",
    [
        RDF,
        b"<x:xapmeta xmlns:x='adobe:ns:meta/'>" + RDF + b"</x:xapmeta>",  # as it was called once
        "<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>".encode() + XMP + b" " * 99 + b"<?xpacket end='w'?>",
        b"\xef\xbb\xbf<?xml version='1.0' encoding='latin-1'?>" + XMP,
    ],
)
def test_xmp_packets(cli: Any, tmp_path: Path, igs_bytes: Make, packet: bytes) -> None:
    (tmp_path / "xmp").write_bytes(packet)
    result = cli("igs-edit", "-", "-", "--set-xmp", tmp_path / "xmp", stdin=igs_bytes())
    assert result.code == 0, result.err
    assert sections(result.out) == {"xmpd": packet}


@pytest.mark.parametrize(
    ("packet", "found"),
    [
        (b"", "no XML (no element found) in line 1"),
        (b"no markup", "no XML (syntax error) in line 1"),
        (b"<x:xmpmeta>\n<a>", "no XML (no element found) in line 2"),
        (b"<svg/>", "XML without one"),
        (b"<!-- x:xmpmeta --><svg/>", "XML without one"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><x:xmpmeta>&b;</x:xmpmeta>", "a document type"),
        (b"<!DOCTYPE a SYSTEM 'a.dtd'><x:xmpmeta/>", "a document type"),
        (b"<x:xmpmeta>\xff</x:xmpmeta>", "other bytes"),
    ],
)
def test_what_is_no_xmp_packet(cli: Any, tmp_path: Path, igs_bytes: Make, packet: bytes, found: str) -> None:
    (tmp_path / "xmp").write_bytes(packet)
    result = cli("igs-edit", "-", "-", "--set-xmp", tmp_path / "xmp", stdin=igs_bytes())
    assert (result.code, f"found {found}" in result.err) == (2, True), result.err


def test_strip_then_set_and_remove(cli: Any, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.igs"
    assert cli("igs-edit", source, out, "--remove", "xmp", "--remove", "wxyz").code == 0
    assert sections(out) == {k: v for k, v in SECTIONS.items() if k not in ("xmpd", "wxyz")}
    assert cli("igs-edit", source, "-o", out, "--strip", "--set-dpi", 72).code == 0
    assert resolution(sections(out)) == (2835, 2835)
    assert "section phys: 8 bytes, inline, 72.0 × 72.0 pixels per inch" in cli("igs-info", out).text
    assert set(sections(out)) == {"phys"}


def test_metadata_of_another_file(cli: Any, source: Path, tmp_path: Path, igs_bytes: Make) -> None:
    image, out = tmp_path / "a.png", tmp_path / "out.igs"
    Image.new("RGB", (3, 2)).save(image, icc_profile=ICC, dpi=(300, 300))
    assert cli("igs-edit", "-", out, "--copy-from", image, stdin=igs_bytes()).code == 0
    assert sections(out) == {"iccp": ICC} | phys_section(300 / 0.0254, 300 / 0.0254)
    assert cli("igs-edit", "-", out, "--copy-from", source, stdin=igs_bytes()).code == 0
    assert sections(out) == {k: v for k, v in SECTIONS.items() if k != "wxyz"}


def test_in_place_and_one_bad_file(cli: Any, source: Path, tmp_path: Path, igs_bytes: Make) -> None:
    bad, other = tmp_path / "bad.igs", tmp_path / "other.igs"
    bad.write_bytes(b"no file of ours, but long enough to have a header if it were one, which takes 58 bytes")
    other.write_bytes(igs_bytes(sections=SECTIONS))
    result = cli("igs-edit", "-i", source, bad, other, "--strip", "--json")
    assert result.code == 3
    first, second, third = map(json.loads, result.text.splitlines())
    assert (second["exit_code"], second["code"]) == (3, "E_SIGNATURE")
    assert source.read_bytes() == other.read_bytes() == igs_bytes()
    assert (first["sections"], third["bytes"]) == ({}, len(igs_bytes()))
    assert bad.read_bytes().startswith(b"no file of ours")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.igs", "in.igs", "other.igs"]


@pytest.mark.parametrize(
    ("args", "code", "expected"),
    [
        ([], 1, "nothing to change"),
        (["--remove", "dpi"], 1, "expected a section of the file (icc, exif, xmp, json), found no such one"),
        (["--set-icc", "in.igs"], 2, "in.igs: expected an ICC profile"),
        (["--set-json", "list.json"], 2, "expected a JSON object, found a JSON list"),
        (["--set-xmp", "list.json"], 2, "list.json: expected an XMP packet, XML with an element x:xmpmeta or rdf:RDF"),
        (["--set-exif", "missing"], 2, "missing: No such file"),
        (["--copy-from", "plain.png"], 2, "expected metadata to copy, found none"),
        (["--set-dpi", "0"], 1, "--set-dpi: expected one or two numbers above 0"),
        (["--set-dpi", "1,2,3"], 1, "found '1,2,3'"),
        (["--coarser", "2", "--bpp", "1"], 1, "exclude each other"),
        (["--bpp", "1", "--pos-bits", "4"], 1, "exclude each other"),
        (["--refine", "--strip"], 1, "--refine goes with"),
        (["--refine", "--pos-bits", "3"], 1, "--refine goes with"),
        (["--pos-bits", "13"], 1, "pos_bits: expected 1 to the 12 of the file (uniform), found 13"),
        (["--size", "10"], 1, "the smallest of this file with steps 64 times as large, found 10"),
        (["--in-place", "--strip"], 1, "--in-place takes files"),
    ],
)
def test_refusals(
    cli: Any, source: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], code: int, expected: str
) -> None:
    monkeypatch.chdir(source.parent)
    Path("list.json").write_text("[1]")
    Image.new("L", (2, 2)).save("plain.png")
    before = sorted(p.name for p in Path().iterdir())
    result = cli(
        "igs-edit",
        "in.igs",
        *([] if "--in-place" in args else ["out.igs"]),
        *(["-o", "x"] * ("--in-place" in args)),
        *args,
    )
    assert (result.code, expected in result.err) == (code, True), result.err
    assert sorted(p.name for p in Path().iterdir()) == before


def test_a_file_that_may_not_be_read_is_no_error_of_usage(cli: Any, source: Path, tmp_path: Path, forbid: Any) -> None:
    locked = tmp_path / "locked"
    locked.write_bytes(b"{}")
    forbid(locked)
    for option in ("--copy-from", "--set-icc", "--set-exif", "--set-xmp", "--set-json"):
        result = cli("igs-edit", source, tmp_path / "out.igs", option, locked)
        assert (result.code, result.err) == (2, f"igs-edit: {locked}: Permission denied\n"), option
    assert not (tmp_path / "out.igs").exists()


def test_input_is_not_written_over_by_accident(cli: Any, source: Path) -> None:
    before = source.read_bytes()
    result = cli("igs-edit", source, source, "--strip")
    assert (result.code, "same file" in result.err) == (1, True)
    assert source.read_bytes() == before


def test_warnings(cli: Any, tmp_path: Path, igs_bytes: Make, groups_of: dict[str, Any]) -> None:
    turned = tmp_path / "exif"
    turned.write_bytes(EXIF[:18] + b"\x06" + EXIF[19:])
    result = cli("igs-edit", "-", "-", "--set-exif", turned, stdin=igs_bytes())
    assert "orientation is set to 1" in result.err
    assert sections(result.out) == {"exif": EXIF}
    (tmp_path / "icc").write_bytes(ICC)
    result = cli("igs-edit", "-", "-", "--set-icc", tmp_path / "icc", stdin=igs_bytes(groups=groups_of["L"]))
    assert "the ICC profile is for RGB, the picture has 1 channel of" in result.err


def test_fewer_bits_keep_metadata_and_say_what_they_cost(cli: Any, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.igs"
    result = cli("igs-edit", source, out, "--pos-bits", 9, "--feat-bits", 6, "--json")
    assert result.code == 0, result.err
    found = result.json
    assert sections(out) == SECTIONS
    assert found["bytes"] == out.stat().st_size < found["bytes_before"] == source.stat().st_size
    with igs.open(source) as a, igs.open(out) as b:
        pictures = [im.decode(dtype="float32") for im in (a, b)]
        assert (b.header.position.bits, b.header.feature.bits, b.header.scale.bits) == (9, 6, 8)
    assert found["psnr_to_input"] == pytest.approx(-10 * np.log10(((pictures[0] - pictures[1]) ** 2).mean()), abs=0.01)
    assert found["psnr_to_input"] > 25


def test_a_factor_that_changes_nothing_is_warned_of(cli: Any, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.igs"
    result = cli("igs-edit", source, out, "--coarser", 1.5)
    assert result.code == 0, result.err
    assert "warning: nothing became coarser: codes lose whole bits, the first at a factor of 2" in result.err
    for factor in (1, 2):
        assert "nothing became coarser" not in cli("igs-edit", source, out, "--coarser", factor).err


@pytest.mark.parametrize("limit", [("--size", "1M"), ("--bpp", "24")])
def test_a_limit_that_is_kept_already_changes_nothing(cli: Any, source: Path, tmp_path: Path, limit: Any) -> None:
    out = tmp_path / "out.igs"
    result = cli("igs-edit", source, out, "--remove", "exif", *limit)
    assert result.code == 0, result.err
    assert "exif" not in sections(out)
    with igs.open(source) as a, igs.open(out) as b:
        assert (a.decode() == b.decode()).all()


def test_errors_name_the_file_that_they_are_about(cli: Any, source: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no profile")
    for file, option in ((tmp_path / "text", ("--set-icc", tmp_path / "text")), (tmp_path / "no" / "x.igs", ())):
        target = file if not option else tmp_path / "out.igs"
        found = cli("igs-edit", source, target, "--strip", *option).err
        assert found.startswith(f"igs-edit: {file}: "), found


@pytest.mark.parametrize(
    ("rest", "left"), [(b'{"a":1,"level_psnr":[31.5]}', {"json": b'{"a":1}'}), (b'{"level_psnr":[31.5]}', {})]
)
def test_what_was_measured_of_another_picture_is_left_out(
    cli: Any, tmp_path: Path, igs_bytes: Make, rest: bytes, left: dict[str, bytes]
) -> None:
    """PSNR of levels: kept with the picture, not with one of fewer bits, nor copied to another."""
    source, out = tmp_path / "levels.igs", tmp_path / "out.igs"
    source.write_bytes(igs_bytes(sections={"json": rest, "xmpd": XMP}))
    assert cli("igs-edit", source, out, "--set-dpi", 72).code == 0
    assert sections(out)["json"] == rest
    assert cli("igs-edit", source, out, "--pos-bits", 9).code == 0
    assert sections(out) == {"xmpd": XMP} | left
    assert cli("igs-edit", "-", out, "--copy-from", source, stdin=igs_bytes()).code == 0
    assert sections(out) == {"xmpd": XMP} | left
