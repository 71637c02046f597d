"""Loading: every file of the odd set, every Pillow mode, arrays, limits, damage (issue 2 §6, spec §3.4 and §8.3)."""

from __future__ import annotations

import contextlib
import csv
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from igs.cli.output_png import write_png16
from igs.encoder.loading.image import SourceImage, load_image, to_stored
from igs.encoder.loading.metadata import with_resolution
from igs.format import Alpha, Colour, Group, Transfer
from igs.format.errors import InputError, Unsupported, UsageError
from igs.format.sections import resolution


def png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png", **options)
    return buffer.getvalue()


def ramp(*shape: int, top: int = 255) -> np.ndarray:
    """Different values everywhere, so that any transposition or channel swap shows."""
    count = int(np.prod(shape))
    return (
        (np.arange(count, dtype=np.float64) * 97 % (top + 1))
        .reshape(shape)
        .astype(np.uint8 if top < 256 else np.uint16)
    )


def kind(source: SourceImage) -> str:
    """The loaded layout in Pillow's terms."""
    (group,) = source.groups
    assert group.channels == source.channels
    assert group.alpha in (Alpha.NONE, Alpha.PREMULTIPLIED)
    return group.colour.name + ("+A" if group.alpha != Alpha.NONE else "")


def group(channels: int, alpha: Alpha, name: str, gamma: float = 1.0) -> Group:
    known = {"transfer": Transfer.LINEAR, "bit_depth": 8, "colour": Colour.UNSPECIFIED}
    return Group(channels=channels, alpha=alpha, gamma=gamma, name=name, **known)


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


def test_lab_is_refused() -> None:
    with pytest.raises(InputError, match="LAB"):
        load_image(Image.new("LAB", (2, 2)))


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


# -- streams, limits, damage


def test_path_bytes_and_file_agree(tmp_path: Path) -> None:
    data = png(Image.fromarray(ramp(6, 4, 3)))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    from_path = load_image(path)
    with path.open("rb") as file:
        assert np.array_equal(load_image(file).pixels, from_path.pixels)
    assert np.array_equal(load_image(data).pixels, from_path.pixels)
    assert load_image(from_path) is from_path


def test_limits_name_their_option() -> None:
    data = png(Image.new("L", (100, 20)))
    with pytest.raises(InputError, match="--size-limit"):
        load_image(data, size_limit=1999)
    with pytest.raises(InputError, match="--dimension-limit"):
        load_image(data, dimension_limit=99)
    with pytest.raises(InputError, match="--memory-limit"):
        load_image(data, memory_limit=2000 * 36 - 1)
    assert load_image(data, size_limit=2000, dimension_limit=100).width == 100


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    """A PNG of 30000 × 30000 pixels in 1 KB: Pillow's own check would come first, and name no option."""
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 30000, 30000, 1, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(InputError, match="--size-limit"):
        load_image(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 1000) + b"IDAT" + bytes(1000))
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("format_", ["png", "jpeg", "tiff", "gif", "webp", "bmp", "ppm"])
def test_any_truncation_loads_or_is_an_input_error(format_: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(ramp(16, 16, 3)).save(buffer, format_)
    data = buffer.getvalue()
    failures = 0
    for length in range(0, len(data), max(1, len(data) // 40)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                load_image(data[:length])
            except InputError:
                failures += 1
    assert failures > 5


@given(
    st.binary(max_size=200),
    st.sampled_from(
        [b"", b"\x76\x2f\x31\x01\x02\0\0\0", b"\x89PNG\r\n\x1a\n", b"II*\0", b"\xff\xd8", b"P6 3 3 999 ", b"\x93NUMPY"]
    ),
)
def test_any_bytes_load_or_are_an_input_error(data: bytes, prefix: bytes) -> None:
    with contextlib.suppress(InputError, Unsupported):  # Unsupported: EXR without its library
        load_image(prefix + data)


def _seeds() -> list[bytes]:
    """Small files of every kind that is parsed by different code."""
    seeds = []
    for format_ in ("png", "gif", "tiff", "jpeg", "webp", "bmp", "tga", "ppm"):
        buffer = io.BytesIO()
        Image.fromarray(ramp(9, 7, 3)).save(buffer, format_)
        seeds.append(buffer.getvalue())
    for array in (ramp(9, 7, 3, top=65535), ramp(9, 7, 5)):
        buffer = io.BytesIO()
        np.save(buffer, array)
        seeds.append(buffer.getvalue())
    seeds.append(b"P6 7 9 999\n" + ramp(9, 7, 6).tobytes())
    buffer = io.BytesIO()
    write_png16(buffer, ramp(9, 7, 4, top=65535), {"exif": b"II*\0\x08\0\0\0\0\0"})
    seeds.append(buffer.getvalue())
    tifffile = pytest.importorskip("tifffile")
    for array, options in [
        (ramp(9, 7, 3, top=65535), {"photometric": "rgb"}),
        (ramp(9, 7, 4).astype(np.float32), {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
        (ramp(5, 9, 7, top=65535), {"photometric": "minisblack", "planarconfig": "separate", "compression": "zlib"}),
    ]:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, array, **options)
        seeds.append(buffer.getvalue())
    return seeds


@given(st.data())
def test_damaged_files_load_or_are_an_input_error(data: st.DataObject) -> None:
    """A few bytes changed anywhere: a picture or an InputError, with memory bounded by the limit."""
    damaged = bytearray(data.draw(st.sampled_from(_seeds())))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, min(len(damaged) - 1, data.draw(st.sampled_from([64, 400, 10**6])))))
        damaged[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError):
        source = load_image(bytes(damaged), size_limit=10**6, memory_limit=10**8)
        assert np.isfinite(source.pixels).all()


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


# -- arrays


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1), (3, 4, 2), (3, 4, 3), (3, 4, 4), (3, 4, 9), (1, 1, 64)])
def test_arrays(dtype: type, shape: tuple[int, ...]) -> None:
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    values = (np.linspace(0, 1, int(np.prod(shape))).reshape(shape) * top).astype(dtype)
    source = load_image(values)
    channels = shape[2] if len(shape) == 3 else 1
    assert source.pixels.shape == (*shape[:2], channels)
    assert source.bit_depth == {np.uint8: 8, np.uint16: 16}.get(dtype, 32)
    assert np.allclose(source.pixels.reshape(shape), values / np.float64(top), atol=1e-7)
    expected = {1: "GREY", 2: "GREY+A", 3: "RGB", 4: "RGB+A"}.get(channels, "UNSPECIFIED")
    assert kind(source) == expected
    assert not np.shares_memory(source.pixels, values)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3), np.zeros((2, 2, 2, 2)), np.zeros((0, 4)), np.zeros((4, 0, 3)), np.zeros((2, 2, 65)),
        np.zeros((2, 2, 0)), np.zeros((2, 2), int), np.zeros((2, 2), bool), np.zeros((2, 2), complex),
        np.full((2, 2), np.inf), np.full((2, 2), np.nan), np.zeros((2, 2), object),
    ],
)  # fmt: skip
def test_bad_arrays(array: np.ndarray) -> None:
    with pytest.raises(UsageError):
        load_image(array)


