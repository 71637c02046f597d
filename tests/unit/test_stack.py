"""Texture stacks before the fit: maps told by their names, found in directories, loaded as groups of one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from igs.encoder import TextureMap, load_image
from igs.encoder.loading.map_names import ROLES, common_start, role_of
from igs.encoder.loading.stack import find_maps, load_stack
from igs.format import Alpha, Colour, Transfer
from igs.format.errors import InputError, UsageError

LIMITS = {"size_limit": 2**20, "dimension_limit": 2**12}


def noise(channels: int, side: int = 8, seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, channels), np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


def save(folder: Path, name: str, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(folder / name)
    return folder / name


# -- names


@pytest.mark.parametrize(
    ("stem", "role"),
    [
        ("albedo", "albedo"),
        ("name_albedo_2k", "albedo"),
        ("Rock030_2K-JPG_Color", "albedo"),
        ("brick_wall_001_diff_1k", "albedo"),
        ("T_Door_BaseColor", "albedo"),
        ("wood-base-color", "albedo"),
        ("brick_wall_001_nor_gl_4k", "normal_gl"),
        ("Rock030_2K-JPG_NormalGL", "normal_gl"),
        ("Rock030_2K-JPG_NormalDX", "normal_dx"),
        ("NORMAL", "normal"),
        ("Rock030_2K-JPG_AmbientOcclusion", "ao"),
        ("ao_2048", "ao"),
        ("metal_plate_rough_2k", "roughness"),
        ("roughnessMap", "roughness"),
        ("MetallicMap", "metalness"),
        ("Rock030_2K-JPG_Displacement", "height"),
        ("brick_disp_4k", "height"),
        ("lamp_emissive", "emissive"),
        ("leaf_opacity", "opacity"),
        ("wood_metallicRoughness", "metallicroughness"),
        ("Helmet_occlusionRoughnessMetallic", "orm"),
        ("brick_arm_4k", "arm"),
        ("Rock030", None),
        ("preview", None),
        ("", None),
    ],
)
def test_names_as_libraries_write_them(stem: str, role: str | None) -> None:
    found = role_of(stem)
    assert (found and found.name) == role


def test_every_role_knows_its_own_names() -> None:
    for role in ROLES:
        assert role_of(role.name) is role
        for alias in role.aliases:
            assert role_of(f"thing_{alias}_2k") is role


def test_the_materials_own_name_says_nothing() -> None:
    stems = ["rusty_metal", "rusty_metal_diff_1k", "rusty_metal_nor_gl_1k"]
    assert common_start(stems) == 2
    assert role_of("rusty_metal") is not None
    assert role_of("rusty_metal", common_start(stems)) is None
    assert common_start(["albedo"]) == 0  # a single map has nothing in common with others


# -- directories


def test_a_directory_in_the_order_of_roles(tmp_path: Path) -> None:
    for name in ("m_rough_1k.png", "m_Normal.png", "m_albedo.png", "m.png", "m_thing.png", "m_ao.JPG"):
        save(tmp_path, name, noise(3))
    (tmp_path / "m_height.txt").write_text("no picture")
    found, notes = find_maps(tmp_path)
    assert list(found) == ["albedo", "normal", "ao", "roughness"]
    assert found["ao"] == tmp_path / "m_ao.JPG"
    assert [Path(note.split(":")[0]).name for note in notes] == ["m.png", "m_thing.png"]
    assert f"--map NAME={tmp_path / 'm.png'}" in notes[0]


def test_a_named_map_takes_the_place_of_the_directorys(tmp_path: Path) -> None:
    for name in ("m_albedo.png", "m_ao.png"):
        save(tmp_path, name, noise(3))
    other = tmp_path / "elsewhere" / "g.png"
    found, notes = find_maps(tmp_path, {"albedo": other})
    assert found == {"ao": tmp_path / "m_ao.png"}
    assert notes == [f"{tmp_path / 'm_albedo.png'}: left out, --map albedo={other} takes its place"]
    assert find_maps(tmp_path, {"albedo": tmp_path / "m_albedo.png"}) == (found, [])


def test_normals_of_both_conventions_are_kept_once(tmp_path: Path) -> None:
    for name in ("a_NormalGL.png", "a_NormalDX.png"):
        save(tmp_path, name, noise(3))
    found, notes = find_maps(tmp_path)
    assert list(found) == ["normal_gl"]
    assert "NormalDX.png: left out" in notes[0]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), "expected maps such as albedo"),
        (("one.png", "two.png"), "found none"),
        (("a_color.png", "a_diffuse.png"), "expected one albedo map, found a_color.png and a_diffuse.png"),
    ],
)
def test_directories_that_are_no_stack(tmp_path: Path, names: tuple[str, ...], expected: str) -> None:
    for name in names:
        save(tmp_path, name, noise(3))
    with pytest.raises(InputError, match=expected):
        load_image(tmp_path)


# -- loading


def test_groups_follow_from_names(tmp_path: Path) -> None:
    grey = np.repeat(noise(1)[..., None], 3, axis=2)
    opaque = np.dstack([noise(3), np.full((8, 8), 255, np.uint8)])
    maps = {
        "albedo": save(tmp_path, "1.png", noise(4)),  # alpha that says something
        "normal": save(tmp_path, "2.png", opaque),  # alpha that says nothing
        "ao": save(tmp_path, "3.png", grey),
        "height": np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8),
        "emissive": noise(3).astype(np.float32) / 255,
        "wear": noise(1),
    }
    source = load_stack(maps, **LIMITS)
    groups = {g.name: g for g in source.groups}
    assert list(groups) == list(maps)
    assert {n: g.channels for n, g in groups.items()} == {
        "albedo": 4, "normal": 3, "ao": 1, "height": 1, "emissive": 3, "wear": 1,
    }  # fmt: skip
    assert {n for n, g in groups.items() if g.transfer == Transfer.SRGB} == {"albedo", "emissive"}
    assert [g.bit_depth for g in groups.values()] == [8, 8, 8, 16, 32, 8]
    assert groups["normal"].colour == Colour.NORMAL
    assert groups["albedo"].alpha == Alpha.PREMULTIPLIED
    assert groups["ao"].colour == Colour.GREY
    assert source.bit_depth == 32
    assert source.pixels.shape == (8, 8, 13)
    np.testing.assert_array_equal(source.pixels[..., 7], grey[..., 0] / np.float32(255))
    np.testing.assert_array_equal(source.pixels[..., 9:12], maps["emissive"])
    assert source.warnings == []


def test_what_a_map_says_of_itself_counts_more_than_its_name() -> None:
    source = load_stack(
        {"albedo": TextureMap(noise(3), transfer="linear", bit_depth=16, weight=4), "ao": noise(1)}, **LIMITS
    )
    assert source.groups[0].transfer == Transfer.LINEAR
    assert [g.bit_depth for g in source.groups] == [16, 8]
    assert source.weights == (4.0, 1.0)


def test_colours_where_grey_was_expected_are_kept(tmp_path: Path) -> None:
    source = load_stack({"roughness": save(tmp_path, "a.png", noise(3))}, **LIMITS)
    assert source.channels == 3
    assert "expected grey for a map of roughness, found colours" in source.warnings[0]


def test_a_colour_profile_is_left_out_with_a_warning(tmp_path: Path) -> None:
    Image.fromarray(noise(3)).save(tmp_path / "a.png", icc_profile=b"\0" * 36 + b"acsp" + b"\0" * 88)
    source = load_stack({"albedo": tmp_path / "a.png"}, **LIMITS)
    assert source.sections == {}
    assert any("colour profile" in note for note in source.warnings)


def test_sizes_that_differ_are_refused_or_resampled() -> None:
    tilted = np.zeros((16, 8, 3), np.uint8)
    tilted[...] = (np.array([0.6, 0.0, 0.8]) * 127.5 + 127.5).round()
    tilted[8:] = (np.array([-0.6, 0.0, 0.8]) * 127.5 + 127.5).round()
    maps = {"albedo": noise(3), "normal": tilted, "height": np.full((4, 4), 0.25, np.float32)}
    with pytest.raises(InputError, match=r"maps of one size, found albedo of 8×8, normal of 8×16, height of 4×4"):
        load_stack(maps, **LIMITS)
    for resample, size in (("largest", (16, 8)), ("smallest", (4, 4)), ("6x5", (5, 6))):
        source = load_stack(maps, resample=resample, **LIMITS)
        assert source.pixels.shape == (*size, 7)
        np.testing.assert_allclose(source.pixels[..., 6], 0.25, atol=1e-6)
        normals = source.pixels[..., 3:6] * 2.0 - 1
        if size != (16, 8):  # those that were resampled have length 1 again, on the edge between two slopes as well
            np.testing.assert_allclose((normals**2).sum(axis=2), 1, atol=1e-5)
        assert 0 <= source.pixels.min() <= source.pixels.max() <= 1


def test_colours_that_cannot_be_seen_do_not_bleed() -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, 4:] = (255, 0, 0, 255)
    pixels[:, :4, 1] = 255  # green where alpha is 0
    source = load_stack({"albedo": pixels, "ao": noise(1, 4)}, resample="smallest", **LIMITS)
    seen = source.pixels[..., 3] > 0.1
    assert seen.any()
    assert source.pixels[..., 1][seen].max() < 1e-3


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        ({}, "at least one map"),
        ({"a": noise(1), "b\n": noise(1)}, "control characters"),
        ({"a" * 65: noise(1)}, "64 bytes"),
        ({"a": np.zeros((8, 8, 40), np.uint8), "b": np.zeros((8, 8, 25), np.uint8)}, "64 channels together, found 65"),
        ({"a": TextureMap(noise(1), weight=0)}, "a weight of 0.0001 to 10000, found 0"),
        ({"a": TextureMap(noise(1), weight=float("nan"))}, "found nan"),
        ({"a": TextureMap(noise(1), transfer="gamma")}, "srgb, linear, pq, log, found 'gamma'"),
        ({"a": TextureMap(noise(1), bit_depth=12)}, "8, 16 or 32, found 12"),
        ({"a": {"b": noise(1)}}, "expected one map"),
        ({"a": "somewhere"}, "somewhere: No such file"),
    ],
)  # fmt: skip
def test_stacks_that_make_no_sense(maps: dict, expected: str) -> None:
    with pytest.raises((UsageError, InputError), match=expected):
        load_stack(maps, **LIMITS)


def test_limits_hold_for_all_maps_together() -> None:
    maps = {str(i): noise(1, 32, i) for i in range(8)}
    assert load_stack(maps, memory_limit=9 * 8 * 1024, **LIMITS).channels == 8
    with pytest.raises(InputError, match="--memory-limit"):
        load_stack(maps, memory_limit=9 * 8 * 1024 - 1, **LIMITS)
    with pytest.raises(InputError, match="--size-limit"):
        load_stack(maps, resample="2000x2000", **LIMITS)


@pytest.mark.parametrize("resample", ["", "big", "0x8", "8", "-8x8", "8x8x8"])
def test_resample_wants_a_size(resample: str) -> None:
    with pytest.raises(UsageError, match="largest, smallest or a size such as 1024x1024"):
        load_stack({"ao": noise(1)}, resample=resample, **LIMITS)
