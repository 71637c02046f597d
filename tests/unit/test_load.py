"""Loading: every file of the odd set, every Pillow mode, every kind of source, messages (issue 2 §6)."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from load_cases import kind, png, ramp
from PIL import Image

from igs.encoder.loading.image import load_image
from igs.format.errors import InputError, UsageError

# -- the odd set

# What Pillow's mode in MANIFEST.csv must load as: layout, bit depth
EXPECTED = {
    "L": ("GREY", 8), "LA": ("GREY+A", 8), "RGB": ("RGB", 8), "RGBA": ("RGB+A", 8), "CMYK": ("CMYK", 8),
    "P": ("RGB", 8), "I;16": ("GREY", 16),
}  # fmt: skip
EXCEPTIONS = {  # where the first word of the manifest's mode doesn't say all
    "basn2c16.png": ("RGB", 16),
    "gray16_trns.png": ("GREY+A", 16),
    "bilevel_trns.png": ("GREY+A", 8),
    "tbbn3p08.png": ("RGB+A", 8),
}


def odd_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "MANIFEST.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["category"] == "odd"]


def test_odd_set(shared_data: Path) -> None:
    pytest.importorskip("imagecodecs")
    rows = odd_rows(shared_data)
    assert len(rows) == len(list((shared_data / "odd").iterdir()))
    for row in rows:
        path = shared_data / row["file"]
        if path.name.startswith("BAD_"):
            with pytest.raises(InputError, match=path.name):
                load_image(path)
            continue
        source = load_image(path)
        width, height = int(row["width"]), int(row["height"])
        if "orientation 8" in row["mode"] or "orientation 6" in row["mode"]:
            width, height = height, width
        assert (source.width, source.height) == (width, height), path.name
        mode = row["mode"].split(" ")[0].rstrip(",")
        assert (kind(source), source.bit_depth) == EXCEPTIONS.get(path.name, EXPECTED.get(mode)), path.name
        assert source.pixels.dtype == np.float32
        assert source.pixels.flags.c_contiguous
        assert source.pixels.min() >= 0
        assert source.pixels.max() <= 1
        assert bool(source.warnings) == ("apng" in path.name), source.warnings


def test_animation_warns_with_its_frames(shared_data: Path) -> None:
    source = load_image(shared_data / "odd" / "apng_20_frames.png")
    assert any("20 frames" in warning for warning in source.warnings)


# -- modes


@pytest.mark.parametrize(
    ("mode", "layout"),
    [("L", "GREY"), ("LA", "GREY+A"), ("RGB", "RGB"), ("RGBA", "RGB+A"), ("CMYK", "CMYK")],
)
def test_plain_modes_keep_values(mode: str, layout: str) -> None:
    channels = len(mode)
    array = ramp(5, 3, channels)
    image = Image.frombytes(mode, (3, 5), array.tobytes())
    source = load_image(image)
    assert kind(source) == layout
    assert np.array_equal(source.pixels, (array / 255).astype(np.float32))


def test_bilevel() -> None:
    image = Image.frombytes("1", (8, 2), b"\xaa\x0f")
    source = load_image(png(image))
    assert kind(source) == "GREY"
    assert source.pixels[..., 0].tolist() == [[1, 0] * 4, [0] * 4 + [1] * 4]


def test_palette_with_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    assert kind(load_image(png(image))) == "RGB"
    source = load_image(png(image, transparency=bytes([255, 64])))
    assert kind(source) == "RGB+A"
    assert np.rint(source.pixels[0] * 255).tolist() == [[10, 20, 30, 255], [40, 50, 60, 64]]


@pytest.mark.parametrize("bits", [2, 4])
def test_transparent_grey_below_8_bits(bits: int) -> None:
    """The tRNS value of such a PNG is in its own range, its pixels come stretched."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = {2: b"\0\x1b", 4: b"\0\x01\x23"}[bits]  # the values 0, 1, 2, 3
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, bits, 0, 0, 0, 0))
        + chunk(b"tRNS", b"\0\x02")
        + chunk(b"IDAT", zlib.compress(row))
        + chunk(b"IEND", b"")
    )
    source = load_image(data)
    assert source.pixels[0, :, 1].tolist() == [1, 1, 0, 1]
    assert np.allclose(source.pixels[0, :, 0], np.arange(4) / (2**bits - 1))


