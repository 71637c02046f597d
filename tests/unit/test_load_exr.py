"""EXR in (encoder/loading/exr.py) and out (cli/output_exr.py): channels, alpha, windows, damage, what is refused."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import pytest

from igs.cli.output import FORMATS, write_image
from igs.encoder.loading.image import load_image
from igs.format import Alpha, Colour, Transfer
from igs.format.errors import InputError, Unsupported
from igs.format.sections import phys_section

OpenEXR = pytest.importorskip("OpenEXR")


def plane(height: int = 5, width: int = 7, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return (np.random.default_rng(seed).random((height, width)) * 9).astype(dtype)


def exr(channels: dict[str, np.ndarray], **header: Any) -> bytes:
    buffer = io.BytesIO()
    about = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage} | header
    OpenEXR.File(about, dict(channels)).write(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("names", "colour", "transfer"),
    [
        ("Y", Colour.GREY, Transfer.PQ),
        ("RGB", Colour.RGB, Transfer.PQ),
        ("XZ", Colour.UNSPECIFIED, Transfer.LINEAR),  # positions, depths: no light
    ],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_channels_by_name(names: str, colour: Colour, transfer: Transfer, dtype: Any) -> None:
    planes = {name: plane(seed=ord(name), dtype=dtype) for name in names}
    source = load_image(exr(planes))
    (group,) = source.groups
    assert (group.colour, group.transfer, group.alpha, group.bit_depth) == (colour, transfer, Alpha.NONE, 32)
    assert np.array_equal(source.pixels, np.stack([planes[name] for name in names], axis=-1).astype(np.float32))


@pytest.mark.parametrize("value", [-0.001, 49.5])
def test_light_that_pq_cannot_hold_takes_the_log_curve(value: float) -> None:
    light = np.array([[1, value]], np.float32)
    assert load_image(exr({"Y": light})).groups[0].transfer == Transfer.LOG
    assert load_image(exr({"Y": np.abs(light.clip(-1, 49)), "A": light * 0 + 1})).groups[0].transfer == Transfer.PQ


def test_alpha_is_divided_out() -> None:
    alpha = np.array([[0, 0.25, 1]], np.float32)
    source = load_image(exr({"Y": np.array([[2, 0.5, 7]], np.float32), "A": alpha}))
    assert source.groups[0].alpha == Alpha.PREMULTIPLIED
    assert source.pixels.tolist() == [[[0, 0], [2, 0.25], [7, 1]]]


def test_other_channels_and_parts_are_told(tmp_path: Any) -> None:
    source = load_image(exr({"Y": plane(), "id": (plane() * 9).astype(np.uint32)}), name="a.exr")
    assert source.channels == 1
    assert source.warnings == ["a.exr: only Y are encoded, not id"]
    path = tmp_path / "two.exr"
    OpenEXR.File([OpenEXR.Part({"name": n}, {"Z": plane(seed=s)}) for s, n in enumerate("lr")]).write(str(path))
    source = load_image(path)
    assert np.array_equal(source.pixels[..., 0], plane(seed=0))
    assert "only the first of 2 parts" in source.warnings[0]


def test_resolution_is_kept() -> None:
    x, y = 300 / 0.0254, 150 / 0.0254
    buffer = io.BytesIO()
    write_image(buffer, plane()[..., None], FORMATS["exr"], "L", phys_section(x, y))
    assert load_image(buffer.getvalue()).sections == phys_section(x, y)


@pytest.mark.parametrize(
    ("planes", "error", "expected"),
    [
        ({"Y": plane(), "RY": plane(), "BY": plane()}, Unsupported, "luminance and chroma"),
        ({"id": (plane() * 9).astype(np.uint32)}, InputError, "expected float samples in channel id, found uint32"),
        ({f"c{n:02}": plane(2, 2) for n in range(65)}, InputError, "1 to 64 channels, found 65"),
        ({"Y": np.full((2, 3), np.nan, np.float32)}, InputError, "first (nan) in column 0, row 0, channel 0"),
        ({"Y": np.array([[1, 2], [3, np.inf]], np.float16)}, InputError, "1 of 4, the first (inf) in column 1, row 1"),
    ],
)
def test_what_is_refused(planes: dict[str, np.ndarray], error: type[Exception], expected: str) -> None:
    with pytest.raises(error) as raised:
        load_image(exr(planes), name="a.exr")
    assert expected in str(raised.value)
    assert str(raised.value).startswith("a.exr: ")


def test_size_is_checked_before_pixels_are_read() -> None:
    with pytest.raises(InputError, match="--size-limit"):
        load_image(exr({"Y": plane(50, 50)}), size_limit=1000)


def test_damage_is_an_input_error_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    data = exr({"R": plane(30, 20), "G": plane(30, 20), "B": plane(30, 20)})
    rng = np.random.default_rng(0)
    failures = 0
    for number in range(60):
        broken = bytearray(data)
        if number % 2:
            del broken[int(rng.integers(4, len(data))) :]
        else:
            broken[int(rng.integers(8, len(data)))] = int(rng.integers(256))
        try:
            load_image(bytes(broken), size_limit=10**6)
        except (InputError, Unsupported):
            failures += 1
    assert failures > 20
    assert capfd.readouterr() == ("", "")
    os.write(2, b"still there")  # stderr is put back
    assert capfd.readouterr().err == "still there"
