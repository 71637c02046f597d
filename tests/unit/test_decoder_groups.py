"""Channel groups of an open picture: by position and by name, some of them alone, normals of length 1."""

from __future__ import annotations

import numpy as np
import pytest

import igs
from igs import format
from igs.decoder.output import renormalize
from igs.format import Alpha, Blend, Colour, Group, Header, LevelMode, Primitive, Quantizer, Transfer
from igs.format.errors import UsageError

GROUPS = (
    Group(channels=4, colour=Colour.RGB, alpha=Alpha.PREMULTIPLIED, name="albedo"),
    Group(channels=3, colour=Colour.NORMAL, transfer=Transfer.LINEAR, bit_depth=16, name="normal"),
    Group(channels=1, colour=Colour.GREY, transfer=Transfer.LINEAR, bit_depth=32, gamma=2.0, name="height"),
)


def make_file(groups: tuple[Group, ...] = GROUPS, levels: int = 1, **fields: object) -> bytes:
    channels = sum(g.channels for g in groups)
    features = channels + 2 * (fields.get("primitive") == Primitive.GRADIENT)
    header = Header(
        width=33,
        height=21,
        channels=channels,
        groups=groups,
        background=(0.25,) * channels,
        position=Quantizer.uniform([0, 0], [33, 21], 12),
        scale=Quantizer.uniform([-1, -1], [2, 2], 8),
        rotation=Quantizer.uniform([0], [1], 8),
        feature=Quantizer.uniform([0] * features, [1] * features, 8),
        **fields,
    )
    rng = np.random.default_rng(1)
    tables = [
        format.quantize(
            header, rng.random((60, 2)) * [33, 21], rng.random((60, 2)), rng.random((60, 1)), rng.random((60, features))
        )
        for _ in range(levels)
    ]
    return format.write(header, tables)


def test_groups_are_a_tuple_with_names() -> None:
    with igs.open(make_file()) as im:
        assert im.groups == im.header.groups == GROUPS
        assert isinstance(im.groups, tuple)
        assert im.groups[1] is im.header.groups[1]
        assert im.groups[1:] == GROUPS[1:]
        assert [g.name for g in im.groups] == list(im.groups.names) == ["albedo", "normal", "height"]
        assert "normal" in im.groups
        assert GROUPS[1] in im.groups
        assert "ao" not in im.groups
        normal = im.groups["normal"]
        assert (normal.name, normal.channels, normal.bit_depth) == ("normal", 3, 16)
        assert normal.group is im.header.groups[1]
        with pytest.raises(UsageError, match="one of 'albedo', 'normal', 'height', found 'ao'"):
            im.groups["ao"]
        with pytest.raises(AttributeError):
            _ = normal.no_such_field


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"primitive": Primitive.GRADIENT},
        {"blend": Blend.SUM, "top_k": 0, "relative_reach2": float("inf")},
        {"levels": 2, "level_mode": LevelMode.RESIDUAL},
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_some_groups_are_those_channels_of_all(fields: dict, dtype: str) -> None:
    with igs.open(make_file(**fields)) as im:
        whole = im.decode(dtype=dtype)
        np.testing.assert_array_equal(im.decode(dtype=dtype, groups=["normal"]), whole[..., 4:7])
        np.testing.assert_array_equal(im.decode(dtype=dtype, groups=["height", 0]), whole[..., [7, 0, 1, 2, 3]])
        np.testing.assert_array_equal(
            im.decode(dtype=dtype, groups="height", raw=True), im.decode(dtype=dtype, raw=True)[..., 7:]
        )
        part = im.region(3, 4.5, 10, 7, scale=2.5, dtype=dtype)
        np.testing.assert_array_equal(
            im.region(3, 4.5, 10, 7, scale=2.5, dtype=dtype, groups=["albedo"]), part[..., :4]
        )
        small = im.decode(scale=0.25, dtype=dtype)
        np.testing.assert_array_equal(im.decode(scale=0.25, dtype=dtype, groups=["normal"]), small[..., 4:7])


