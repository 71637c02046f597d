"""Texture stacks at the command line: directories and --map in, directories and --group out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import igs
from igs.cli.maps import file_names
from igs.format import Alpha, Colour, Group, Transfer

STACK = (
    Group(channels=3, colour=Colour.RGB, name="albedo"),
    Group(channels=3, colour=Colour.NORMAL, transfer=Transfer.LINEAR, bit_depth=16, name="normal"),
    Group(channels=1, colour=Colour.GREY, transfer=Transfer.LINEAR, bit_depth=32, name="height"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "maps"
    found.mkdir()
    for name, channels in (("wall_albedo_1k", 3), ("wall_nor_gl_1k", 3), ("wall_rough_1k", 1)):
        pixels = np.random.default_rng(channels).integers(0, 256, (8, 12, channels), np.uint8)
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(found / f"{name}.png")
    return found


@pytest.fixture
def stack(tmp_path: Path, igs_bytes: Any) -> Path:
    path = tmp_path / "stack.igs"
    path.write_bytes(igs_bytes(groups=STACK))
    return path


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


# -- encoding


def test_a_directory_is_one_picture(cli: Any, folder: Path, tmp_path: Path, fake_encoder: list[Any]) -> None:
    (folder / "wall_1k.png").write_bytes((folder / "wall_rough_1k.png").read_bytes())
    result = cli("igs-encode", folder, tmp_path / "out.igs", "--json")
    assert result.code == 0, result.err
    assert result.json["input"] == str(folder)
    assert "wall_1k.png: left out" in result.err
    image, _ = fake_encoder[0]
    assert [g.name for g in image.groups] == ["albedo", "normal_gl", "roughness"]
    with igs.open(tmp_path / "out.igs") as im:
        assert im.groups.names == ("albedo", "normal_gl", "roughness")


def test_maps_named_one_by_one(cli: Any, folder: Path, tmp_path: Path, fake_encoder: list[Any]) -> None:
    a, b = folder / "wall_albedo_1k.png", folder / "wall_rough_1k.png"
    options = ["--map-weight", "wear=2.5", "--map-transfer", "paint=linear", "--map-depth", "wear=16"]
    result = cli(
        "igs-encode", "--map", f"paint={a}", "--map", f"wear={b}", "-o", tmp_path / "x.igs", *options, "--json"
    )
    assert result.code == 0, result.err
    assert result.json["input"] == [str(a), str(b)]
    image, _ = fake_encoder[0]
    assert [(g.name, g.channels, g.transfer, g.bit_depth) for g in image.groups] == [
        ("paint", 3, Transfer.LINEAR, 8),
        ("wear", 1, Transfer.LINEAR, 16),
    ]
    assert image.weights == (1.0, 2.5)
    # A directory and a map beside it; one that is named anew is not taken twice.
    result = cli("igs-encode", folder, tmp_path / "y.igs", "--map", f"wear={b}")
    assert result.code == 0, result.err
    assert [g.name for g in fake_encoder[1][0].groups] == ["albedo", "normal_gl", "wear"]


def test_sizes_are_made_one(cli: Any, folder: Path, tmp_path: Path, fake_encoder: list[Any]) -> None:
    Image.new("L", (6, 4), 200).save(folder / "wall_ao_1k.png")
    result = cli("igs-encode", folder, tmp_path / "x.igs")
    assert result.code == 2
    assert "ao of 6×4" in result.err
    assert "--resample" in result.err
    assert not (tmp_path / "x.igs").exists()
    assert cli("igs-encode", folder, tmp_path / "x.igs", "--resample", "smallest").code == 0
    assert fake_encoder[0][0].pixels.shape == (4, 6, 8)


@pytest.mark.parametrize(
    ("args", "code", "expected"),
    [
        ("{maps} x.igs --map-weight ao=2", 1, "--map-weight: expected one of albedo, normal_gl, roughness, found 'ao'"),
        ("{maps} x.igs --map-weight albedo=much", 1, "expected a number, found 'much'"),
        ("{maps} x.igs --map-weight albedo=-1", 1, "albedo: expected a weight"),
        ("{maps} x.igs --map-depth albedo=9", 1, "--map-depth: expected 8, 16 or 32, found '9'"),
        ("{maps} x.igs --map-transfer albedo=hlg", 1, "srgb, linear, pq, log, found 'hlg'"),
        ("{maps} x.igs --resample 0x0", 1, "largest, smallest or a size"),
        ("x.igs --map a", 1, "NAME=FILE"),
        ("x.igs --map a={one} --map a={one}", 1, "each name once, found 'a' again"),
        ("x.igs --map a=nothing.png", 2, "nothing.png: No such file"),
        ("x.igs --map a={maps}", 2, "directory"),
        ("{one} x.igs --map a={one}", 1, "expected a directory of maps beside --map"),
        ("{one} x.igs --map-weight a=2", 1, "expected a directory of maps, or --map"),
        ("{one} x.igs --resample largest", 1, "with --resample"),
        ("{maps} -d out --map a={one}", 1, "--map and -d exclude each other"),
        ("{one} --map a={one} -o {one}", 1, "ends in .igs"),
        ("--map a={one} -o {one} --force", 1, "would overwrite the input"),
    ],
)
@pytest.mark.usefixtures("fake_encoder")
def test_what_makes_no_sense(
    cli: Any, folder: Path, args: str, code: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    result = cli("igs-encode", *args.format(maps="maps", one="maps/wall_rough_1k.png").split())
    assert expected in result.err
    assert result.code == code
    assert sorted(p.name for p in folder.parent.iterdir()) == ["maps"]


# -- decoding


def test_a_directory_gets_a_file_for_each_map(cli: Any, stack: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "maps"
    result = cli("igs-decode", stack, f"{out}/", "--json", "--renormalize")
    assert result.code == 0, result.err
    assert (result.json["device"], result.json["backend"]) == ("cpu", "numba-cpu")
    assert [(m["name"], Path(m["output"]).name, m["bit_depth"]) for m in result.json["maps"]] == [
        ("albedo", "albedo.png", 8),
        ("normal", "normal.png", 16),
        ("height", "height.npy", 32),
    ]
    with igs.open(stack) as im:
        expected = im.decode_groups(renormalize=True)
    np.testing.assert_array_equal(pixels_of(out / "albedo.png"), expected["albedo"])
    np.testing.assert_array_equal(np.load(out / "height.npy"), expected["height"])
    assert (out / "normal.png").read_bytes()[24] == 16  # bits per channel
    # An existing directory needs no slash; parts, sizes, formats and depths are as for a picture.
    args = ["--group", "normal", "--group", "height", "--format", "tiff", "--bit-depth", "8", "--region", "2,3,10,8"]
    result = cli("igs-decode", stack, out, *args, "--scale", "2", "--json")
    assert [Path(m["output"]).name for m in result.json["maps"]] == ["normal.tiff", "height.tiff"]
    assert pixels_of(out / "normal.tiff").shape == (16, 20, 3)
    assert cli("igs-decode", stack, out, "--no-overwrite").code == 2
    assert "by numba-cpu on the CPU" in cli("igs-decode", stack, out, "-v").err


def test_groups_as_one_picture(cli: Any, stack: Path, tmp_path: Path) -> None:
    with igs.open(stack) as im:
        whole = im.decode()
        value = im.pixel(3, 4)
    assert cli("igs-decode", stack, tmp_path / "a.png", "--group", "albedo").code == 0
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.png"), whole[..., :3])
    assert (
        cli("igs-decode", stack, tmp_path / "a.npy", "--group", "height", "--group", "albedo", "--bit-depth", 8).code
        == 0
    )
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), whole[..., [6, 0, 1, 2]])
    printed = cli("igs-decode", stack, "--pixel", "3,4", "--group", "normal").text.split()
    np.testing.assert_allclose([float(v) for v in printed], value[3:6], rtol=1e-5)


@pytest.mark.parametrize(
    ("args", "code", "expected"),
    [
        ("a.png", 5, "npy can; a directory as OUT gets a file for each group"),
        ("a.png --group ao", 1, "one of 'albedo', 'normal', 'height', found 'ao'"),
        ("out/ --group ao", 1, "found 'ao'"),
        ("out/ --group albedo --group albedo", 1, "each group once"),
        ("out/ --group albedo --renormalize", 1, "renormalize: expected"),
        ("out/ --format jpeg --bit-depth 16", 5, "can't hold 16 bits"),
        ("out/ --format ppm", 5, "ppm can't hold grey"),
        ("out/ --memory-limit 1k", 1, "--memory-limit"),
        ("out/ --region 0,0,99,99", 1, "region"),
        ("stack.igs/", 2, "stack.igs"),
    ],
)
def test_what_cannot_be_written(
    cli: Any, stack: Path, args: str, code: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stack.parent)
    result = cli("igs-decode", "stack.igs", *args.split())
    assert expected in result.err
    assert result.code == code
    assert [p for p in stack.parent.rglob("*") if p.is_file()] == [stack]


def test_names_in_a_file_cannot_leave_the_directory(cli: Any, igs_bytes: Any, tmp_path: Path) -> None:
    names = ["../../up", "/etc/x", "a\\b", "..", "", "nul", "UP", "x" * 64, "normal.png", "Größe 2"]
    groups = tuple(Group(channels=1, name=name) for name in names)
    found = file_names(groups, "stem")
    assert found == ["up", "etc_x", "a_b", "stem", "stem_2", "nul_", "UP_2", "x" * 64, "normal_png", "Größe 2"]
    (tmp_path / "evil.igs").write_bytes(igs_bytes(groups=groups))
    result = cli("igs-decode", tmp_path / "evil.igs", f"{tmp_path}/out/")
    assert result.code == 0, result.err
    assert len(list((tmp_path / "out").iterdir())) == len(names)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.igs", "out"]


def test_a_map_with_alpha_keeps_it(cli: Any, igs_bytes: Any, tmp_path: Path) -> None:
    group = Group(channels=4, colour=Colour.RGB, alpha=Alpha.PREMULTIPLIED, name="albedo")
    (tmp_path / "a.igs").write_bytes(igs_bytes(groups=(group, Group(channels=2, name="flow"))))
    assert cli("igs-decode", tmp_path / "a.igs", f"{tmp_path}/out/").code == 0
    assert pixels_of(tmp_path / "out" / "albedo.png").shape == (30, 40, 4)
    assert np.load(tmp_path / "out" / "flow.npy").shape == (30, 40, 2)


# -- looking


@pytest.fixture
def decoded(cli: Any, stack: Path, tmp_path: Path) -> Path:
    """A directory of the stack's own maps; the normal map is off by half."""
    out = tmp_path / "decoded"
    assert cli("igs-decode", stack, f"{out}/").code == 0
    with igs.open(stack) as im:
        half = im.groups["normal"].decode(dtype="float32") + np.float32(0.5)
    (out / "normal.png").unlink()
    np.save(out / "normal.npy", half)
    return out


