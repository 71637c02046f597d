"""Properties of parts: any groups in any parts joined, read and split again; damage gives a result or an error."""

from __future__ import annotations

import contextlib
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parts_cases import Stack, make_codes, make_header, stack

import igs
from igs.format import (
    Codec,
    Group,
    IgsError,
    Primitive,
    describe,
    describe_text,
    each_group,
    join,
    open_file,
    read,
    split,
    validate_file,
    write,
)
from igs.format.binary import Cursor
from igs.format.parts import Layout, parse_layout


@st.composite
def partitions(draw: st.DrawFn) -> list[list[int]]:
    """The numbers 0 … n − 1 in one set or several, each ascending, in any order."""
    members = draw(st.lists(st.integers(0, 4), min_size=1, max_size=7))
    return [
        [i for i, member in enumerate(members) if member == part]
        for part in draw(st.permutations(sorted(set(members))))
    ]


@st.composite
def stacks(draw: st.DrawFn) -> tuple[Stack, dict[str, bytes]]:
    """A file of any groups in any parts, and its metadata."""
    order = draw(partitions())
    places = sum(len(part) for part in order)
    gammas = st.sampled_from([1.0, 2.0])
    groups = [Group(channels=draw(st.integers(1, 4)), name=f"{i}é", gamma=draw(gammas)) for i in range(places)]
    fields = {"lattice": draw(st.booleans()), "primitive": draw(st.sampled_from(Primitive))}
    files = []
    for part in order:
        header = make_header([groups[i] for i in part], draw(st.integers(0, 99)), **fields)
        counts = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
        tables = [make_codes(header, n, draw(st.integers(0, 99))) for n in counts]
        files.append(write(header, [tables], codec=draw(st.sampled_from([Codec.RAW, Codec.ZSTD, Codec.COLUMNS]))))
    names = draw(st.sets(st.sampled_from(["abcd", "soft", "wxyz"])))
    sections = {name: draw(st.binary(max_size=400)) for name in sorted(names - {"soft"})}
    sections |= {"soft": b"a program"} if "soft" in names else {}
    return Stack(join(files, order, sections), files, order), sections


@given(stacks())
def test_what_is_joined_can_be_read_and_split(drawn: tuple[Stack, dict[str, bytes]]) -> None:
    made, sections = drawn
    assert split(made.data)[: len(made.files)] == (made.files if len(made.files) > 1 else [made.data])
    assert join(split(made.data), made.order, sections) == made.data
    assert (read(made.data).to_bytes(), read(made.data).section_data()) == (made.data, sections)
    assert validate_file(made.data).valid
    alone = {}
    for data in made.files:
        with igs.open(data) as im:
            pixels = im.decode(dtype="float32")
            alone |= {at.group.name: pixels[..., at.whole] for at in each_group(im.groups)}
    with igs.open(made.data) as im:
        assert im.groups.names == tuple(f"{i}é" for i in range(len(im.groups)))
        assert im.metadata.keys() == sections.keys()
        assert [part.groups for part in im.parts] == [tuple(part) for part in made.order]
        whole = im.decode(dtype="float32")
        for at in each_group(im.groups):
            assert np.array_equal(whole[..., at.whole], alone[at.group.name])
        last = im.groups.names[-1]
        assert np.array_equal(im.groups[last].decode(dtype="float32"), alone[last])
    with open_file(made.data) as file:
        found = describe(file)["parts"]
        assert sum(part["num_gaussians"] for part in found) == file.num_gaussians
        assert sum(part["bytes"] for part in found) == file.head.level_ends[-1] - file.head.payload_offset
        assert sum(part["channels"] for part in found) == file.header.channels


@given(partitions(), st.data())
def test_the_table_is_read_as_it_was_written(order: list[list[int]], data: st.DataObject) -> None:
    if len(order) < 2:
        order = [*order, [sum(map(len, order))]]
    members = [0] * sum(map(len, order))
    for number, part in enumerate(order):
        for place in part:
            members[place] = number
    chunks = tuple(data.draw(st.integers(1, 2**32 - 1)) for _ in order)
    layout = Layout(tuple(len(part) for part in order), chunks, tuple(members))
    cursor = Cursor(layout.to_bytes() + bytes(4), 0)
    assert parse_layout(cursor, len(members), len(members)) == layout
    assert cursor.position == len(layout.to_bytes())
    assert [layout.groups(number) for number in range(len(order))] == [tuple(part) for part in order]


FILES = [stack(lattice=lattice).data for lattice in (False, True)]


@pytest.mark.parametrize("data", FILES, ids=["plain", "lattice"])
@given(draw=st.data())
def test_damage_gives_a_result_or_an_error(data: bytes, draw: st.DataObject) -> None:
    """Also behind a head whose checksum was made right."""
    damaged, end = bytearray(data), int.from_bytes(data[12:16], "little")
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.one_of(st.integers(58, 100), st.integers(0, len(data) - 1)))
        damaged[at] = draw.draw(st.integers(0, 255))
    damaged[end - 4 : end] = zlib.crc32(damaged[: end - 4]).to_bytes(4, "little")
    with contextlib.suppress(IgsError), open_file(bytes(damaged)) as file:
        describe(file, chunks=True)
        describe_text(file)
    with contextlib.suppress(IgsError):
        join(split(bytes(damaged)))
    with contextlib.suppress(IgsError), igs.open(bytes(damaged)) as im:
        im.sample([[1, 1], [20, 9]])
        im.groups[im.groups.names[0]].decode(scale=0.5)
    validate_file(bytes(damaged))
