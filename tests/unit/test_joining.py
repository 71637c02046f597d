"""Files of one part joined to one of several, and split again (spec §3.6): what goes together, and what does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from decoder_cases import SUM
from parts_cases import (
    GROUPS,
    ORDER,
    PLAIN,
    SECTIONS,
    Stack,
    make_codes,
    make_file,
    make_header,
    stack,
    two_stage_stack,
)

import igs
from igs.format import (
    Codec,
    Group,
    InvalidFile,
    Part,
    Primitive,
    Quantizer,
    ScaleMap,
    Shape,
    join,
    open_file,
    read,
    split,
    validate_file,
    write,
)
from igs.format.errors import UsageError
from igs.format.parts import MAX_PARTS

A, B = (Group(channels=2, name=name) for name in "ab")


@pytest.fixture(scope="module")
def large() -> Stack:
    return two_stage_stack()


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
