"""Loading: orientation, EXIF, profile, XMP and resolution."""

from __future__ import annotations

import io

import numpy as np
import pytest
from load_cases import ramp
from PIL import Image

from igs.cli.output_png import write_png16
from igs.encoder.loading.image import load_image
from igs.format.exif import with_resolution
from igs.format.sections import resolution

# -- orientation and metadata


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["png", "tiff"])
def test_orientation_matches_pillow_and_is_reset(orientation: int, format_: str) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a maker"
    image = Image.fromarray(ramp(3, 5, 3))
    buffer = io.BytesIO()
    image.save(buffer, format_, exif=exif)
    with Image.open(io.BytesIO(buffer.getvalue())) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    source = load_image(buffer.getvalue())
    assert np.array_equal(np.rint(source.pixels * 255).astype(np.uint8), expected)
    kept = Image.Exif()
    kept.load(source.sections["exif"])
    assert kept.get(0x0112, 1) == 1
    assert kept[0x010F] == "a maker"


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_orientation_of_16_bit_png(orientation: int) -> None:
    pytest.importorskip("imagecodecs")
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = ramp(3, 5, 3, top=65535)
    buffer = io.BytesIO()
    write_png16(buffer, array, {"exif": exif.tobytes()[6:]})
    turns = {3: 2, 6: -1, 8: 1}[orientation]
    source = load_image(buffer.getvalue())
    assert np.array_equal(source.pixels, np.rot90((array / 65535).astype(np.float32), turns))


def test_exif_is_otherwise_kept_byte_for_byte() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x927C] = b"maker note with offsets"
    raw = exif.tobytes()
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "jpeg", exif=raw)
    kept = load_image(buffer.getvalue()).sections["exif"]
    assert len(kept) == len(raw) - 6
    assert [a for a, b in zip(kept, raw[6:], strict=True) if a != b] == [1]


def test_damaged_exif_is_left_out() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "jpeg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    source = load_image(buffer.getvalue())
    assert "exif" not in source.sections
    assert source.width == 4


def test_profile_and_xmp() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    buffer = io.BytesIO()
    Image.new("RGB", (4, 2)).save(buffer, "jpeg", icc_profile=profile, xmp=xmp)
    source = load_image(buffer.getvalue())
    assert source.sections["iccp"] == profile
    assert source.sections["xmpd"] == xmp.replace(b"6", b"1")


JUNK = "the ICC profile is damaged and was left out: expected an ICC profile, found bytes without its signature 'acsp'"
NO_UTF8 = "the XMP packet is damaged and was left out: expected UTF-8, found other bytes"


@pytest.mark.parametrize(
    ("format_", "options", "note"),
    [
        ("png", {"icc_profile": b"junk" * 10}, JUNK),
        ("tiff", {"icc_profile": b"junk" * 10}, JUNK),
        ("webp", {"xmp": b"<x>\xff</x>"}, NO_UTF8),
    ],
)
def test_what_readers_would_refuse_is_left_out(format_: str, options: dict[str, bytes], note: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 2)).save(buffer, format_, **options)
    source = load_image(buffer.getvalue(), name="a")
    assert source.sections == {}
    assert source.warnings == [f"a: {note}"]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])  # of RGB Pillow opens the first, and not the second
def test_what_readers_would_refuse_of_a_deep_tiff_is_left_out(dtype: type) -> None:
    tifffile = pytest.importorskip("tifffile")
    buffer, packet = io.BytesIO(), b"<x>\xff</x>"
    options = {"iccprofile": b"junk" * 10, "extratags": [(700, 1, len(packet), packet, True)], "metadata": None}
    tifffile.imwrite(buffer, np.zeros((4, 2, 3), dtype), photometric="rgb", software=False, **options)
    source = load_image(buffer.getvalue(), name="a")
    assert source.sections == {}
    assert sorted(source.warnings) == [f"a: {JUNK}", f"a: {NO_UTF8}"]


def test_xmp_of_a_float_tiff_is_upright() -> None:
    tifffile = pytest.importorskip("tifffile")
    buffer, packet = io.BytesIO(), b'<x tiff:Orientation="6"/>'
    tags = [(700, 1, len(packet), packet, True), (0x0112, 3, 1, 6, True)]
    tifffile.imwrite(buffer, np.zeros((4, 2, 3), np.float32), photometric="rgb", extratags=tags, metadata=None)
    source = load_image(buffer.getvalue())
    assert (source.width, source.height) == (4, 2)
    assert source.sections["xmpd"] == packet.replace(b"6", b"1")


