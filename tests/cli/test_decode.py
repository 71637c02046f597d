"""igs-decode: what is decoded, at which scale, into which format; the pixel values are compared with igs.open's."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import igs
from igs.encoder.loading.image import load_image
from igs.format import Colour, Group, Transfer, open_file
from igs.format.sections import phys_section

Make = Callable[..., bytes]


@pytest.fixture
def igs_file(tmp_path: Path, igs_bytes: Make) -> Path:
    path = tmp_path / "in.igs"
    path.write_bytes(igs_bytes())
    return path


def test_file_and_pipe_agree(cli: Any, igs_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    result = cli("igs-decode", igs_file, out)
    assert (result.code, result.out, result.err) == (0, b"", "")
    with igs.open(igs_file) as image, Image.open(out) as written:
        assert written.mode == "RGB"
        assert np.array_equal(np.asarray(written), image.decode())
    data = out.read_bytes()
    assert cli("igs-decode", igs_file, "-").out == data
    assert cli("igs-decode", "-", "-", stdin=igs_file.read_bytes()).out == data
    assert cli("igs-decode", "-", "-o", tmp_path / "b.png", stdin=igs_file.read_bytes()).code == 0
    assert (tmp_path / "b.png").read_bytes() == data


@pytest.mark.parametrize(
    ("args", "shape", "expected"),
    [
        ("--scale 2", (60, 80), lambda im: im.decode(2)),
        ("--scale 0.5", (15, 20), lambda im: im.decode(0.5)),
        ("--width 20", (15, 20), lambda im: im.decode(0.5)),
        ("--height 90", (90, 120), lambda im: im.decode(3)),
        ("--width 33", (25, 33), lambda im: im.decode(33 / 40)),
        ("--region 4,6,10,12", (12, 10), lambda im: im.region(4, 6, 10, 12)),
        ("--region 0.5,1.25,3,2 --scale 4", (8, 12), lambda im: im.region(0.5, 1.25, 3, 2, 4)),
        ("--region 4,6,10,12 --width 30", (36, 30), lambda im: im.region(4, 6, 10, 12, 3)),
        ("--raw --threads 1 --device cpu --level 0", (30, 40), lambda im: im.decode(raw=True, level=0)),
    ],
)
def test_parts_and_scales(
    cli: Any, igs_file: Path, tmp_path: Path, args: str, shape: tuple[int, int], expected: Any
) -> None:
    out = tmp_path / "out.npy"
    result = cli("igs-decode", igs_file, out, *args.split())
    assert result.code == 0, result.err
    found = np.load(out)
    assert found.shape == (*shape, 3)
    with igs.open(igs_file) as image:
        assert np.array_equal(found, expected(image))


def test_pixel(cli: Any, igs_file: Path) -> None:
    with igs.open(igs_file) as image:
        value = image.pixel(7, 3)
    found = cli("igs-decode", igs_file, "--pixel", "7,3")
    assert np.allclose([float(word) for word in found.text.split()], value, atol=1e-6)
    found = cli("igs-decode", "-", "--pixel", "7,3", "--json", stdin=igs_file.read_bytes()).json
    assert list(found) == ["x", "y", "value", "bytes_read", "device", "backend"]
    assert (found["device"], found["backend"]) == ("cpu", "numba-cpu")
    assert found["value"] == [float(v) for v in value]
    assert 0 < found["bytes_read"] <= igs_file.stat().st_size
    raw = cli("igs-decode", igs_file, "--pixel", "7,3", "--raw", "--level", 0)
    assert np.allclose([float(word) for word in raw.text.split()], value, atol=1e-6)


def test_json_report(cli: Any, igs_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("tifffile")
    found = cli("igs-decode", igs_file, tmp_path / "o.tif", "--json", "--bit-depth", 16, "--scale", 2).json
    seconds = found.pop("seconds")
    assert seconds > 0
    assert found == {
        "input": str(igs_file), "output": str(tmp_path / "o.tif"), "format": "tiff", "width": 80, "height": 60,
        "channels": 3, "bit_depth": 16, "partial": False, "bytes_read": igs_file.stat().st_size,
        "device": "cpu", "backend": "numba-cpu",
    }  # fmt: skip
    piped = cli("igs-decode", igs_file, "-", "--json")
    assert piped.out.startswith(b"\x89PNG")
    assert json.loads(piped.err)["output"] == "-"


def test_pixel_of_a_normal_map_renormalized(cli: Any, tmp_path: Path, igs_bytes: Make, groups_of: dict) -> None:
    path = tmp_path / "stack.igs"
    path.write_bytes(igs_bytes(groups=groups_of["stack"]))
    with igs.open(path) as image:
        expected = image.region(7, 3, 1, 1, dtype="float32", renormalize=True)[0, 0]
        assert np.abs(image.pixel(7, 3) - expected).max() > 0.01
    found = cli("igs-decode", path, "--pixel", "7,3", "--renormalize", "--json").json["value"]
    assert found == pytest.approx(expected, abs=1e-6)
    normal = cli("igs-decode", path, "--pixel", "7,3", "--renormalize", "--group", "normal", "--json").json["value"]
    assert normal == pytest.approx(expected[3:], abs=1e-6)
    assert np.linalg.norm(2 * np.array(normal) - 1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("args", "code", "expected"),
    [
        (["in.igs"], 1, "expected IN OUT"),
        (["in.igs", "a.png", "b.png"], 1, "expected IN OUT, found in.igs, a.png, b.png\n"),
        (["in.igs", "a.xyz"], 1, ".png"),
        (["in.igs", "a"], 1, "--format"),
        (["in.igs", "a.png", "--scale", "2", "--width", "5"], 1, "--scale and --width"),
        (["in.igs", "a.png", "--scale", "0"], 1, "above 0"),
        (["in.igs", "a.png", "--scale", "nan"], 1, "finite"),
        (["in.igs", "a.png", "--width", "0"], 1, "1 to"),
        (["in.igs", "a.png", "--region", "1,2,3"], 1, "X,Y,W,H"),
        (["in.igs", "a.png", "--region", "30,20,20,20"], 1, "region"),
        (["in.igs", "a.png", "--region", "0,0,0,5"], 1, "region"),
        (["in.igs", "a.png", "--region", "0,0,nan,5"], 1, "X,Y,W,H"),
        (["in.igs", "a.png", "--level", "1"], 1, "level"),
        (["in.igs", "--pixel", "40,0"], 1, "40×30"),
        (["in.igs", "--pixel", "-1,0"], 1, "outside"),
        (["in.igs", "--pixel", "1.5,0"], 1, "X,Y"),
        (["in.igs", "a.png", "--pixel", "1,1"], 1, "no OUT"),
        (["in.igs", "--pixel", "1,1", "--scale", "2"], 1, "--pixel and --scale"),
        (["in.igs", "--pixel", "1,1", "--renormalize"], 1, "normal map"),
        (["in.igs", "a.png", "--scale", "60000"], 1, "--memory-limit"),
        (["in.igs", "in.igs", "--format", "png"], 1, "same file"),
        (["none.igs", "a.png"], 2, "No such file"),
        (["in.igs", "none/a.png"], 2, "No such file"),
        (["in.igs", "there.png", "--no-overwrite"], 2, "exists already"),
        (["cut.igs", "a.png"], 3, "E_TRUNCATED"),
        (["text.igs", "a.png"], 3, "E_SIGNATURE"),
        (["in.igs", "a.png", "--size-limit", "1k"], 3, "pixels"),
        (["in.igs", "a.png", "--dimension-limit", "39"], 3, "side"),
        (["in.igs", "a.pgm"], 5, "pgm can't hold RGB; png, tiff, exr, npy, ppm, pnm, jpeg, webp and avif can"),
        (["in.igs", "a.jpg", "--bit-depth", "16"], 5, "png, tiff, npy, ppm, pgm and pnm can"),
        (["in.igs", "a.png", "--bit-depth", "32"], 5, "tiff, exr and npy can"),
        (["in.igs", "a.webp", "--scale", "500"], 5, "at most 16383"),
    ],
)  # fmt: skip
def test_errors(
    cli: Any, igs_file: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], code: int, expected: str
) -> None:
    monkeypatch.chdir(igs_file.parent)
    Path("there.png").write_bytes(b"mine")
    Path("cut.igs").write_bytes(igs_file.read_bytes()[:-5])
    Path("text.igs").write_text("hello, I am no picture at all, but long enough to be read as a header of 76 bytes.")
    before = sorted(p.name for p in Path().iterdir())
    result = cli("igs-decode", *args)
    assert result.code == code, result.err
    assert expected in result.err
    assert result.err.count("\n") == 1
    assert sorted(p.name for p in Path().iterdir()) == before
    assert Path("there.png").read_bytes() == b"mine"


@pytest.mark.gpu
def test_cuda(cli: Any, igs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from igs.decoder import cuda

    out = tmp_path / "out.npy"
    args = ("igs-decode", igs_file, out, "--device", "cuda", "--region", "3,4,8,6", "--json", "-v")
    result = cli(*args)
    if cuda.available():
        assert result.json["device"] == "cuda"
        assert f"on CUDA, {cuda.name()}" in result.err
        with igs.open(igs_file) as image:
            assert np.abs(np.load(out).astype(int) - image.region(3, 4, 8, 6).astype(int)).max() <= 1
            found = cli("igs-decode", igs_file, "--device", "cuda", "--pixel", "7,3", "--json").json
            assert np.allclose(found["value"], image.pixel(7, 3), atol=1e-5)
        out.unlink()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = cli(*args)
    assert result.code == 5
    assert "--device cuda: expected the package numba-cuda, found none: pip install 'igs-codec[cuda]'" in result.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("layout", "suffixes"),
    [
        ("L", "png ppm:5 pgm pnm tif exr npy jpg webp avif"),
        ("LA", "png ppm:5 pgm:5 pnm:5 tif exr npy jpg:5 webp avif"),
        ("RGB", "png ppm pgm:5 pnm tif exr npy jpg webp avif"),
        ("RGBA", "png ppm:5 pgm:5 pnm:5 tif exr npy jpg:5 webp avif"),
        ("CMYK", "png:5 ppm:5 pgm:5 pnm:5 tif exr:5 npy jpg webp:5 avif:5"),
        ("two", "png:5 ppm:5 pgm:5 pnm:5 tif exr npy jpg:5 webp:5 avif:5"),
        ("stack", "png:5 ppm:5 pgm:5 pnm:5 tif exr npy jpg:5 webp:5 avif:5"),
    ],
)
def test_formats_hold_what_they_can(
    cli: Any, tmp_path: Path, igs_bytes: Make, groups_of: dict[str, tuple[Group, ...]], layout: str, suffixes: str
) -> None:
    pytest.importorskip("tifffile")
    pytest.importorskip("OpenEXR")
    data = igs_bytes(groups=groups_of[layout])
    with igs.open(data) as image:
        expected = image.decode()
    for entry in suffixes.split():
        suffix, _, refused = entry.partition(":")
        out = tmp_path / f"out.{suffix}"
        result = cli("igs-decode", "-", out, stdin=data)
        assert result.code == int(refused or 0), (suffix, result.err)
        assert out.exists() == (not refused)
        if refused:
            assert "npy" in result.err.partition(";")[2], result.err
            continue
        found = load_image(out)
        assert (found.width, found.height) == (40, 30)
        if suffix not in ("jpg", "webp", "avif", "exr"):  # lossy, or linear light
            assert np.array_equal(np.rint(found.pixels * 255).astype(np.uint8), expected), suffix


def test_bit_depth_follows_the_source(cli: Any, tmp_path: Path, igs_bytes: Make) -> None:
    import dataclasses

    pytest.importorskip("imagecodecs")
    for depth, expected in [(8, "8 8 8 8"), (16, "16 8 16 16"), (32, "16 8 32 32")]:
        group = Group(channels=3, bit_depth=depth)
        data = igs_bytes(groups=(dataclasses.replace(group),))
        for suffix, bits in zip(["png", "jpg", "tif", "npy"], expected.split(), strict=True):
            out = tmp_path / f"o.{suffix}"
            assert cli("igs-decode", "-", out, "--json", stdin=data).json["bit_depth"] == int(bits)
            assert load_image(out).bit_depth == int(bits)


def test_16_bit_png_is_exact(cli: Any, tmp_path: Path, igs_file: Path) -> None:
    pytest.importorskip("imagecodecs")
    assert cli("igs-decode", igs_file, tmp_path / "o.png", "--bit-depth", 16).code == 0
    with igs.open(igs_file) as image:
        expected = image.decode(dtype="uint16")
    found = np.rint(load_image(tmp_path / "o.png").pixels * 65535).astype(np.uint16)
    assert np.array_equal(found, expected)


def test_exr_is_linear_light(cli: Any, tmp_path: Path, igs_bytes: Make, groups_of: dict[str, Any]) -> None:
    pytest.importorskip("OpenEXR")
    out = tmp_path / "out.exr"
    data = igs_bytes(groups=groups_of["stack"])
    assert cli("igs-decode", "-", out, stdin=data).code == 0
    values, found = igs.open(data).decode(dtype="float32"), load_image(out).pixels
    assert np.allclose(found[..., :3], ((values[..., :3] + 0.055) / 1.055) ** 2.4, atol=1e-6)  # all above 0.04045
    assert np.array_equal(found[..., 3:], values[..., 3:])  # a normal map holds no light


def test_light_above_white_is_clipped_for_a_display_and_told(cli: Any, tmp_path: Path, igs_bytes: Make) -> None:
    pytest.importorskip("imagecodecs")  # reads PNG of 16 bits
    light = Group(channels=3, colour=Colour.RGB, transfer=Transfer.LOG, bit_depth=32)
    data = igs_bytes(groups=(light,))
    values = igs.open(data).decode(dtype="float32")
    assert values.min() < 0.5 < 2 < values.max()
    result = cli("igs-decode", "-", tmp_path / "out.png", stdin=data)
    assert "of the light is brighter than white" in result.err
    found = np.asarray(load_image(tmp_path / "out.png").pixels)
    shown = np.where(values >= 1, 1, 1.055 * np.clip(values, 0.01, 1) ** (1 / 2.4) - 0.055)
    assert np.abs(found - shown)[values > 0.01].max() < 2e-5
    assert cli("igs-decode", "-", tmp_path / "out.npy", stdin=data).err == ""
    assert np.array_equal(np.load(tmp_path / "out.npy"), values)


def test_metadata_is_written_back(cli: Any, tmp_path: Path, igs_bytes: Make) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    sections = {"iccp": profile, "exif": exif.tobytes()[6:], "xmpd": b"<x:xmpmeta/>"}
    data = igs_bytes(sections=sections)
    for suffix in ("png", "jpg", "webp", "tif"):
        out = tmp_path / f"o.{suffix}"
        assert cli("igs-decode", "-", out, stdin=data).err == ""
        assert load_image(out).sections == sections, suffix
    assert cli("igs-decode", "-", tmp_path / "n.png", "--no-metadata", stdin=data).code == 0
    assert load_image(tmp_path / "n.png").sections == {}
    result = cli("igs-decode", "-", tmp_path / "o.ppm", stdin=data)
    assert (result.code, result.err) == (0, "warning: ppm has no place for the ICC profile\n")
    assert cli("igs-decode", "-", f"{tmp_path}/maps/", stdin=data).err == ""
    (found,) = (tmp_path / "maps").iterdir()
    assert load_image(found).sections == sections
    assert cli("igs-decode", "-", f"{tmp_path}/bare/", "--no-metadata", stdin=data).code == 0
    (found,) = (tmp_path / "bare").iterdir()
    assert load_image(found).sections == {}


@pytest.mark.parametrize(("suffix", "depth"), [("png", 8), ("png", 16), ("jpg", 8), ("tif", 8), ("tif", 16)])
def test_resolution_is_written_back(cli: Any, tmp_path: Path, igs_bytes: Make, suffix: str, depth: int) -> None:
    pytest.importorskip("tifffile")
    sections = phys_section(300 / 0.0254, 150 / 0.0254)
    out = tmp_path / f"o.{suffix}"
    assert cli("igs-decode", "-", out, "--bit-depth", depth, stdin=igs_bytes(sections=sections)).err == ""
    assert load_image(out).sections == sections
    with Image.open(out) as image:
        assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)


@pytest.mark.parametrize("suffix", ["webp", "avif"])
def test_resolution_goes_into_exif_where_a_format_has_no_field(
    cli: Any, tmp_path: Path, igs_bytes: Make, suffix: str
) -> None:
    out = tmp_path / f"o.{suffix}"
    sections = phys_section(300 / 0.0254, 150 / 0.0254)
    assert cli("igs-decode", "-", out, stdin=igs_bytes(sections=sections)).err == ""
    with Image.open(out) as image:
        exif = image.getexif()
        assert (exif[282], exif[283], exif[296]) == (300, 150, 2)


@pytest.mark.parametrize("suffix", ["webp", "avif"])
def test_resolution_and_exif_go_together(cli: Any, tmp_path: Path, igs_bytes: Make, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[282], exif[283], exif[296] = "a maker", 300, 300, 2
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    block = exif.tobytes()[6:]
    source, edited, out = (tmp_path / name for name in ("a.igs", "b.igs", f"o.{suffix}"))
    source.write_bytes(igs_bytes(sections={"exif": block} | phys_section(300 / 0.0254, 300 / 0.0254)))
    assert cli("igs-decode", source, out).err == ""
    assert load_image(out).sections["exif"] == block  # which says so already
    assert cli("igs-edit", source, edited, "--set-dpi", "72").code == 0
    assert cli("igs-decode", edited, out).err == ""
    with Image.open(out) as image:
        found = image.getexif()
        assert (found[282], found[283], found[296], found[0x010F]) == (72, 72, 2, "a maker")
        assert found.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"


@pytest.mark.parametrize("depth", [8, 16, 32])
def test_tiff_keeps_what_describes(cli: Any, tmp_path: Path, igs_bytes: Make, depth: int) -> None:
    pytest.importorskip("tifffile")
    exif = Image.Exif()
    exif[0x010F], exif[0x0131] = "a maker", "a program"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    sections = {"exif": exif.tobytes()[6:], "xmpd": b"<x:xmpmeta/>"} | phys_section(300 / 0.0254, 150 / 0.0254)
    out = tmp_path / "o.tif"
    result = cli("igs-decode", "-", out, "--bit-depth", depth, "-v", stdin=igs_bytes(sections=sections))
    assert (result.code, "EXIF" in result.err) == (0, False)
    loaded = load_image(out)
    assert (loaded.bit_depth, loaded.warnings) == (depth, [])
    assert {key: loaded.sections[key] for key in ("xmpd", "phys")} == {k: sections[k] for k in ("xmpd", "phys")}
    found = Image.Exif()
    found.load(loaded.sections["exif"])
    assert (found[0x010F], found[0x0131]) == ("a maker", "a program")
    assert found.get_ifd(0x8769) == {0x9003: "2020:01:01 00:00:00"}
    assert found.get_ifd(0x8825) == {1: "N"}


def test_partial_files(cli: Any, tmp_path: Path, igs_bytes: Make) -> None:
    data = igs_bytes(levels=2)
    with open_file(data) as reader:
        end = reader.levels[0].end
    whole_level, cut = data[:end], data[: end + 3]
    result = cli("igs-decode", "-", "-", stdin=whole_level)
    assert (result.code, "partial" in result.err) == (0, True)
    assert cli("igs-decode", "-", "-", stdin=cut).code == 3
    allowed = cli("igs-decode", "-", "-", "--allow-partial", stdin=cut)
    assert (allowed.code, allowed.out) == (0, result.out)
    assert cli("igs-decode", "-", "-", "--level", 0, stdin=data).out == result.out


def test_terminals_get_no_image(cli: Any, igs_file: Path) -> None:
    result = cli("igs-decode", igs_file, "-", tty=True)
    assert (result.code, result.out) == (1, b"")
    assert cli("igs-decode", igs_file, "-", "--force", tty=True).out.startswith(b"\x89PNG")
    assert cli("igs-decode", igs_file, "--pixel", "0,0", tty=True).code == 0


def test_format_option(cli: Any, igs_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "without-suffix"
    assert cli("igs-decode", igs_file, out, "--format", "jpeg").code == 0
    with Image.open(out) as written:
        assert written.format == "JPEG"
    data = cli("igs-decode", igs_file, "-", "--format", "npy", "--bit-depth", 32).out
    assert np.load(io.BytesIO(data)).dtype == np.float32
