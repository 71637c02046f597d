"""Files of several parts read and sampled (spec §3.6): the values of the separate files, and no more of the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from decoder_cases import SUM
from files import CountingFile
from parts_cases import (
    GROUPS,
    HEIGHT,
    SECTIONS,
    WIDTH,
    Stack,
    make_codes,
    make_file,
    make_header,
    payload_bytes,
    stack,
    two_stage_stack,
)
from threads import at_once

import igs
from igs.format import (
    Group,
    InvalidFile,
    Primitive,
    each_group,
    join,
    open_file,
    validate_file,
    write,
)
from igs.format.errors import UsageError
from igs.format.fields import BLOCK_ENTRIES, ENTRY_BYTES
from igs.format.index import num_nodes

A, B = (Group(channels=2, name=name) for name in "ab")


@pytest.fixture(scope="module")
def large() -> Stack:
    return two_stage_stack()


@pytest.mark.parametrize("part", range(3))
def test_gaussians_are_those_of_the_separate_files(part: int) -> None:
    made = stack()
    with open_file(made.data) as file, open_file(made.files[part]) as alone:
        own, extent = file.parts[part], file.part_extent(file.parts[part])
        assert extent.num_gaussians == alone.num_gaussians
        assert extent.num_bytes == len(made.files[part]) - alone.head.payload_offset
        assert extent.first_index == sum(60 + 10 * i for i in range(part))
        found = file.read_gaussians(range(own.first_chunk, own.last_chunk))
        expected = alone.read_gaussians(range(alone.num_chunks))
        for a, b in zip(found, expected, strict=True):
            assert np.array_equal(a.features, b.features)
            assert np.array_equal(a.means, b.means)
            assert a.first_index == b.first_index + extent.first_index
        assert [file.codes(own.first_chunk + c).tolist() for c in range(alone.num_chunks)] == [
            alone.codes(c).tolist() for c in range(alone.num_chunks)
        ]
        every = file.chunks_in_box(0, 0, WIDTH, HEIGHT, part=own)
        assert every.tolist() == list(range(own.first_chunk, own.last_chunk))


def test_gaussians_of_several_parts_are_not_read_at_once() -> None:
    with open_file(stack().data) as file:
        boundary = file.parts[1].first_chunk
        with pytest.raises(UsageError, match="expected those of one part"):
            file.read_gaussians([boundary - 1, boundary])


def test_extents_read_little_of_a_two_stage_index(large: Stack) -> None:
    """Parts begin at chunks 2100, within a block of the index, and 2816, where one begins."""
    source = CountingFile(large.data)
    with open_file(source) as file:
        assert [part.last_chunk for part in file.parts] == [2100, 2816, 4316]
        assert 2816 % BLOCK_ENTRIES == 0
        assert num_nodes(file.num_chunks) == 17
        before = source.total
        extents = [file.part_extent(part) for part in file.parts]
        assert source.total - before == BLOCK_ENTRIES * ENTRY_BYTES
        assert [extent.num_gaussians for extent in extents] == [2100, 716, 1500]
        assert sum(extent.num_bytes for extent in extents) == len(large.data) - file.head.payload_offset


def test_levels_within_a_part_are_as_before() -> None:
    header = make_header(GROUPS)
    data = write(header, [make_codes(header, n, n) for n in (30, 50)])
    with open_file(data) as file:
        assert [level.num_gaussians for level in file.levels] == [30, 50]
        assert file.part_extent(file.parts[0])[:2] == (0, 80)


# -- values: those of the separate files


POINTS = np.random.default_rng(3).random((1500, 2))


def opened(made: Stack) -> tuple[igs.Image, Callable[..., np.ndarray]]:
    """The picture, and ``expected("decode", …)``: what the separate ones give, in the order of the whole's groups."""

    def expected(method: str, *args: Any, **kwargs: Any) -> np.ndarray:
        values = []
        for data in made.files:
            with igs.open(data) as im:
                found = getattr(im, method)(*args, **kwargs)
                values.append([found[..., at.whole] for at in each_group(im.groups)])
        members = sorted((place, number) for number, part in enumerate(made.order) for place in part)
        return np.concatenate([values[number].pop(0) for _, number in members], axis=-1)

    return igs.open(made.data), expected


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "lattice": {"lattice": True},
    "sum": SUM,
    "gradient": {"primitive": Primitive.GRADIENT},
}


@pytest.fixture(scope="module", params=[*KINDS, "two_stage"])
def made(request: pytest.FixtureRequest, large: Stack) -> Stack:
    return large if request.param == "two_stage" else stack(**KINDS[request.param])


@pytest.mark.parametrize("raw", [False, True])
def test_pictures_and_regions(made: Stack, raw: bool) -> None:
    im, expected = opened(made)
    for dtype in ("float32", "uint8"):
        assert np.array_equal(im.decode(dtype=dtype, raw=raw), expected("decode", dtype=dtype, raw=raw))
    area = (3.25, 4.5, 17, 11)
    for scale in (0.4, 1.0, 2.5):
        options: dict[str, Any] = {"scale": scale, "dtype": "uint16", "raw": raw}
        assert np.array_equal(im.region(*area, **options), expected("region", *area, **options))
    out = np.empty((im.height, im.width, 9), np.uint8)
    assert im.decode(raw=raw, out=out) is out
    assert np.array_equal(out, im.decode(raw=raw))