@pytest.mark.parametrize("key", ["xmp", "XML:com.adobe.xmp"])
def test_xmp_that_is_no_text_is_left_out(key: str) -> None:
    image = Image.new("RGB", (4, 2))
    image.info[key] = "\udcff"
    source = load_image(image, name="a")
    assert source.sections == {}
    assert f"a: {NO_UTF8}" in source.warnings


@pytest.mark.parametrize(
    ("format_", "options", "metres"),
    [
        ("png", {"dpi": (300, 150)}, (11811, 5906)),
        ("jpeg", {"dpi": (300, 150)}, (11811, 5906)),
        ("tiff", {"dpi": (300, 150)}, (11811, 5906)),
        ("bmp", {"dpi": (300, 150)}, (11811, 5906)),
        ("png", {}, None),
        ("jpeg", {}, None),
        ("tiff", {}, None),
    ],
)
def test_resolution(format_: str, options: dict[str, object], metres: tuple[int, int] | None) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4)).save(buffer, format_, **options)
    found = load_image(buffer.getvalue()).sections
    assert resolution(found) == metres
    assert ("phys" in found) == (metres is not None)


@pytest.mark.parametrize("format_", ["jpeg", "tiff"])
def test_resolution_turns_with_the_picture(format_: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4)).save(buffer, format_, dpi=(300, 150), exif=exif)
    opened = Image.open(io.BytesIO(buffer.getvalue()))
    opened.load()  # which turns a TIFF
    for given in (buffer.getvalue(), opened):
        source = load_image(given)
        assert (source.width, source.height) == (4, 6)
        assert resolution(source.sections) == (5906, 11811)
    opened.thumbnail((2, 2))
    assert resolution(load_image(opened).sections) == (5906, 11811)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_float_tiff_keeps_exif_and_resolution(big: bool, orientation: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    buffer, pixels = io.BytesIO(), ramp(4, 6, 3).astype(np.float32) / 255
    tags = [(0x010F, 2, 0, "a maker", True), (0x0112, 3, 1, orientation, True)]
    options = {"resolution": (300, 150), "resolutionunit": "INCH", "extratags": tags, "metadata": None}
    tifffile.imwrite(buffer, pixels, photometric="rgb", bigtiff=big, **options)
    source = load_image(buffer.getvalue())
    assert source.warnings == []
    turned = pixels if orientation == 1 else pixels[::-1].swapaxes(0, 1)
    assert np.array_equal(source.pixels, turned)
    assert resolution(source.sections) == ((11811, 5906) if orientation == 1 else (5906, 11811))
    exif = Image.Exif()
    exif.load(source.sections["exif"])
    assert (exif[0x010F], exif.get(0x0112, 1)) == ("a maker", 1)


def test_damaged_metadata_of_a_float_tiff_is_left_out() -> None:
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tags = [(0x010F, 2, 0, "a maker of pictures", True)]
    tifffile.imwrite(buffer, ramp(4, 6, 3).astype(np.float32), photometric="rgb", extratags=tags, metadata=None)
    data = buffer.getvalue()
    at = data.index((0x010F).to_bytes(2, "little") + b"\2\0") + 8
    source = load_image(data[:at] + b"\xff\xff\xff\x7f" + data[at + 4 :])
    assert source.pixels.shape == (4, 6, 3)


# -- EXIF blocks


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_resolution_is_added_and_nothing_moves(order: str) -> None:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[282] = "a maker", 72
    exif.get_ifd(0x8769)[0x927C] = b"maker note with offsets"
    block = exif.tobytes()[6:]
    found = with_resolution(block, 300.0, 150.5)
    assert found[8 : len(block)] == block[8:]
    assert with_resolution(found, 300.0, 150.5) == found
    read = Image.Exif()
    read.load(found)
    assert (read[282], read[283], read[296], read[0x010F]) == (300, 150.5, 2, "a maker")
    assert read.get_ifd(0x8769)[0x927C] == b"maker note with offsets"


@pytest.mark.parametrize("block", [b"", b"junk", b"MM\0*\0\0\xff\xff", b"II*\0\x08\0\0\0\xff\xff"])
def test_a_resolution_replaces_what_is_no_exif(block: bytes) -> None:
    exif = Image.Exif()
    exif.load(with_resolution(block, 72.0, 96.0))
    assert dict(exif) == {282: 72, 283: 96, 296: 2}
