"""Loading TIFF by tifffile (encoder/loading/deep.py): what its numbers mean, by their kind and depth."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from load_cases import kind
from PIL import Image

from igs.encoder.loading import deep
from igs.encoder.loading.image import load_image
from igs.format.errors import InputError, Unsupported

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")  # packed bits
GREY = np.array([[0, 1000], [65535, 32768]], np.uint16)


def tiff(values: np.ndarray, photometric: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric=photometric, metadata=None, **options)
    return buffer.getvalue()


def with_photometric(data: bytes, photometric: int) -> bytes:
    """A grey TIFF with another number in its tag 262."""
    entry = bytes([6, 1, 3, 0, 1, 0, 0, 0])
    assert data.count(entry + b"\1\0") == 1
    return data.replace(entry + b"\1\0", entry + photometric.to_bytes(2, "little"))


@pytest.mark.parametrize(
    ("dtype", "colours", "expected"),
    [
        (np.uint8, [128, 0, 64], [0.5, 0, 0.25]),
        (np.uint16, [32768, 0, 65535], [0.5, 0, 1]),
        (np.uint32, [2**31, 0, 2**32 - 1], [0.5, 0, 1]),
        (np.uint64, [2**63, 0, 2**64 - 1], [0.5, 0, 1]),
    ],
)
@pytest.mark.parametrize("opaque", [True, False])
def test_premultiplied_integers(dtype: Any, colours: list[int], expected: list[float], opaque: bool) -> None:
    top = np.iinfo(dtype).max
    alpha = top if opaque else top // 2 + 1
    pixel = [c if opaque else c // 2 for c in colours]
    # a pixel brighter than its alpha allows ends at 1, one without alpha is 0
    values = np.array([[[*pixel, alpha], [top, 0, 0, alpha], [top, top, top, 0]]], dtype)
    source = load_image(tiff(values, "rgb", extrasamples=["assocalpha"]))
    assert kind(source) == "RGB+A"
    share = alpha / top
    wanted = [[*expected, share], [1, 0, 0, share], [0, 0, 0, 0]]
    # twice the steps of 8 bits: those of the value, and of its rounding at half alpha
    assert np.allclose(source.pixels[0], wanted, atol=1 / 127 if dtype == np.uint8 else 1 / 32767)


def test_premultiplied_cmyk_of_8_bits() -> None:
    values = np.array([[[128, 64, 0, 255, 255], [64, 32, 0, 128, 128]]], np.uint8)
    source = load_image(tiff(values, "separated", extrasamples=["assocalpha"], planarconfig="contig"))
    assert kind(source) == "CMYK+A"
    assert np.rint(source.pixels[0] * 255).tolist() == [[128, 64, 0, 255, 255], [128, 64, 0, 255, 128]]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 12, 16, 32, 64])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_grey_of_any_depth(bits: int, photometric: str, order: str) -> None:
    top = 2**bits - 1
    values = np.array([[int(v) * top // 65535 for v in row] for row in GREY], f"u{2 if bits == 12 else bits // 8}")
    # packed bits have no byte order, but tifffile swaps them
    options: dict[str, Any] = {"bitspersample": 12} if bits == 12 else {"byteorder": order}
    source = load_image(tiff(values, photometric, **options))
    assert (kind(source), source.bit_depth) == ("GREY", 8 if bits == 8 else 16 if bits < 32 else 32)
    share = values.astype(np.float64) / top
    assert np.allclose(source.pixels[..., 0], share if photometric == "minisblack" else 1 - share, atol=1e-7)
    assert source.warnings == []


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_grey_whose_zero_is_white(dtype: Any) -> None:
    values = np.array([[0, 0.25], [1, 1.5]], dtype)
    assert load_image(tiff(values, "minisblack")).pixels[..., 0].tolist() == [[0, 0.25], [1, 1.5]]
    assert load_image(tiff(values, "miniswhite")).pixels[..., 0].tolist() == [[1, 0.75], [0, -0.5]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha"])
def test_white_is_zero_beside_alpha(dtype: Any, alpha: str) -> None:
    top = np.iinfo(dtype).max
    values = np.array([[[0, top], [top // 5, top // 5 * 2], [top // 5, top]]], dtype)
    source = load_image(tiff(values, "miniswhite", extrasamples=[alpha]))
    assert kind(source) == "GREY+A"
    middle = 0.8 if alpha == "unassalpha" else 0.5  # ink of 1/5 that alpha of 2/5 has been multiplied into
    assert np.allclose(source.pixels[0], [[1, 1], [middle, 0.4], [0.8, 1]], atol=1 / 254)


def test_signed_samples() -> None:
    assert load_image(tiff(np.array([[0, 32767]], np.int16), "minisblack")).pixels[0, 1, 0] == np.float32(32767 / 65535)
    with pytest.raises(InputError, match="found -3 to 5"):
        load_image(tiff(np.array([[-3, 5]], np.int16), "minisblack"))
    with pytest.raises(InputError, match="expected unsigned or float samples, found int8"):
        load_image(tiff(np.array([[-3, 5]], np.int8), "minisblack"))


def test_palette_of_16_bits() -> None:
    colormap = np.zeros((3, 65536), np.uint16)
    colormap[:, 1000] = 65535, 0, 13107
    source = load_image(tiff(GREY, "palette", colormap=colormap))
    assert (kind(source), source.bit_depth) == ("RGB", 16)
    assert np.allclose(source.pixels[0], [[0, 0, 0], [1, 0, 0.2]])


def test_palette_of_8_bits_beside_an_unknown_channel() -> None:
    """Pillow would drop the channel; of the colours the upper 8 bits count, as Pillow writes them."""
    colormap = np.zeros((3, 256), np.uint16)
    colormap[:, 7] = 0xFF00, 0, 0x33FF
    values, tag = np.array([[[7, 9], [0, 0]]], np.uint8), (320, 3, colormap.size, colormap.ravel(), True)
    grey = tiff(values, "minisblack", extrasamples=["unspecified"], planarconfig="contig", extratags=[tag])
    source = load_image(with_photometric(grey, 3))
    assert np.rint(source.pixels[0] * 255).tolist() == [[255, 0, 51, 9], [0, 0, 0, 0]]


def test_a_palette_that_is_too_short() -> None:
    data = tiff(GREY, "palette", colormap=np.zeros((3, 65536), np.uint16))
    count = bytes([0x40, 0x01, 3, 0]) + (3 * 65536).to_bytes(4, "little")
    assert count in data
    with pytest.raises(InputError, match="expected a palette of 3 × 65536 values"):
        load_image(data.replace(count, count[:4] + (3 * 16).to_bytes(4, "little")), name="a.tif")


@pytest.mark.parametrize(
    ("photometric", "dtype", "channels", "found"),
    [
        ("cielab", np.uint16, 3, "CIELAB"),
        ("ycbcr", np.uint16, 3, "YCbCr"),
        ("icclab", np.uint8, 3, "ICCLab"),
        ("cfa", np.uint16, 1, "a colour filter array"),
        (32999, np.uint16, 1, "photometric interpretation 32999"),
    ],
)
def test_other_pixels_are_refused_by_name(photometric: Any, dtype: Any, channels: int, found: str) -> None:
    data = tiff(np.zeros((2, 2, channels), dtype).squeeze(), "minisblack" if photometric == 32999 else photometric)
    data = with_photometric(data, photometric) if photometric == 32999 else data
    with pytest.raises(InputError) as raised:
        load_image(data, name="a.tif")
    assert str(raised.value) == f"a.tif: expected a TIFF of grey, RGB, palette or CMYK pixels, found {found}"


def test_channels_of_different_depths_are_refused() -> None:
    data = tiff(np.zeros((2, 2, 3), np.uint16), "rgb")
    bits = bytes([16, 0]) * 3
    assert data.count(bits) == 1
    with pytest.raises(InputError, match=r"expected channels of one depth, found 16, 12, 16 bits"):
        load_image(data.replace(bits, bytes([16, 0, 12, 0, 16, 0])))


def test_without_tifffile_what_pillow_would_misread_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> Any:
        raise ImportError(module)

    inverted, plain, colours = tiff(GREY, "miniswhite"), tiff(GREY, "minisblack"), tiff(np.stack([GREY] * 3, -1), "rgb")
    monkeypatch.setattr(deep.importlib, "import_module", missing)
    with pytest.raises(Unsupported, match="needs tifffile"):
        load_image(inverted)
    assert np.array_equal(load_image(plain).pixels[..., 0], (GREY / 65535).astype(np.float32))
    (note,) = load_image(colours).warnings
    assert "reduced to 8 bits per channel" in note


def test_a_page_that_a_pillow_image_is_at() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for page in range(3):
            writer.write(np.full((2, 2, 3), 1000 * page + 1, np.uint16), photometric="rgb", metadata=None)
    with Image.open(buffer) as image:
        image.seek(2)
        source = load_image(image, name="a.tif")
    assert source.warnings == ["a.tif: only frame 3 of 3 is encoded"]
    assert np.all(source.pixels == np.float32(2001 / 65535))


@pytest.mark.parametrize("channels", [1, 3])
def test_without_a_word_on_what_the_channels_are(channels: int) -> None:
    """As libtiff guesses: grey whose zero is black, RGB."""
    values = np.arange(8 * channels, dtype=np.uint16).reshape(2, 4, channels) * 1000
    data = tiff(values.squeeze(), "minisblack" if channels == 1 else "rgb")
    entry = bytes([6, 1, 3, 0, 1, 0, 0, 0, 1 + (channels == 3), 0])
    assert data.count(entry) == 1
    source = load_image(data.replace(entry, bytes([0, 240]) + entry[2:]))  # a tag that nobody knows
    assert np.allclose(source.pixels, values / 65535, atol=1e-6)


@pytest.mark.parametrize("compression", ["jpeg2000", "jpegxl"])
def test_ycbcr_that_its_decoder_turns_into_rgb(compression: str) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (8, 8, 3)).astype(np.uint16)
    source = load_image(tiff(values, "ycbcr", compression=compression))
    assert np.abs(source.pixels - values / 65535).max() < 0.1