def test_errors_of_a_stack_against_a_directory(cli: Any, stack: Path, decoded: Path, tmp_path: Path) -> None:
    from igs.encoder import load_image
    from igs.view import Scene
    from igs.view.kinds import KINDS, Options

    with Scene(stack) as scene:
        panels = KINDS["error"](scene, Options(source=load_image(decoded).pixels))
    assert [panel.title for panel in panels] == ["Error", "Error of albedo", "Error of normal", "Error of height"]
    assert panels[2].note == "PSNR 6.02 dB"
    assert panels[3].note == "no error"
    sizes = {}
    for args in ((), ("--group", "normal"), ("--group", "height", "--bare")):
        out = tmp_path / "out.png"
        result = cli("igs-view", stack, out, "-k", "error", "--against", decoded, *args)
        assert result.code == 0, result.err
        sizes[args] = pixels_of(out).shape[0]
    assert sizes[()] > sizes["--group", "normal"]
    for kind in ("zoom", "levels", "overview"):
        assert cli("igs-view", stack, tmp_path / "out.png", "-k", kind, "--against", decoded).code == 0


def test_errors_of_one_map(cli: Any, stack: Path, decoded: Path, tmp_path: Path) -> None:
    sheets = []
    for against in (decoded, decoded / "normal.npy"):
        out = tmp_path / "out.png"
        result = cli("igs-view", stack, out, "-k", "error", "--against", against, "--group", "normal")
        assert result.code == 0, result.err
        sheets.append(out.read_bytes())
    assert sheets[0] == sheets[1]
    result = cli("igs-view", stack, tmp_path / "o.png", "-k", "error", "--against", decoded / "normal.npy")
    assert (result.code, "of 7 channels" in result.err) == (1, True)
    assert cli("igs-view", stack, tmp_path / "o.png", "-k", "zoom", "--against", decoded, "--group", "height").code == 0