@pytest.mark.parametrize("count", [1, 40, 1500])
def test_points_and_pixels(made: Stack, count: int) -> None:
    im, expected = opened(made)
    points = POINTS[:count] * [im.width + 8, im.height + 8] - 4
    for raw in (False, True):
        assert np.array_equal(im.sample(points, raw=raw), expected("sample", points, raw=raw))
    assert np.array_equal(im.pixel(30, 20), expected("pixel", 30, 20))
    assert np.array_equal(im.pixel(5, 7, raw=True), expected("pixel", 5, 7, raw=True))


@pytest.mark.parametrize("groups", [["albedo"], ["height", "ao"], ["normal", "ao", "albedo"], [3, 2, 1, 0]])
def test_some_groups(made: Stack, groups: list[str | int]) -> None:
    with igs.open(made.data) as im:
        columns = im.groups.select(groups)[1]
        whole, points = im.decode(dtype="uint8"), POINTS[:600] * [im.width, im.height]
        assert np.array_equal(im.decode(groups=groups), whole[..., columns])
        assert np.array_equal(im.region(2, 3, 9, 8, groups=groups), whole[3:11, 2:11, columns])
        assert np.array_equal(im.sample(points, groups=groups), im.sample(points)[:, columns])
        assert np.array_equal(im.sample(points[:9], groups=groups), im.sample(points[:9])[:, columns])
        assert np.array_equal(im.pixel(4, 5, groups=groups), im.pixel(4, 5)[columns])


def test_maps_by_name() -> None:
    made = stack()
    alone = {}
    for data in made.files:
        with igs.open(data) as im:
            alone |= im.decode_groups()
    with igs.open(made.data) as im:
        maps = im.decode_groups()
        assert list(maps) == ["albedo", "normal", "ao", "height"]
        for name, pixels in maps.items():
            assert np.array_equal(pixels, alone[name])
            assert np.array_equal(np.asarray(im.groups[name]), pixels)
        assert np.array_equal(im.groups["ao"].pixel(4, 5), im.pixel(4, 5)[7:8])


def test_normals_of_length_1_where_one_part_has_them() -> None:
    made = stack()
    with igs.open(made.data) as im, igs.open(made.files[1]) as normal:
        plain, found = im.decode(dtype="float32"), im.decode(dtype="float32", renormalize=True)
        assert np.array_equal(found[..., 4:7], normal.decode(dtype="float32", renormalize=True))
        others = [0, 1, 2, 3, 7, 8]
        assert np.array_equal(found[..., others], plain[..., others])
        assert not np.array_equal(found, plain)
        assert np.array_equal(
            im.decode(groups=["ao", "normal"], renormalize=True)[..., 1:], normal.decode(renormalize=True)
        )
        with pytest.raises(UsageError, match="expected picture values of a normal map, found none"):
            im.decode(groups=["albedo", "height"], renormalize=True)
        with pytest.raises(UsageError, match="found raw values"):
            im.decode(raw=True, renormalize=True)


def test_many_files_of_parts() -> None:
    several, one = stack().data, make_file(GROUPS)
    damaged = several[:-1] + bytes([several[-1] ^ 1])
    found = list(igs.decode_many([several, one, damaged, several], threads=2, errors="return"))
    with igs.open(several) as a, igs.open(one) as b:
        assert np.array_equal(found[0], a.decode())
        assert np.array_equal(found[1], b.decode())
        assert np.array_equal(found[3], found[0])
    assert isinstance(found[2], InvalidFile)


def test_all_layers_are_those_of_each_part(made: Stack) -> None:
    with igs.open(made.data) as im:
        layers = im.all_layers()
        assert [len(of_part) for of_part in layers] == [1, 1, 1]
        for (splats, rule), part, data in zip((of[0] for of in layers), im.parts, made.files, strict=True):
            with open_file(data) as alone:
                assert splats.means.shape == (2, alone.num_gaussians)
            assert len(rule.background) == part.header.channels


# -- what is read, and what is damaged


def outside(ranges: list[tuple[int, int]], allowed: range) -> list[tuple[int, int]]:
    return [(at, n) for at, n in ranges if n and not (at in allowed and at + n - 1 in allowed)]