def test_groups_can_be_given() -> None:
    groups = (group(3, Alpha.NONE, "albedo"), group(1, Alpha.NONE, "roughness"))
    assert load_image(np.zeros((2, 2, 4), np.uint8), groups=groups).groups == groups
    with pytest.raises(UsageError, match="4 channels"):
        load_image(np.zeros((2, 2, 3), np.uint8), groups=groups)


# -- stored values


@given(st.floats(1 / 16, 16), st.sampled_from(list(Alpha)), st.integers(0, 2**32))
def test_to_stored_is_undone_by_the_rule_of_the_specification(gamma: float, alpha: Alpha, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(0.02, 1, (4, 5, 6)).astype(np.float32)  # darker values to the 16th leave binary32
    pixels[..., 5] = rng.integers(8, 256, (4, 5)) / 255  # alpha at and above 2^-9, where dividing is defined
    plain = group(2, Alpha.NONE, "a")
    other = group(4, alpha, "b", gamma)
    stored = to_stored(pixels, (plain, other)).astype(np.float64)
    assert np.array_equal(stored[..., :2], pixels[..., :2].astype(np.float64))
    colours = stored[..., 2:] if alpha == Alpha.NONE else stored[..., 2:5]
    if alpha == Alpha.PREMULTIPLIED:
        colours = colours / stored[..., 5:]
    picture = np.maximum(colours, 0) ** other.gamma  # as a file holds it
    # binary32 rounding of v^(1/gamma), magnified by gamma on the way back
    assert np.allclose(picture, pixels[..., 2 : 2 + picture.shape[-1]], atol=4e-6)
    if alpha != Alpha.NONE:
        assert np.array_equal(stored[..., 5], pixels[..., 5].astype(np.float64))


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


def test_resolution_turns_with_the_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4)).save(buffer, "jpeg", dpi=(300, 150), exif=exif)
    source = load_image(buffer.getvalue())
    assert (source.width, source.height) == (4, 6)
    assert resolution(source.sections) == (5906, 11811)


def test_where_a_value_is_not_finite() -> None:
    values = np.ones((4, 5, 3), np.float32)
    values[2, 3, 1] = np.nan
    values[3, 0, 0] = np.inf
    with pytest.raises(
        UsageError, match=r"NaN or infinity in 2 of 60, the first \(nan\) in column 3, row 2, channel 1"
    ):
        load_image(values)