def test_a_directory_that_has_not_all_maps(cli: Any, stack: Path, folder: Path, tmp_path: Path) -> None:
    result = cli("igs-view", stack, tmp_path / "o.png", "-k", "error", "--against", folder)
    assert (result.code, "expected maps albedo, normal, height, found albedo, normal_gl, roughness" in result.err) == (
        2,
        True,
    )


def test_maps_of_other_sizes_are_resampled(cli: Any, stack: Path, decoded: Path, tmp_path: Path) -> None:
    with Image.open(decoded / "albedo.png") as albedo:
        large = albedo.resize((80, 60), Image.Resampling.LANCZOS)
    large.save(decoded / "albedo.png")
    for args in ((), ("--group", "height")):
        result = cli("igs-view", stack, tmp_path / "o.png", "-k", "error", "--against", decoded, *args)
        assert result.code == 0, result.err


def test_a_named_map_decides_between_two_of_a_kind(
    cli: Any, folder: Path, tmp_path: Path, fake_encoder: list[Any]
) -> None:
    other = folder / "wall_diffuse_1k.png"
    other.write_bytes((folder / "wall_albedo_1k.png").read_bytes())
    unknown = folder / "wall_foo_1k.png"
    unknown.write_bytes((folder / "wall_rough_1k.png").read_bytes())
    assert "--map NAME=FILE says which" in cli("igs-encode", folder, tmp_path / "out.igs").err
    named = ("--map", f"albedo={other}", "--map", f"dust={unknown}")
    result = cli("igs-encode", folder, tmp_path / "out.igs", *named)
    assert result.code == 0, result.err
    left = f"{folder / 'wall_albedo_1k.png'}: left out, --map albedo={other} takes its place"
    assert result.err.count("left out") == result.err.count(left) == 1
    assert sorted(g.name for g in fake_encoder[0][0].groups) == ["albedo", "dust", "normal_gl", "roughness"]


def test_one_transfer_is_said_at_most(cli: Any, folder: Path, tmp_path: Path) -> None:
    result = cli("igs-encode", folder, tmp_path / "out.igs", "--map-transfer", "albedo=linear", "--transfer", "srgb")
    assert (result.code, "--transfer and --map-transfer exclude each other" in result.err) == (1, True)


def test_a_refused_region_leaves_no_directory(cli: Any, stack: Path, tmp_path: Path) -> None:
    out = tmp_path / "maps"
    assert cli("igs-decode", stack, f"{out}/", "--region", "100,0,10,10").code == 1
    assert not out.exists()