@pytest.mark.parametrize("count", [3, 2000])
def test_samples_of_some_groups(count: int) -> None:
    points = np.random.default_rng(2).random((count, 2)) * [33, 21]
    with igs.open(make_file()) as im:
        whole = im.sample(points)
        np.testing.assert_array_equal(im.sample(points, groups=["normal", "height"]), whole[:, 4:])
        np.testing.assert_array_equal(im.groups["normal"].sample(points), whole[:, 4:7])
        np.testing.assert_array_equal(im.groups["normal"].pixel(3, 2), im.pixel(3, 2)[4:7])


def test_maps_by_name_at_their_depths() -> None:
    with igs.open(make_file()) as im:
        maps = im.decode_groups()
        assert {n: (m.shape, m.dtype.name) for n, m in maps.items()} == {
            "albedo": ((21, 33, 4), "uint8"),
            "normal": ((21, 33, 3), "uint16"),
            "height": ((21, 33, 1), "float32"),
        }
        for name, pixels in maps.items():
            np.testing.assert_array_equal(im.groups[name].decode(), pixels)
            np.testing.assert_array_equal(np.asarray(im.groups[name]), pixels)
        np.testing.assert_array_equal(maps["albedo"], im.decode()[..., :4])
        some = im.decode_groups(groups=["height"], dtype="uint8", region=(1, 2, 4, 3), scale=2)
        assert list(some) == ["height"]
        np.testing.assert_array_equal(some["height"], im.region(1, 2, 4, 3, scale=2, groups=["height"]))
        assert np.asarray(im.groups["normal"], dtype=np.float64).dtype == np.float64


def test_a_picture_without_names_is_its_only_map() -> None:
    with igs.open(make_file((Group(channels=3),))) as im:
        np.testing.assert_array_equal(im.groups[""].decode(), im.decode())


def test_renormalized_vectors_have_length_1_and_their_direction() -> None:
    with igs.open(make_file()) as im:
        plain = im.decode(dtype="float32").astype(np.float64)
        found = im.decode(dtype="float32", renormalize=True).astype(np.float64)
        before, after = plain[..., 4:7] * 2 - 1, found[..., 4:7] * 2 - 1
        np.testing.assert_allclose((after**2).sum(-1), 1, atol=1e-6)
        length = np.sqrt((before**2).sum(-1, keepdims=True))
        np.testing.assert_allclose(after * length, before, atol=1e-6)
        np.testing.assert_array_equal(np.delete(found, (4, 5, 6), 2), np.delete(plain, (4, 5, 6), 2))
        np.testing.assert_array_equal(
            im.groups["normal"].decode(renormalize=True), im.decode_groups(renormalize=True)["normal"]
        )
        for wrong in ({"groups": ["albedo"]}, {"raw": True}):
            with pytest.raises(UsageError, match="renormalize: expected"):
                im.decode(renormalize=True, **wrong)


def test_a_vector_without_direction_points_up() -> None:
    values = np.full((2, 3), 0.5, np.float32)
    values[1] = (1, 0.5, 0.5)
    renormalize(values)
    np.testing.assert_allclose(values, [[0.5, 0.5, 1], [1, 0.5, 0.5]])


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([], "at least one"),
        (["ao"], "found 'ao'"),
        ([3], "positions of 0 to 2, found 3"),
        ([-1], "found -1"),
        ([True], "found True"),
        ([None], "found None"),
        (["normal", 1], "each group once, found 1 again"),
    ],
)
def test_groups_that_are_not_there(groups: list, expected: str) -> None:
    with igs.open(make_file()) as im:
        for call in (im.decode, im.decode_groups, lambda groups: im.sample([[1, 1]], groups=groups)):
            with pytest.raises(UsageError, match=expected):
                call(groups=groups)


def test_each_group_says_where_its_channels_are():
    found = [(part.whole, part.colours, part.alpha) for part in format.each_group(GROUPS)]
    assert found == [
        (slice(0, 4), slice(0, 3), slice(3, 4)),
        (slice(4, 7), slice(4, 7), None),
        (slice(7, 8), slice(7, 8), None),
    ]
    assert [part.group for part in format.each_group(GROUPS)] == list(GROUPS)
