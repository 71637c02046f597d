"""Files of several parts in fewer bits (encoder/fewer_bits.py): one factor for all, widths, refining."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from requantize_cases import COARSEST, LATTICE, codes, head, psnr

from igs.encoder.fewer_bits import requantize
from igs.format import (
    Colour,
    Group,
    Quantizer,
    join,
    open_file,
    read,
    split,
    validate_file,
    write,
)
from igs.format.errors import UsageError


def parted(lattice: bool = True, sections: dict[str, bytes] | None = None, **fields: Any) -> tuple[bytes, list[bytes]]:
    """Two parts whose groups interleave, and the files that they are: with steps and ranges of their own."""
    rgb, grey = Group(channels=2, name="a"), Group(channels=1, colour=Colour.GREY, name="c")
    headers = [
        head(lattice, groups=(rgb, grey), **fields),
        head(lattice, groups=(Group(channels=3, colour=Colour.RGB, name="b"),), background=(0.25,) * 3, **fields),
    ]
    if lattice:
        headers[0] = dataclasses.replace(headers[0], lattice=dataclasses.replace(LATTICE, ycbcr=False, position=24))
    files = [write(h, [codes(h, 80 + 20 * seed, seed)]) for seed, h in enumerate(headers)]
    return join(files, [[0, 2], [1]], sections), files


@pytest.mark.parametrize("lattice", [True, False])
def test_parts_become_coarser_each_by_the_same_factor(lattice: bool) -> None:
    sections = {"json": b'{"a": 1}', "abcd": b"\0\1"}
    data, files = parted(lattice, sections)
    found = requantize(data, coarser=2.0)
    assert split(found.to_bytes()) == [requantize(file, coarser=2.0).to_bytes() for file in files]
    assert found.section_data() == sections
    assert [part.groups for part in found.head.parts] == [(0, 2), (1,)]
    assert [group.name for group in found.header.groups] == ["a", "b", "c"]
    assert validate_file(found.to_bytes()).valid


@pytest.mark.parametrize("share", [0.9, 0.7])
def test_a_size_is_met_by_one_factor_for_all_parts(share: float) -> None:
    data = requantize(parted(sections={"abcd": b"1"})[0], coarser=1.0).to_bytes()
    limit = int(share * len(data))
    found = requantize(data, size=limit)
    assert 0.94 * limit < len(found.to_bytes()) <= limit
    assert requantize(data, bpp=8 * limit / (64 * 48)).to_bytes() == found.to_bytes()
    assert found.section_data() == {"abcd": b"1"}
    assert found.head.num_gaussians == 180
    assert validate_file(found.to_bytes()).valid
    steps = [[part.header.lattice for part in document.head.parts] for document in (read(data), found)]
    grown = []
    for before, after in zip(*steps, strict=True):
        assert before is not None
        assert after is not None
        names = ("position", "minor", "ratio", "rotation")
        grown.append([getattr(before, name) - getattr(after, name) for name in names])
    assert grown[0] == grown[1]
    assert max(grown[0]) > 0


def test_widths_are_those_of_every_part() -> None:
    names = {"position": 2, "scale": 2, "rotation": 1, "feature": 3}
    floating = {name: Quantizer.float32(columns) for name, columns in names.items()}
    for fields in ({}, floating):
        widths = {"feat_bits": 7, "rot_bits": 6, "pos_bits": 11}
        found = requantize(parted(False, **fields)[0], widths=widths).to_bytes()
        for part in split(found):
            header = read(part).header
            assert (header.feature.bits, header.rotation.bits, header.position.bits) == (7, 6, 11)
        assert validate_file(found).valid


def test_a_circle_of_one_part_stays_in_the_form_of_the_other() -> None:
    circle = Quantizer.uniform(0, 1 - 2**-10, 10, shared=True, columns=1)
    other = Quantizer.uniform(0, 1, 10, shared=True, columns=1)
    files = []
    for name, rotation in (("a", circle), ("b", other)):
        header = head(False, groups=(Group(channels=3, name=name),), rotation=rotation)
        files.append(write(header, [codes(header)]))
    found = requantize(join(files), coarser=4.0).head.parts
    assert [part.header.rotation.hi for part in found] == [(1 - 2**-8,), (1.0,)]


def test_what_is_told_of_parts() -> None:
    told: list[str] = []
    data, _ = parted(False)
    requantize(data, coarser=1.9, on_warning=told.append)
    assert told == ["nothing became coarser: codes lose whole bits, the first at a factor of 2"]
    with pytest.raises(UsageError, match=r"expected \d+ bytes or more, the smallest of this file with steps 64"):
        requantize(data, size=200)
    with pytest.raises(UsageError, match="feat_bits: expected 1 to the 10"):
        requantize(data, widths={"feat_bits": 11})
    with pytest.raises(UsageError, match="expected fewer than"):
        requantize(data, size=10**6)
    with pytest.raises(UsageError, match="one level with a lattice"):
        requantize(data, coarser=2.0, refine=True)
    cut = parted(sections={"json": b'{"a": "' + b"x" * 300 + b'"}'})[0]
    with pytest.raises(UsageError, match="a partial one"):
        requantize(cut[: open_file(cut).head.level_ends[-1]], coarser=2.0)


def test_one_part_that_becomes_coarser_is_enough() -> None:
    told: list[str] = []
    headers = [
        dataclasses.replace(head(groups=(Group(channels=3, name=name),)), lattice=record)
        for name, record in (
            ("a", dataclasses.replace(COARSEST, ycbcr=False)),
            ("b", dataclasses.replace(LATTICE, ycbcr=False)),
        )
    ]
    data = join([write(h, [codes(h, seed=1)]) for h in headers])
    assert len(requantize(data, coarser=2, on_warning=told.append).to_bytes()) < len(data)
    assert not told


def test_parts_are_refined_each_by_itself() -> None:
    pytest.importorskip("torch")
    data = requantize(parted()[0], coarser=1.0).to_bytes()
    coarser = requantize(data, coarser=2.0, refine=True, threads=1)
    alone = [requantize(part, coarser=2.0, refine=True, threads=1).to_bytes() for part in split(data)]
    assert split(coarser.to_bytes()) == alone
    limit = int(0.7 * len(data))
    plain_file, refined = (requantize(data, size=limit, refine=r, threads=1).to_bytes() for r in (False, True))
    assert len(refined) <= limit
    assert psnr(data, refined) > psnr(data, plain_file) + 0.5
    assert read(refined).head.num_gaussians < 180
    assert validate_file(refined).valid
