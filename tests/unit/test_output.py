"""Writing images: every format, bit depth and layout comes back as it was, and the 16-bit PNG writer is exact."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from igs.cli.output import FORMATS, LAYOUTS, check_format, choose_depth, format_of, write_image
from igs.cli.output_png import write_png16
from igs.encoder.loading.image import load_image
from igs.format.errors import Unsupported, UsageError

CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "N": 6}
CASES = [(f.name, layout, depth) for f in FORMATS.values() for layout in f.layouts for depth in f.depths]


def picture(layout: str, depth: int, height: int = 9, width: int = 7) -> np.ndarray:
    values = np.random.default_rng(0).random((height, width, CHANNELS[layout]))
    if depth == 32:
        return values.astype(np.float32)
    return np.floor(values * (2**depth - 1) + 0.5).astype(f"u{depth // 8}")


@pytest.mark.parametrize(("name", "layout", "depth"), CASES)
def test_written_pictures_load_as_they_were(name: str, layout: str, depth: int) -> None:
    pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    if name == "exr":
        pytest.importorskip("OpenEXR")
    pixels = picture(layout, depth)
    buffer = io.BytesIO()
    assert write_image(buffer, pixels, FORMATS[name], layout, {}) == []
    source = load_image(buffer.getvalue())
    if name in ("jpeg", "avif") or (name == "webp" and layout in ("L", "LA")):  # lossy, or grey stored as RGB
        assert source.pixels.shape[:2] == pixels.shape[:2]
        return
    top = 1 if depth == 32 else 2**depth - 1
    assert source.bit_depth == depth
    if name == "exr":  # alpha is multiplied in and divided out again: two roundings to binary32
        assert np.allclose(source.pixels, pixels, rtol=2**-22)
        return
    assert np.array_equal(source.pixels, np.divide(pixels, top, dtype=np.float32))


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 140), st.integers(0, 2**32), st.booleans())
def test_16_bit_png(channels: int, width: int, height: int, seed: int, smooth: bool) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 65536, (height, width, channels))
    if smooth:  # so that filters other than "none" win
        pixels = 20000 + np.cumsum(pixels % 7, axis=0) + np.cumsum(pixels % 5, axis=1)
    pixels = pixels.astype(np.uint16)
    buffer = io.BytesIO()
    write_png16(buffer, pixels, {})
    assert np.array_equal(imagecodecs.png_decode(buffer.getvalue()).reshape(pixels.shape), pixels)
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        image.load()  # checks the CRCs as well


def test_smooth_16_bit_png_is_small() -> None:
    x, y = np.meshgrid(np.arange(200), np.arange(200))
    pixels = (x * 100 + y * 90).astype(np.uint16)[..., None].repeat(3, axis=2)
    buffer = io.BytesIO()
    write_png16(buffer, pixels, {})
    assert buffer.tell() < pixels.nbytes / 50  # unfiltered it would be above 1/5


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "tiff", "avif"])
@pytest.mark.parametrize("junk", [b"", b"x", bytes(40), b"II*\0\x08\0\0\0\xff\xff" + bytes(30)])
def test_damaged_metadata_never_prevents_the_picture(name: str, junk: bytes) -> None:
    buffer = io.BytesIO()
    write_image(buffer, picture("RGB", 8), FORMATS[name], "RGB", {"exif": junk, "iccp": junk, "xmpd": junk})
    assert load_image(buffer.getvalue()).pixels.shape == (9, 7, 3)


def test_oversized_exif_is_left_out_of_a_jpeg() -> None:
    buffer = io.BytesIO()
    sections = {"exif": b"II*\0\x08\0\0\0" + bytes(70000)}
    (note,) = write_image(buffer, picture("RGB", 8), FORMATS["jpeg"], "RGB", sections)
    assert "left out" in note
    assert load_image(buffer.getvalue()).width == 7


def test_depths() -> None:
    assert [choose_depth(FORMATS["png"], source, None) for source in (8, 16, 32)] == [8, 16, 16]
    assert [choose_depth(FORMATS["jpeg"], source, None) for source in (8, 16, 32)] == [8, 8, 8]
    assert choose_depth(FORMATS["tiff"], 8, 32) == 32
    with pytest.raises(Unsupported, match="tiff, exr and npy can"):
        choose_depth(FORMATS["png"], 8, 32)


def test_every_refusal_names_a_format_that_works() -> None:
    for format_ in FORMATS.values():
        for layout in LAYOUTS:
            if layout in format_.layouts:
                check_format(format_, layout, CHANNELS[layout], 100, 100)
            else:
                with pytest.raises(Unsupported, match=r"(, |; |and )npy\b.* can") as raised:
                    check_format(format_, layout, CHANNELS[layout], 100, 100)
                assert format_.name in str(raised.value)


def test_format_of() -> None:
    assert format_of("a/b.JPEG", None).name == "jpeg"
    assert format_of("-", None).name == "png"
    assert format_of("x.png", "npy").name == "npy"
    with pytest.raises(UsageError, match=r"\.png"):
        format_of("x", None)
