"""Loading a Pillow image that the caller holds: bits that only its file has, frames (encoder/loading/opened.py)."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from load_cases import kind, png, ramp
from PIL import Image

from igs.cli.output_png import write_png16
from igs.encoder.loading.image import load_image
from igs.format.errors import InputError

TAKEN = (
    "a: Pillow's pixels are taken, which are not all that the file has: "
    "the image was changed after it was opened, or its file is gone"
)


@pytest.fixture(params=["png", "tif"])
def deep(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file with 16-bit RGB, whose pixels are deep_pixels()."""
    path = tmp_path / f"d16.{request.param}"
    if request.param == "png":
        pytest.importorskip("imagecodecs")
        with path.open("wb") as file:
            write_png16(file, deep_pixels(), {})
    else:
        pytest.importorskip("tifffile").imwrite(path, deep_pixels(), photometric="rgb")
    return path


def deep_pixels() -> np.ndarray:
    return ramp(6, 5, 3, top=65535)


def has_all_bits(image: Image.Image) -> bool:
    source = load_image(image, name="a")
    if source.bit_depth == 16:
        assert np.array_equal(source.pixels, (deep_pixels() / 65535).astype(np.float32))
        assert source.warnings == []
    else:
        assert source.bit_depth == 8
        assert source.warnings == [TAKEN]
    return source.bit_depth == 16


@pytest.mark.parametrize("loaded", [False, True])
def test_all_bits_are_read_from_its_file(deep: Path, loaded: bool) -> None:
    with Image.open(deep) as image:
        if loaded:
            image.load()
        image.info["xmp"] = b"<x/>"  # metadata are the image's own
        assert has_all_bits(image)
        assert load_image(image).sections["xmpd"] == b"<x/>"
    assert has_all_bits(image)  # by its name


@pytest.mark.parametrize("loaded", [False, True])
def test_all_bits_are_read_from_its_stream(deep: Path, loaded: bool) -> None:
    stream = io.BytesIO(deep.read_bytes())
    image = Image.open(stream)
    if loaded:
        image.load()
    stream.seek(7)
    assert has_all_bits(image)
    assert stream.tell() == 7


def blacken(image: Image.Image) -> None:
    image.putpixel((1, 1), (0, 0, 0))


def shrink(image: Image.Image) -> None:
    image.thumbnail((3, 3))


@pytest.mark.parametrize("change", [blacken, shrink])
def test_a_changed_image_is_taken_as_it_is(deep: Path, change: Callable[[Image.Image], None]) -> None:
    with Image.open(deep) as image:
        change(image)
        expected = np.asarray(image)
        assert not has_all_bits(image)
        assert np.array_equal(load_image(image).pixels, (expected / 255).astype(np.float32))


def test_a_converted_image_is_taken_without_a_word(deep: Path) -> None:
    with Image.open(deep) as image:
        source = load_image(image.convert("L"))
    assert (source.bit_depth, source.warnings) == (8, [])


def test_another_file_in_its_place(deep: Path) -> None:
    image = Image.open(deep)
    image.load()
    deep.write_bytes(deep.read_bytes()[:100])
    assert not has_all_bits(image)


def test_a_tiff_that_is_gone(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", deep_pixels(), photometric="rgb")
    with Image.open(tmp_path / "a.tif") as image:
        image.load()
    (tmp_path / "a.tif").unlink()
    assert not has_all_bits(image)


def test_an_animation_at_a_frame() -> None:
    frames = [Image.new("L", (4, 3), value) for value in (10, 20, 30)]
    image = Image.open(io.BytesIO(png(frames[0], save_all=True, append_images=frames[1:])))
    source = load_image(image, name="a")
    assert source.warnings == ["a: only frame 1 of 3 is encoded"]
    image.seek(1)
    image.putpixel((0, 0), 99)
    source = load_image(image)
    assert kind(source) == "GREY"
    assert np.rint(source.pixels[0, :2, 0] * 255).tolist() == [99, 20]
    assert image.tell() == 1
    assert image.getpixel((0, 0)) == 99


def test_a_name_that_is_none(deep: Path) -> None:
    image = Image.new("RGB", (3, 2))
    image.filename = None  # type: ignore[attr-defined]
    assert load_image(image).width == 3


def test_a_loaded_picture_is_not_measured_again_unless_asked_for() -> None:
    wide = load_image(np.zeros((2, 70_000), np.uint8), dimension_limit=10**6)
    assert load_image(wide).width == 70_000
    with pytest.raises(InputError, match="above the limit of 100 pixels a side"):
        load_image(wide, dimension_limit=100)
