"""Arguments of ``igs.encode`` of the wrong kind are refused before a fit, by name; numbers of any kind are taken."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import igs
from igs.encoder import load_image
from igs.format.errors import InputError, UsageError

PIXELS = (np.arange(24 * 20 * 3) % 251).reshape(24, 20, 3).astype(np.uint8)
QUICK: dict[str, Any] = {"effort": 1, "steps": 3, "num_gaussians": 12, "threads": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bpp": "0.2"}, "bpp: expected a number"),
        ({"quality": "75"}, "quality: expected a number"),
        ({"psnr": [30]}, "psnr: expected a number"),
        ({"bpp": True}, "bpp: expected a number"),
        ({"steps": "3"}, "steps: expected a whole number"),
        ({"steps": 1.5}, "steps: expected a whole number"),
        ({"gamma": "a"}, "gamma: expected a number"),
        ({"seed": None}, "seed: expected a whole number"),
        ({"checkpoint_every": None}, "checkpoint_every: expected a whole number"),
        ({"roi": None}, "roi: expected x, y, w, h and perhaps"),
        ({"roi": [3]}, "roi: expected x, y, w, h and perhaps"),
        ({"preset": ["default"]}, "preset: expected one of"),
        ({"effort": "5"}, "effort: expected 1 to 9"),
        ({"overrides": [1]}, "overrides: expected fields"),
        ({"overrides": {"stps": 2}}, "recipe: expected a field of Recipe, found 'stps'"),
        ({"checkpoint": 3}, "checkpoint: expected a path"),
        ({"sections": {"json": b"nojson"}}, "sections: expected a JSON object in json"),
        ({"sections": {"exif": b"y"}}, "sections: expected a TIFF header of 8 bytes in exif"),
        ({"sections": {"toolong": b""}}, "section type: expected four ASCII letters"),
        ({"saliency": "eml-net", "saliency_weights": "w.safetensors"}, "saliency: expected init saliency or"),
    ],
)
def test_the_wrong_kind_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    rest = {"effort": 1, "threads": 1} if "bpp" in options or "psnr" in options or "quality" in options else QUICK
    with pytest.raises(UsageError, match=f"^{message}"):
        igs.encode(PIXELS, **(rest | options))


def test_names_of_maps_are_text() -> None:
    with pytest.raises(UsageError, match="expected names of maps, found 1"):
        igs.encode({1: PIXELS}, **QUICK)


def test_overrides_are_a_setting_like_any() -> None:
    plain = {k: v for k, v in QUICK.items() if k != "steps"}
    assert igs.encode(PIXELS, overrides={"steps": 2}, **plain).report["steps"] == 2
    assert igs.encode(PIXELS, overrides={"steps": 2}, **QUICK).report["steps"] == 3


def test_paths_may_be_text(tmp_path: Path) -> None:
    path = str(tmp_path / "fit.npz")
    first = igs.encode(PIXELS, checkpoint=path, checkpoint_every=2, **QUICK)
    assert igs.encode(PIXELS, resume=path, **QUICK).data == first.data
    with pytest.raises(InputError, match=r"nope\.npz"):
        igs.encode(PIXELS, resume="nope.npz", **QUICK)


def test_regions_may_be_an_array() -> None:
    report = igs.encode(PIXELS, roi=np.array([[0, 0, 5, 5]]), **QUICK).report
    assert report["roi_share"] == pytest.approx(25 / 480)


def test_numbers_of_numpys_are_numbers() -> None:
    options = {"effort": np.int64(1), "steps": np.int32(3), "num_gaussians": np.uint8(12), "gamma": np.float32(1)}
    assert igs.encode(PIXELS, threads=1, **options).data == igs.encode(PIXELS, **QUICK).data


def png() -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    return file  # at its end


@pytest.mark.parametrize("at", [0, 5, 10**6])
def test_a_file_is_read_from_its_beginning(at: int) -> None:
    file = png()
    file.seek(at)
    np.testing.assert_array_equal(load_image(file).pixels, load_image(PIXELS).pixels)


def test_files_that_cannot_be_read_are_refused() -> None:
    closed = png()
    closed.close()
    with pytest.raises(InputError, match="expected a file that can be read"):
        load_image(closed)
    with pytest.raises(UsageError, match="expected a binary file"):
        load_image(io.StringIO("text"))
    read, write = os.pipe()
    os.close(write)
    with open(read, "rb") as pipe, pytest.raises(InputError, match="expected a file that can be read and can seek"):
        load_image(pipe)


def test_arrays_of_another_byte_order_are_taken() -> None:
    wide = PIXELS.astype(np.uint16) * 257
    np.testing.assert_array_equal(load_image(wide.astype(">u2")).pixels, load_image(wide).pixels)
    halves = (PIXELS / 255).astype(">f4")
    np.testing.assert_array_equal(load_image(halves).pixels, load_image(halves.astype("<f4")).pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_values_far_beyond_one_are_refused_before_the_fit(channels: int) -> None:
    depth = np.linspace(1, 1000, 24 * 20 * channels, dtype=np.float32).reshape(24, 20, channels)
    with pytest.raises(UsageError, match="at most ±100, found 1 to 1000: ask for transfer log or pq"):
        igs.encode(depth, **QUICK)
    with pytest.raises(UsageError, match="at most ±100"):
        igs.encode(depth, transfer="linear", **QUICK)
    assert igs.encode(depth, transfer="log", **QUICK).data
    assert igs.encode(depth, coding="plain", **QUICK).data
    assert igs.encode(depth / 10, **QUICK).data


def test_what_the_package_has_can_be_listed() -> None:
    assert set(igs.__all__) <= set(dir(igs))
    assert "_LAZY" not in dir(igs)


def test_a_stream_is_of_several_files(tmp_path: Path) -> None:
    for one in ("a.igs", tmp_path / "a.igs", b"bytes"):
        with pytest.raises(UsageError, match="sources: expected several"):
            igs.decode_many(one)


def test_decoder_takes_numpys_numbers_too() -> None:
    data = igs.encode({"albedo": PIXELS, "ao": PIXELS[..., 0]}, **QUICK).data
    with igs.open(data, threads=np.int64(1)) as image:
        np.testing.assert_array_equal(image.decode(groups=np.array([1])), image.decode(groups=["ao"]))
        parts = image.decode_groups(region=np.array([1, 2, 3, 4]))
        assert parts["albedo"].shape == (4, 3, 3)
    for threads in (0, True, 1.5, "2"):
        with pytest.raises(UsageError, match="threads: expected 1 or more"):
            igs.open(data, threads=threads)
    with pytest.raises(UsageError, match=r"limits: expected igs\.Limits"):
        igs.open(data, limits=10)
