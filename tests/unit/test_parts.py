"""Files of several parts: joined, split, read and sampled; each part like a file of its own (spec §3.6)."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from files import CountingFile
from parts_cases import (
    GROUPS,
    HEIGHT,
    ORDER,
    PLAIN,
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

import igs
from igs.format import (
    Blend,
    Codec,
    Group,
    InvalidFile,
    Part,
    Primitive,
    Quantizer,
    ScaleMap,
    Shape,
    each_group,
    join,
    open_file,
    read,
    split,
    validate_file,
    write,
)
from igs.format.errors import UsageError
from igs.format.fields import BLOCK_ENTRIES, ENTRY_BYTES
from igs.format.index import num_nodes
from igs.format.parts import MAX_PARTS

A, B = (Group(channels=2, name=name) for name in "ab")


@pytest.fixture(scope="module")
def large() -> Stack:
    return two_stage_stack()


# -- joining and splitting


@pytest.mark.parametrize("codec", PLAIN)
@pytest.mark.parametrize("lattice", [False, True])
def test_splitting_undoes_joining(codec: Codec, lattice: bool) -> None:
    made = stack(SECTIONS, codec=codec, lattice=lattice)
    assert split(made.data) == made.files
    assert join(split(made.data), made.order, SECTIONS) == made.data
    assert validate_file(made.data).valid


def test_a_file_of_parts_has_all_groups_and_each_part_its_own() -> None:
    made = stack(SECTIONS)
    heads = [read(file).header for file in made.files]
    with open_file(made.data) as file:
        assert file.header.groups == GROUPS
        assert (file.header.channels, file.num_gaussians) == (9, 60 + 70 + 80)
        assert dict(file.sections) == SECTIONS
        assert [part.header for part in file.parts] == heads
        assert [part.groups for part in file.parts] == list(ORDER)
        assert [part.channels for part in file.parts] == [(0, 1, 2, 3, 7), (4, 5, 6), (8,)]
        chunks = [(part.first_chunk, part.last_chunk) for part in file.parts]
        assert (chunks[0][0], chunks[-1][1]) == (0, file.num_chunks)
        assert all(before[1] == after[0] for before, after in itertools.pairwise(chunks))
        assert [file.chunk_part(c) for c in range(file.num_chunks)] == [
            number for number, (first, last) in enumerate(chunks) for _ in range(first, last)
        ]
        background = [heads[0].background, heads[1].background, heads[2].background]
        assert file.header.background == (*background[0][:4], *background[1], background[0][4], *background[2])
    with igs.open(made.data) as im:
        assert [[group.name for group in part.header.groups] for part in im.parts] == [
            ["albedo", "ao"],
            ["normal"],
            ["height"],
        ]


def test_one_file_comes_back_without_a_table() -> None:
    data = make_file(GROUPS, sections={"soft": b"x"})
    assert join([data], sections={"soft": b"x"}) == data
    assert join([data], [range(4)]) == make_file(GROUPS)
    assert split(data) == [data]
    with open_file(data) as file:
        assert file.parts == (Part(file.header, (0, 1, 2, 3), tuple(range(9)), 0, file.num_chunks),)


def test_without_an_order_groups_follow_one_another() -> None:
    files = [make_file([A], 0), make_file([B], 1)]
    with open_file(join(files)) as file:
        assert file.header.groups == (A, B)
        assert [part.groups for part in file.parts] == [(0,), (1,)]


def test_parts_may_differ_in_whatever_the_file_says_for_each() -> None:
    headers = [make_header([A], 0, background=(0.0, 1.0)), make_header([B], 5, background=(0.5, 0.25))]
    files = [write(h, [make_codes(h, 9)], codec=codec) for h, codec in zip(headers, PLAIN[1:], strict=True)]
    assert split(join(files)) == files


def changed(**fields: Any) -> bytes:
    return make_file([B], 1, **fields)


def with_levels() -> bytes:
    header = make_header([B])
    return write(header, [make_codes(header, 9, seed) for seed in range(2)])


def cut() -> bytes:
    """Without its section at the end."""
    data = make_file([B], sections={"json": b'{"a": "' + b"x" * 300 + b'"}'})
    return data[: open_file(data).head.level_ends[-1]]


SUM: dict[str, Any] = {"blend": Blend.SUM, "top_k": 0, "relative_reach2": float("inf")}
Q = Quantizer


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (lambda: changed(width=34), "expected width 33 as in the first, found 34 in part 1"),
        (lambda: changed(height=20), "expected height 21"),
        (lambda: changed(**SUM), "expected blend "),
        (lambda: changed(top_k=7), "expected top_k 6"),
        (lambda: changed(primitive=Primitive.GRADIENT), "expected primitive "),
        (lambda: changed(shape=Shape.CHOLESKY, scale_map=ScaleMap.RAW), "expected shape "),
        (lambda: changed(scale_map=ScaleMap.INVERSE), "expected scale_map "),
        (lambda: changed(reach2=9.0), "expected reach2 25.0"),
        (lambda: changed(relative_reach2=4.0), "expected relative_reach2 9.0"),
        (lambda: changed(lowpass=0.25), "expected lowpass 0.0"),
        (lambda: changed(box_shift=3), "expected box_shift 0"),
        (lambda: changed(lattice=True), "a position quantiser .*uniform.*, found .*lattice.* in part 1"),
        (lambda: changed(position=Q.uniform([0, 0], [33, 21], 11)), "a position quantiser "),
        (lambda: changed(scale=Q.uniform(-1, 2, 8, shared=True, columns=2)), "a scale quantiser "),
        (lambda: changed(rotation=Q.affine(0, 1 / 256, 8)), "a rotation quantiser "),
        (lambda: changed(feature=Q.codebook(np.ones((2, 8, 2)))), "a feature quantiser "),
        (with_levels, "expected whole files of one level and part, found another one at 1"),
        (cut, "expected whole files"),
        (lambda: join([make_file([B]), make_file([GROUPS[2]])]), "expected whole files"),
        (lambda: make_file([A], 1), "groups: expected different names"),
        (lambda: make_file([Group(channels=63, name="b")], 1), "expected at most 64 channels together, found 65"),
    ],
)
def test_what_does_not_go_together(other: Callable[[], bytes], expected: str) -> None:
    with pytest.raises(UsageError, match=f"^parts: .*{expected}"):
        join([make_file([A]), other()])


def test_codebooks_of_other_stages_do_not_go_together() -> None:
    files = [
        make_file([group], feature=Q.codebook(np.random.default_rng(0).random((stages, 8, 2))))
        for group, stages in ((A, 1), (B, 2))
    ]
    with pytest.raises(UsageError, match="a feature quantiser"):
        join(files)


@pytest.mark.parametrize("count", [0, MAX_PARTS + 1])
def test_there_are_up_to_64_parts(count: int) -> None:
    files = [make_file([Group(channels=1, name=str(i))], n=2) for i in range(count)]
    with pytest.raises(UsageError, match=f"expected 1 to 64 files, found {count}"):
        join(files)


def test_as_many_parts_as_there_may_be() -> None:
    files = [make_file([Group(channels=1, name=str(i))], i, n=2) for i in range(MAX_PARTS)]
    data = join(files)
    assert split(data) == files
    with igs.open(data) as im, igs.open(files[63]) as last:
        assert np.array_equal(im.groups["63"].decode(), last.decode())


@pytest.mark.parametrize(
    "order",
    [
        [[0, 1]],
        [[0], [1], [2]],
        [[0], [1, 2]],
        [[0, 1], [1]],
        [[2, 0], [1]],
        [[0, 3], [1]],
        [[0, 1], [-1]],
    ],
)
def test_orders_that_are_none(order: list[list[int]]) -> None:
    files = [make_file([A, B]), make_file([GROUPS[2]], 1)]
    assert open_file(join(files, [[0, 2], [1]])).header.groups == (A, GROUPS[2], B)
    with pytest.raises(UsageError, match=r"^order: expected places of \[2, 1\] groups, ascending in each part, found "):
        join(files, order)


def test_what_is_no_whole_file() -> None:
    with pytest.raises(InvalidFile):
        join([make_file([A]), b"no such file"])
    data = stack(SECTIONS).data
    end = open_file(data).head.level_ends[-1]
    with open_file(data[:end]) as file:
        assert (file.partial, len(file.parts)) == (True, 3)
    with pytest.raises(UsageError, match="expected a whole file, found a partial one"):
        split(data[:end])
    with igs.open(data[:end]) as cut_, igs.open(data) as whole:
        assert np.array_equal(cut_.decode(), whole.decode())


def test_metadata_is_edited_around_the_gaussians() -> None:
    plain, rich = (stack(sections).data for sections in (None, SECTIONS))
    assert read(rich).to_bytes() == rich
    assert read(rich).without_sections().to_bytes() == plain
    assert read(plain).with_sections(SECTIONS).to_bytes() == rich
    fewer = read(rich).with_sections({"soft": None, "abcd": b"1"})
    assert fewer.section_data() == {"json": SECTIONS["json"], "abcd": b"1"}
    assert (fewer.payloads, fewer.head.parts) == (read(rich).payloads, read(rich).head.parts)


def test_metadata_of_a_two_stage_index(large: Stack) -> None:
    assert read(large.data).to_bytes() == large.data
    assert read(large.data).with_sections(SECTIONS).without_sections().to_bytes() == large.data
    assert split(large.data) == large.files


# -- reading


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
    failures: list[BaseException] = []
    with igs.open(made.data, threads=2) as im:

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            try:
                for turn in range(8):
                    x, y = int(rng.integers(0, im.width - 8)), int(rng.integers(0, im.height - 8))
                    name = im.groups.names[(seed + turn) % 4]
                    columns = im.groups.select([name])[1]
                    assert np.array_equal(im.pixel(x, y), expected[y, x])
                    part = im.region(x, y, 8, 8, dtype="float32", groups=[name])
                    assert np.array_equal(part, expected[y : y + 8, x : x + 8, columns])
                    assert np.array_equal(im.sample(points, groups=[name]), samples[:, columns])
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


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
