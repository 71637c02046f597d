"""Pillow reads and writes .igs files once igs.pillow is imported."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from files import payload_ranges
from image_cases import HEIGHT, WIDTH, large_file, make_codes, make_file, make_header
from PIL import Image, ImageFile

import igs
import igs.pillow
from igs import format
from igs.format import Alpha, Colour, Group, Transfer
from igs.format.errors import Unsupported
from igs.format.sections import phys_section


def opened(data):
    return Image.open(io.BytesIO(data))


MODES = {
    "L": (Group(channels=1, colour=Colour.GREY), "uint8"),
    "LA": (Group(channels=2, alpha=Alpha.PREMULTIPLIED), "uint8"),
    "RGB": (Group(channels=3, colour=Colour.RGB, bit_depth=16), "uint8"),
    "RGBA": (Group(channels=4, alpha=Alpha.STRAIGHT, bit_depth=32), "uint8"),
    "CMYK": (Group(channels=4, colour=Colour.CMYK), "uint8"),
    "I;16": (Group(channels=1, bit_depth=16), "uint16"),
    "F": (Group(channels=1, bit_depth=32, transfer=Transfer.LINEAR), "float32"),
}


@pytest.mark.parametrize("mode", MODES)
def test_pixels_are_what_igs_decodes(mode):
    group, dtype = MODES[mode]
    data = make_file(make_header(group.channels, groups=(group,)))
    image = opened(data)
    assert (image.mode, image.size, image.format) == (mode, (WIDTH, HEIGHT), "IGS")
    assert image.get_format_mimetype() == "image/x-igs"
    with igs.open(data) as picture:
        expected = picture.decode(dtype=dtype)
        assert image.info == {"num_gaussians": picture.num_gaussians}
    found = np.asarray(image)
    assert np.array_equal(found.reshape(expected.shape), expected)


def test_light_above_white_is_shown_as_srgb():
    header = make_header(groups=(Group(channels=3, colour=Colour.RGB, transfer=Transfer.PQ, bit_depth=32),))
    data = make_file(header)
    with igs.open(data) as picture:
        light = np.clip(picture.decode(dtype="float32").astype(np.float64), 0, 1)
    assert light.min() < 0.5 < light.max()
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)
    assert np.abs(np.asarray(opened(data)) - 255 * shown).max() < 0.51


def test_stacks_are_left_to_igs_open():
    groups = (Group(channels=3, name="albedo", colour=Colour.RGB), Group(channels=1, name="height"))
    with pytest.raises(OSError, match=r"found 4 channels in groups albedo, height; igs\.open reads them") as caught:
        opened(make_file(make_header(4, groups=groups)))
    assert isinstance(caught.value.__cause__, Unsupported)


def test_opening_decodes_nothing():
    header, data = large_file()
    image = opened(data)
    assert image._picture.bytes_read < len(data) / 10
    assert image.size == (header.width, header.height)
    image.close()


def damaged(data):
    start, _ = payload_ranges(data)[-1]
    return data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :]


def test_what_is_wrong_with_a_file_is_an_os_error():
    data = make_file(make_header())
    with pytest.raises(OSError, match="E_HEAD_CRC") as caught:
        opened(data[:30] + bytes([data[30] ^ 1]) + data[31:])
    assert isinstance(caught.value.__cause__, igs.InvalidFile)
    image = opened(damaged(data))
    with pytest.raises(OSError, match="E_CHUNK_CRC"):
        image.load()
    with pytest.raises(OSError, match="E_CHUNK_CRC"):
        opened(damaged(data)).verify()
    opened(data).verify()


def test_a_truncated_file_is_read_as_far_as_it_goes_where_pillow_is_told_so(monkeypatch):
    header = make_header()
    data = format.write(header, [make_codes(header, 50), make_codes(header, 50, seed=1)])
    cut = data[: payload_ranges(data)[-1][0] + 1]
    with pytest.raises(OSError, match="E_TRUNCATED"):
        opened(cut)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with igs.open(data) as picture:
        assert np.array_equal(np.asarray(opened(cut)), picture.decode(level=0))


def test_a_thumbnail_is_decoded_at_the_size_that_it_needs(monkeypatch):
    header, data = large_file()
    scales, decode = [], igs.pillow._pixels

    def noted(picture, scale, dtype):
        scales.append(scale)
        return decode(picture, scale, dtype)

    monkeypatch.setattr(igs.pillow, "_pixels", noted)
    image, whole = opened(data), opened(data)
    image.thumbnail((120, 120))
    whole.load()
    whole.thumbnail((120, 120))
    assert image.size == whole.size == (120, 90)
    assert scales == [240 / header.height, 1.0]  # twice as large as asked for, in both directions
    assert np.abs(np.asarray(image, int) - np.asarray(whole, int)).max() <= 3


def test_draft_says_what_the_picture_covers():
    image = opened(make_file(make_header()))
    assert image.draft(None, (2 * WIDTH, HEIGHT)) is None  # nothing is enlarged
    assert image.draft("L", (20, 1)) == ("RGB", (0, 0, 20, 15))
    assert image.size == (20, 15)
    assert image.draft(None, (10, 10)) is None  # once
    with igs.open(make_file(make_header())) as picture:
        assert np.array_equal(np.asarray(image), picture.decode(scale=20 / WIDTH))
    assert image.draft(None, (10, 10)) is None  # not when it is loaded
    odd = opened(make_file(make_header()))
    assert odd.draft(None, (1, 31)) == ("RGB", (0, 0, 41, 31))  # 41⅓ of 64, in 41 columns
    assert odd.size == odd.resize((41, 31)).size == (41, 31)


def test_bytes_may_come_one_after_the_other():
    data = make_file(make_header())
    parser = ImageFile.Parser()
    for start in range(0, len(data), 100):
        parser.feed(data[start : start + 100])
    assert np.array_equal(np.asarray(parser.close()), np.asarray(opened(data)))


def test_threads_may_load_the_same_image_and_others_get_a_copy():
    _, data = large_file()
    image = opened(data)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: np.asarray(image), range(8)))
    assert all(np.array_equal(pixels, found[0]) for pixels in found)
    assert pickle.loads(pickle.dumps(opened(data))) == copy.deepcopy(opened(data)) == image


def test_files_are_closed_by_who_opened_them(tmp_path):
    path = tmp_path / "in.igs"
    path.write_bytes(make_file(make_header()))
    image = Image.open(path)
    file = image.fp
    image.load()
    assert file.closed
    assert np.array_equal(np.asarray(image), np.asarray(Image.open(path)))  # and pixels stay
    with path.open("rb") as own:
        Image.open(own).load()
        assert not own.closed
    with Image.open(path) as image:
        file = image.fp
    assert file.closed


QUICK = {"num_gaussians": 12, "steps": 5, "threads": 1}


def ramp(size=(40, 32)):
    y, x = np.mgrid[: size[1], : size[0]]
    return Image.fromarray(np.stack([x * 6, y * 7, x + y], axis=2).astype(np.uint8))


def test_save_encodes_as_igs_encode_does(tmp_path):
    pytest.importorskip("torch")
    ramp().save(tmp_path / "out.igs", **QUICK)
    assert (tmp_path / "out.igs").read_bytes() == igs.encode(ramp(), **QUICK).data
    memory = io.BytesIO()
    ramp().convert("LA").save(memory, "IGS", **QUICK)
    assert opened(memory.getvalue()).mode == "LA"


def test_save_refuses_what_encode_refuses_and_leaves_no_file(tmp_path):
    pytest.importorskip("torch")
    with pytest.raises(igs.UsageError, match="bbp"):
        ramp().save(tmp_path / "out.igs", bbp=0.2)
    assert not os.listdir(tmp_path)


def saved(image, **settings):
    memory = io.BytesIO()
    image.save(memory, "IGS", **QUICK, **settings)
    return memory.getvalue()


def test_metadata_goes_both_ways():
    pytest.importorskip("torch")
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    packet = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    data = saved(ramp(), icc_profile=profile, exif=exif, xmp=packet, dpi=(300, 150))
    image = opened(data)
    assert image.info["icc_profile"] == profile
    assert image.info["xmp"] == packet
    assert np.allclose(image.info["dpi"], (300, 150), atol=0.02)
    assert image.getexif()[0x010F] == "a maker"
    again = opened(saved(image))  # its own, as of any image
    assert {key: again.info[key] for key in image.info if key != "num_gaussians"} == {
        key: image.info[key] for key in image.info if key != "num_gaussians"
    }
    bare = opened(saved(image, icc_profile=None, exif=None, xmp=None, dpi=None))
    assert set(bare.info) == {"num_gaussians"}
    assert set(image.info) == {"num_gaussians", "icc_profile", "exif", "xmp", "dpi"}  # the image itself keeps it


def test_exif_that_turns_the_picture_turns_it():
    pytest.importorskip("torch")
    exif = Image.Exif()
    exif[0x0112] = 6
    image = opened(saved(ramp(), exif=exif))
    assert image.size == (32, 40)
    assert image.getexif().get(0x0112, 1) == 1


def test_damaged_metadata_is_left_out():
    data = with_sections(make_file(make_header()), {"xmpd": b"\xff", **phys_section(3000, 3000)})
    image = opened(data)
    assert "xmp" not in image.info
    assert np.allclose(image.info["dpi"], 76.2)
    image.load()


def with_sections(data, sections):
    return format.read(io.BytesIO(data)).with_sections(sections).to_bytes()


def test_other_formats_are_as_before_and_nothing_heavy_is_loaded():
    memory = io.BytesIO()
    ramp().save(memory, "PNG")
    assert opened(memory.getvalue()).format == "PNG"
    code = "import sys, igs.pillow; print({'torch', 'numba'} & set(sys.modules), 'igs.encoder' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set()", "False"]