def test_transparent_colour() -> None:
    array = ramp(3, 4, 3)
    source = load_image(png(Image.fromarray(array), transparency=tuple(array[1, 2].tolist())))
    assert kind(source) == "RGB+A"
    assert np.argwhere(source.pixels[..., 3] == 0).tolist() == [[1, 2]]


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_16_bit_grey(byte_order: str) -> None:
    array = ramp(4, 3, top=65535)
    buffer = io.BytesIO()
    Image.fromarray(array.astype(byte_order + "u2")).save(buffer, "tiff")
    source = load_image(buffer.getvalue())
    assert source.bit_depth == 16
    assert np.array_equal(source.pixels[..., 0], (array / 65535).astype(np.float32))


def test_integer_and_float_modes() -> None:
    source = load_image(Image.fromarray(ramp(4, 3, top=65535).astype(np.int32)))
    assert (source.bit_depth, kind(source)) == (16, "GREY")
    with pytest.raises(InputError, match="70000"):
        load_image(Image.fromarray(np.full((2, 2), 70000, np.int32)))
    values = np.linspace(-0.5, 2, 12, dtype=np.float32).reshape(3, 4)
    source = load_image(Image.fromarray(values))
    assert source.bit_depth == 32
    assert np.array_equal(source.pixels[..., 0], values)
    with pytest.raises(InputError, match="finite"):
        load_image(Image.fromarray(np.full((2, 2), np.nan, np.float32)))


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "RGBX", "RGBa", "La", "PA"])
def test_other_modes_are_converted(mode: str) -> None:
    base = Image.fromarray(ramp(4, 4, 4))
    via = {"RGBX": "RGB", "PA": "LA", "La": "LA"}.get(mode, "RGBA" if mode == "RGBa" else "RGB")
    image = base.convert(via).convert(mode)
    expected = {"La": "GREY+A", "PA": "RGB+A", "RGBa": "RGB+A"}.get(mode, "RGB")
    assert kind(load_image(image)) == expected


def test_lab_is_refused_and_can_be_converted() -> None:
    image = Image.new("LAB", (2, 2))
    with pytest.raises(InputError, match="pixels of kind LAB are not supported; convert the image to RGB first"):
        load_image(image)
    assert kind(load_image(image.convert("RGB"))) == "RGB"  # Pillow does so by its profiles


# -- sources and messages


def test_path_bytes_and_file_agree(tmp_path: Path) -> None:
    data = png(Image.fromarray(ramp(6, 4, 3)))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    from_path = load_image(path)
    with path.open("rb") as file:
        assert np.array_equal(load_image(file).pixels, from_path.pixels)
    assert np.array_equal(load_image(data).pixels, from_path.pixels)
    assert load_image(from_path) is from_path


def test_messages_name_the_file_and_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.png: No such file"):
        load_image(tmp_path / "missing.png")
    with pytest.raises(InputError, match="expected maps such as albedo"):
        load_image(tmp_path)
    with pytest.raises(InputError, match="PostScript"):
        load_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(InputError, match="empty"):
        load_image(b"")
    with pytest.raises(InputError, match=r"\.igs file already"):
        load_image(b"\x89IGS\r\n\x1a\n" + bytes(100))
    with pytest.raises(UsageError, match="list"):
        load_image([1, 2, 3])


# -- what Pillow reduces to 8 bits


@pytest.mark.parametrize(("bits", "warned"), [(8, False), (10, True), (12, True)])
def test_deep_avif_warns(bits: int, warned: bool) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = ramp(16, 16, 3, top=2**bits - 1)
    source = load_image(imagecodecs.avif_encode(pixels, bitspersample=bits))
    assert source.bit_depth == 8
    assert [f"{bits} bits per channel are reduced to 8" in note for note in source.warnings] == [True] * warned


@pytest.mark.parametrize("container", ["j2k", "jp2"])
@pytest.mark.parametrize(("bits", "channels", "warned"), [(8, 3, False), (12, 3, True), (16, 3, True), (16, 1, False)])
def test_deep_jpeg_2000_warns(container: str, bits: int, channels: int, warned: bool) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = ramp(16, 16, channels, top=2**bits - 1).squeeze()
    source = load_image(imagecodecs.jpeg2k_encode(pixels, bitspersample=bits, codecformat=container))
    assert source.bit_depth == (16 if channels == 1 else 8)
    assert [f"{bits} bits per channel are reduced to 8" in note for note in source.warnings] == [True] * warned