REQUESTS: list[Callable[[igs.Image, str], Any]] = [
    lambda im, name: im.decode(groups=[name]),
    lambda im, name: im.region(1, 1, 20, 15, groups=[name]),
    lambda im, name: im.sample(POINTS[:3] * [im.width, im.height], groups=[name]),
    lambda im, name: im.sample(POINTS * [im.width, im.height], groups=[name]),
    lambda im, name: im.pixel(im.width // 2, im.height // 2, groups=[name]),
    lambda im, name: im.groups[name].pixel(im.width // 2, im.height // 2),
]


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize(("name", "part"), [("albedo", 0), ("normal", 1), ("height", 2)])
def test_one_group_reads_its_part_alone(name: str, part: int, request_: Callable[[igs.Image, str], Any]) -> None:
    data = stack(SECTIONS).data
    source = CountingFile(data)
    with igs.open(source) as im:
        head = im.bytes_read
        source.ranges.clear()
        request_(im, name)
        own = payload_bytes(data, part)
        assert outside(source.ranges, own) == []
        assert 0 < im.bytes_read - head <= len(own)


def blocks(data: bytes, part: int) -> range:
    """Where the blocks of a two-stage index are that hold entries of a part."""
    with open_file(data) as file:
        first, last = file.parts[part].first_chunk, file.parts[part].last_chunk
        low, high = first // BLOCK_ENTRIES, -(-last // BLOCK_ENTRIES)
        start = file.head.head_bytes
        end = start + ENTRY_BYTES * min(high * BLOCK_ENTRIES, file.num_chunks)
        return range(start + ENTRY_BYTES * BLOCK_ENTRIES * low, end)


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize(("name", "part"), [("albedo", 0), ("normal", 1), ("height", 2)])
def test_one_group_reads_its_part_of_a_two_stage_index(
    large: Stack, name: str, part: int, request_: Callable[[igs.Image, str], Any]
) -> None:
    source = CountingFile(large.data)
    with igs.open(source) as im:
        source.ranges.clear()
        request_(im, name)
        index, payloads = blocks(large.data, part), payload_bytes(large.data, part)
        beyond = outside(source.ranges, payloads)
        assert outside(beyond, index) == []
        assert sum(n for _, n in beyond) <= len(index)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


@pytest.mark.parametrize("request_", REQUESTS)
def test_damage_stays_in_its_part(request_: Callable[[igs.Image, str], Any]) -> None:
    data = stack().data
    damaged = data
    for at in payload_bytes(data, 1)[::20]:
        damaged = flipped(damaged, at)
    with igs.open(data) as sound, igs.open(damaged) as im:
        for name in ("albedo", "ao", "height"):
            assert np.array_equal(request_(im, name), request_(sound, name))
        with pytest.raises(InvalidFile, match="E_CHUNK_CRC"):
            request_(im, "normal")
        with pytest.raises(InvalidFile):
            im.decode()
    findings = validate_file(damaged).findings
    with open_file(data) as file:
        first, last = file.parts[1].first_chunk, file.parts[1].last_chunk
    assert [f.message.partition(":")[0] for f in findings] == [f"chunk {c}" for c in range(first, last)]


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_damaged_block_of_the_index_stays_in_its_part(
    large: Stack, request_: Callable[[igs.Image, str], Any]
) -> None:
    damaged = large.data
    for block in range(12, 17):  # all with entries of part 2 alone
        damaged = flipped(damaged, blocks(large.data, 0).start + ENTRY_BYTES * BLOCK_ENTRIES * block)
    with igs.open(damaged) as im, igs.open(large.data) as sound:
        for name in ("albedo", "ao", "normal"):
            assert np.array_equal(request_(im, name), request_(sound, name))
        with pytest.raises(InvalidFile, match="E_NODE_CRC"):
            request_(im, "height")


def test_many_threads_at_once(made: Stack) -> None:
    with igs.open(made.data) as plain:
        expected, points = plain.decode(dtype="float32"), POINTS * [plain.width, plain.height]
        samples = plain.sample(points)
    with igs.open(made.data, threads=2) as im:

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for turn in range(8):
                x, y = int(rng.integers(0, im.width - 8)), int(rng.integers(0, im.height - 8))
                name = im.groups.names[(seed + turn) % 4]
                columns = im.groups.select([name])[1]
                assert np.array_equal(im.pixel(x, y), expected[y, x])
                part = im.region(x, y, 8, 8, dtype="float32", groups=[name])
                assert np.array_equal(part, expected[y : y + 8, x : x + 8, columns])
                assert np.array_equal(im.sample(points, groups=[name]), samples[:, columns])

        at_once(work)


def test_a_closed_picture_lets_go_of_all_parts() -> None:
    im = igs.open(stack().data)
    im.decode()
    im.close()
    with pytest.raises(UsageError, match="found it closed"):
        im.decode(groups=["ao"])


def test_limits_hold_for_the_whole_file() -> None:
    made = stack()
    with pytest.raises(InvalidFile, match="E_LIMIT_GAUSSIANS"):
        igs.open(made.data, limits=igs.Limits(gaussians=209))
    with pytest.raises(InvalidFile, match="E_LIMIT_CHANNELS"):
        igs.open(made.data, limits=igs.Limits(channels=8))
    with pytest.raises(InvalidFile, match="E_LIMIT_PIXELS"):
        join(made.files, limits=dataclasses.replace(igs.Limits(), pixels=100))
    # Each of the three is within this limit, all together are not.
    with pytest.raises(InvalidFile, match="E_LIMIT_GAUSSIANS"):
        join(made.files, limits=igs.Limits(gaussians=209))
