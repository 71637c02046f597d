"""Arguments of ``igs.encode`` of the wrong kind are refused before a fit, by name; numbers of any kind are taken."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the encoder needs torch")

import igs
from igs.encoder import EncodeOptions, TextureMap, levels, load_image
from igs.encoder.fitting.population import growth_plan
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
        ({"steps": "3", "preset": "image-gs"}, "steps: expected a whole number"),
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
        ({"saliency": "eml-net", "saliency_network": "w.safetensors"}, "saliency: expected init saliency or"),
        ({"saliency": "fine-grained"}, "saliency: expected init saliency or a saliency_weight beside fine-grained"),
        ({"sections": None}, "sections: expected bytes by section type, found None"),
        ({"sections": [b"x"]}, "sections: expected bytes by section type"),
        ({"sections": {5: b""}}, "section type: expected four ASCII letters, found 5"),
        ({"levels": True}, "levels: expected a whole number of 1 to 16, found True"),
        ({"downsample": True}, "downsample: expected a whole number of 1 to 16, found True"),
        ({"levels": "2"}, "levels: expected a whole number of 1 to 16, found '2'"),
        ({"num_gaussians": np.bool_(True)}, "num_gaussians: expected a whole number"),
        ({"steps": True}, "steps: expected a whole number"),
        ({"effort": True}, "effort: expected 1 to 9"),
        ({"saliency_weight": None}, "saliency_weight: expected a number"),
        ({"tune": ["psnr"]}, "tune: expected one of"),
        ({"codec": ["raw"]}, "codec: expected one of"),
        ({"blend": ["sum"]}, "blend: expected topk or sum"),
        ({"growth": "no"}, "growth: expected True or False, found 'no'"),
        ({"init_color": "false"}, "init_color: expected True or False"),
        ({"tiles": None}, "tiles: expected True or False"),
        ({"compensate": 1}, "compensate: expected True or False"),
        ({"linear_light": "no"}, "linear_light: expected True or False"),
        ({"strict_rate": "no"}, "strict_rate: expected True or False"),
        ({"fast_nondeterministic": "x"}, "fast_nondeterministic: expected True or False"),
        ({"on_warning": 5}, "on_warning: expected a function, found 5"),
        ({"on_step": "x"}, "on_step: expected a function"),
        ({"on_progress": []}, "on_progress: expected a function"),
        ({"roi": [(True, 0, 5, 5)]}, "roi: expected x, y, w, h and perhaps"),
        ({"roi": ["1234"]}, "roi: expected x, y, w, h and perhaps"),
        ({"render_every": 1}, "render_every: expected render_dir beside it"),
        ({"resample": "largest"}, "resample: expected several maps beside it, found one picture and 'largest'"),
        ({"growth_until": 0.5, "growth_interval": 3}, "growth_until: expected no growth_interval beside it"),
        ({"options": {"steps": 3}}, "options: expected EncodeOptions, found dict"),
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


def test_numbers_of_any_kind_become_pythons_own(tmp_path: Path) -> None:
    numpys = {
        **{"effort": np.int64(1), "steps": np.int16(3), "num_gaussians": np.uint8(200), "seed": np.int64(3)},
        **{"threads": np.int8(1), "levels": np.int64(2), "downsample": np.uint8(1), "growth": np.bool_(True)},
        **{"strict_rate": np.bool_(False), "checkpoint": tmp_path / "fit.npz", "checkpoint_every": np.int64(2)},
        **{"top_k": np.uint8(32), "growth_start": Fraction(1, 4)},
    }
    plain = {"effort": 1, "steps": 3, "num_gaussians": 200, "seed": 3, "threads": 1, "levels": 2, "growth_start": 0.25}
    found = igs.encode(PIXELS, **numpys)
    assert found.data == igs.encode(PIXELS, **plain).data
    assert json.loads(json.dumps(found.report))["effort"] == 1
    assert igs.encode(PIXELS, **plain, resume=tmp_path / "fit.npz").data == found.data


def test_rates_are_numbers_of_any_kind() -> None:
    rest = {"effort": 1, "steps": 3, "threads": 1}
    plain = igs.encode(PIXELS, bpp=4.0, **rest).data
    for bpp in (Fraction(4), np.float32(4), np.int64(4)):
        assert igs.encode(PIXELS, bpp=bpp, **rest).data == plain
    with pytest.raises(UsageError, match="bpp: expected 1e-06 to 64"):
        igs.encode(PIXELS, bpp=10**400, **rest)


def test_a_number_has_its_own_bounds_no_more() -> None:
    options = EncodeOptions(num_gaussians=np.int16(20000), levels=np.int8(3))  # type: ignore[arg-type]
    assert levels.ends_of(options.num_gaussians or 0, options.levels) == [6666, 13333, 20000]
    recipe = EncodeOptions(overrides={"steps": np.uint8(200)}).recipe()
    assert growth_plan(recipe, 200) == growth_plan(EncodeOptions(overrides={"steps": 200}).recipe(), 200)


def test_weights_and_depths_of_maps_are_numbers_of_any_kind() -> None:
    found = load_image({"ao": TextureMap(PIXELS[..., 0], weight=np.float32(2), bit_depth=np.int64(16))})  # type: ignore[arg-type]
    assert (found.weights, found.bit_depth, type(found.groups[0].bit_depth)) == ((2.0,), 16, int)
    for change in ({"weight": True}, {"weight": "2"}, {"bit_depth": 8.0}, {"transfer": ["srgb"]}):
        with pytest.raises(UsageError, match=r"^ao: expected a"):
            load_image({"ao": TextureMap(PIXELS[..., 0], **change)})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a\0b.png", "a" * 5000, "a\ud800.png"])
def test_names_that_no_file_has(name: str) -> None:
    for source in (name, Path(name), {"ao": name}):
        with pytest.raises(InputError, match=r"^'?a"):
            igs.encode(source, **QUICK)
    with pytest.raises(InputError, match="expected a file in an existing folder"):
        igs.encode(PIXELS, checkpoint=name, **QUICK)
    with pytest.raises(InputError, match="expected a folder for render_dir"):
        igs.encode(PIXELS, render_every=1, render_dir=name, **QUICK)
    with pytest.raises(InputError, match=r"^a"):
        igs.encode(PIXELS, resume=name, **QUICK)


def test_places_that_cannot_be_written_are_told_first(tmp_path: Path) -> None:
    def never(fit: object) -> None:
        pytest.fail("the fit began")

    with pytest.raises(InputError, match="expected a file in an existing folder for the checkpoint"):
        igs.encode(PIXELS, checkpoint=tmp_path, on_step=never, **QUICK)
    (tmp_path / "file").write_bytes(b"")
    for folder in ("file", "file/inside"):
        with pytest.raises(InputError, match="expected a folder for render_dir"):
            igs.encode(PIXELS, render_every=1, render_dir=tmp_path / folder, on_step=never, **QUICK)


def test_a_folder_that_goes_is_told_as_an_error_of_ours(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    with pytest.raises(InputError, match=r"step_000002\.png: No such file"):
        igs.encode(
            PIXELS,
            render_every=2,
            render_dir=folder,
            on_step=lambda fit: shutil.rmtree(folder) if fit.state.step == 1 else None,
            **QUICK,
        )


def test_a_preset_that_states_the_interval_of_growth_takes_another_end_of_it() -> None:
    plans = [
        growth_plan(EncodeOptions(preset="image-gs", overrides={"steps": 100, **more}).recipe(), 50)
        for more in ({}, {"growth_until": 0.9})
    ]
    assert [max(plan) for plan in plans] == [40, 90]


def test_pictures_that_are_loaded_take_groups_limits_and_a_name() -> None:
    loaded = load_image(PIXELS, name="first")
    assert load_image(loaded) is loaded
    groups = (dataclasses.replace(loaded.groups[0], name="albedo"),)
    again = load_image(loaded, groups=groups, name="second")
    assert (again.groups, again.name) == (groups, "second")
    for limit in ({"size_limit": 9}, {"dimension_limit": 9}, {"memory_limit": 9}):
        with pytest.raises(InputError, match="above the limit of 9"):
            load_image(loaded, **limit)
    with pytest.raises(UsageError, match="groups: expected none beside several maps"):
        load_image({"ao": PIXELS}, groups=groups)
    with pytest.raises(UsageError, match="resample: expected several maps"):
        load_image(loaded, resample="largest")
    with pytest.raises(UsageError, match="resample: expected several maps beside it, found a loaded picture, first"):
        igs.encode(loaded, resample="largest", **QUICK)
    with pytest.raises(UsageError, match="resample: expected largest, smallest or a size"):
        load_image({"ao": PIXELS}, resample=5)  # type: ignore[arg-type]


def test_a_matrix_is_an_array() -> None:
    grey = PIXELS[..., 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # NumPy would rather have none of them
        matrix = np.matrix(grey)
    np.testing.assert_array_equal(load_image(matrix).pixels, load_image(grey).pixels)


def test_values_beyond_float32_are_told_once() -> None:
    with pytest.raises(InputError, match="expected finite values, found NaN or infinity in 64 of 64"):
        load_image(np.full((8, 8), 1e300))


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


def test_warnings_are_pythons_where_nobody_asks_for_them() -> None:
    """At the line that called igs."""
    flat = np.zeros((16, 16, 3), np.uint8)
    with pytest.warns(igs.IgsWarning, match="smallest file of this picture") as caught:
        igs.encode(flat, bpp=0.01, steps=1)
    assert caught[0].filename == __file__
    told: list[str] = []
    igs.encode(flat, bpp=0.01, steps=1, on_warning=told.append)
    assert told == [str(caught[0].message)]
