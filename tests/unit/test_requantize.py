"""Files in fewer bits (encoder/fewer_bits.py): rates that are met, what stays, levels, holes, every kind of code."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from requantize_cases import COARSEST, head, make, psnr

import igs
from igs.decoder import holes
from igs.encoder.fewer_bits import requantize
from igs.format import (
    Blend,
    Codec,
    Gaussians,
    Header,
    LevelMode,
    Quantizer,
    ScaleMap,
    Shape,
    open_file,
    read,
    validate_file,
)
from igs.format.errors import UsageError


def test_the_same_steps_give_the_same_codes() -> None:
    data = make()
    again = requantize(data, coarser=1.0).to_bytes()
    with open_file(data) as a, open_file(again) as b:
        rows = [np.unique(np.concatenate([f.codes(c) for c in range(f.num_chunks)]), axis=0) for f in (a, b)]
    assert np.array_equal(*rows)
    assert len(again) <= len(data)  # models that suit


def test_coarser_steps_take_fewer_bytes_and_change_more() -> None:
    data = make(sections={"json": b'{"a": 1}', "abcd": b"\0\1"})
    found = [requantize(data, coarser=factor).to_bytes() for factor in (1, 1.5, 2, 3, 5)]
    sizes, quality = [len(f) for f in found], [psnr(data, f) for f in found]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]
    assert quality == sorted(quality, reverse=True)
    assert quality[1] > 30
    for file in found:
        assert validate_file(file).valid
        assert {s.type: s.data for s in read(file).sections} == {"json": b'{"a": 1}', "abcd": b"\0\1"}


@given(st.floats(0.5, 0.95))
@settings(max_examples=3)
def test_a_size_is_met(share: float) -> None:
    data = requantize(make(), coarser=1.0).to_bytes()
    limit = int(share * len(data))
    found = requantize(data, size=limit)
    size = len(found.to_bytes())
    assert 0.94 * limit < size <= limit
    assert validate_file(found.to_bytes()).valid
    by_rate = requantize(data, bpp=8 * limit / (64 * 48)).to_bytes()
    assert len(by_rate) == size
    assert requantize(read(data), size=limit).to_bytes() == found.to_bytes()  # the same bytes every time


@pytest.mark.parametrize("mode", list(LevelMode))
@pytest.mark.parametrize("lattice", [True, False])
def test_levels_stay_levels(mode: LevelMode, lattice: bool) -> None:
    data = make(head(lattice, level_mode=mode), levels=3)
    file = requantize(data, coarser=2.0)
    with igs.open(data) as before, igs.open(file.to_bytes()) as after:
        assert (len(after.levels), after.num_gaussians) == (3, before.num_gaussians)
        for level in range(3):
            pair = [im.decode(level=level, dtype="float32") for im in (before, after)]
            assert np.abs(pair[0] - pair[1]).mean() < 0.1
    assert validate_file(file.to_bytes()).valid


@pytest.mark.parametrize("coarser", [2.0, 8.0])
def test_no_level_gets_holes(coarser: float) -> None:
    """A point that the first level reached is reached by it again, also where a later one would do."""
    torch = pytest.importorskip("torch", reason="the encoder needs torch")
    assert torch
    y, x = np.mgrid[:60, :80]
    pixels = np.stack([x * 3, y * 4, 128 + 100 * np.sin(x / 5)], 2).astype(np.uint8)
    data = igs.encode(pixels, num_gaussians=40, levels=4, steps=20).data
    files = [open_file(d) for d in (data, requantize(data, coarser=coarser).to_bytes())]
    for level in range(4):
        bare = []
        for file in files:
            chunks = range(sum(x.num_chunks for x in file.levels[: level + 1]))
            bare.append(len(holes(file.header, Gaussians.concatenate(file.read_gaussians(chunks)))))
        assert bare == [0, 0], level


def plain(**fields: Any) -> Header:
    return head(False, **fields)


@pytest.mark.parametrize(
    "header",
    [
        plain(),
        plain(blend=Blend.SUM, top_k=0, relative_reach2=np.inf),
        plain(scale_map=ScaleMap.RAW, scale=Quantizer.uniform(0, 9, 10, shared=True, columns=2)),
        plain(
            shape=Shape.COVARIANCE,
            scale_map=ScaleMap.RAW,
            scale=Quantizer.uniform([0, 0], [40, 40], 12),
            rotation=Quantizer.uniform(-3, 3, 10),
            lowpass=0.3,
        ),
        plain(
            shape=Shape.CHOLESKY,
            scale_map=ScaleMap.RAW,
            scale=Quantizer.uniform([0, 0], [9, 9], 12),
            rotation=Quantizer.uniform(-3, 3, 10),
        ),
        plain(feature=Quantizer.affine(0.0, 1 / 1023, 10, columns=3), position=Quantizer.float16(2)),
    ],
    ids=["uniform", "sum", "raw", "covariance", "cholesky", "affine"],
)
def test_plain_codes_lose_bits(header: Header) -> None:
    data = make(header, codec=Codec.RAW)
    found = requantize(data, coarser=4.0).to_bytes()
    assert len(found) < 0.95 * len(data)
    assert read(found).header.feature.bits == header.feature.bits - 2
    assert psnr(data, found) > 22
    assert validate_file(found).valid


def test_floats_become_codes_over_their_range() -> None:
    floats = {n: Quantizer.float32(c) for n, c in (("position", 2), ("scale", 2), ("rotation", 1), ("feature", 3))}
    data = make(plain(**floats))
    widths = {"pos_bits": 12, "scale_bits": 8, "rot_bits": 8, "feat_bits": 8}
    found = requantize(data, widths=widths).to_bytes()
    assert len(found) < 0.45 * len(data)
    assert psnr(data, found) > 35


def test_no_holes_are_torn() -> None:
    header = head(reach2=4.0)
    data = make(header)
    found = requantize(data, coarser=6.0).to_bytes()

    def bare(file: bytes) -> set[tuple[float, float]]:
        with open_file(file) as f:
            every = Gaussians.concatenate(f.read_gaussians(range(f.num_chunks)))
            return {tuple(p) for p in holes(f.header, every, 4).tolist()}

    assert bare(found) <= bare(data)
    assert bare(rounded(data, 6.0)) - bare(data)  # what rounding alone would have torn


def rounded(data: bytes, factor: float) -> bytes:
    from igs.encoder import fewer_bits as module

    job = module._Job(read(data))
    return job.file(job.coarser(factor), close=False)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "expected one of coarser, bpp, size and widths, found none"),
        ({"coarser": 2.0, "bpp": 1.0}, "found coarser and bpp"),
        ({"coarser": 0.5}, "coarser: expected 1 to 64"),
        ({"widths": {"feat_bits": 6}}, "a lattice, which has steps"),
        ({"size": 10}, "the smallest of this file"),
        ({"size": 10**6}, "expected fewer than"),
    ],
)
def test_refusals(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        requantize(make(), **options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": "8k"}, "size: expected a whole number above 0, found '8k'"),
        ({"size": 800.5}, "size: expected a whole number above 0"),
        ({"coarser": "2"}, "coarser: expected a number above 0, found '2'"),
        ({"coarser": True}, "coarser: expected a number above 0"),
        ({"bpp": math.nan}, "bpp: expected a number above 0, found nan"),
        ({"widths": ["pos_bits"]}, "widths: expected bits by attribute"),
        ({"widths": {"pos_bits": "7"}}, "pos_bits: expected a whole number of bits, found '7'"),
        ({"widths": {"pos_bits": 7.5}}, "pos_bits: expected a whole number of bits"),
        ({"coarser": 2, "threads": "x"}, "threads: expected 1 or more, found 'x'"),
        ({"coarser": 2, "refine": "no"}, "refine: expected True or False, found 'no'"),
        ({"coarser": 2, "seed": -1}, "seed: expected a whole number of 0 to "),
        ({"coarser": 2, "seed": 2**70}, "seed: expected a whole number of 0 to "),
    ],
)
def test_arguments_of_another_kind(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError, match=f"^{expected}"):
        requantize(make(plain()), **options)


def test_numbers_of_numpys() -> None:
    pytest.importorskip("torch")
    data = requantize(make(), coarser=1.0).to_bytes()
    numpys: dict[str, Any] = {"coarser": np.float32(1.5), "threads": np.int64(1), "seed": np.int64(1)}
    found = requantize(data, refine=True, **numpys).to_bytes()
    assert found == requantize(data, refine=True, coarser=1.5, threads=1, seed=1).to_bytes()
    narrow = requantize(make(plain()), widths={"pos_bits": np.uint8(7)}).to_bytes()  # type: ignore[dict-item]
    assert narrow == requantize(make(plain()), widths={"pos_bits": 7}).to_bytes()
    with pytest.raises(UsageError, match="threads: expected a whole number of 1 to 1024"):
        requantize(data, coarser=1.5, refine=True, threads=10**9)


def test_more_refusals() -> None:
    with pytest.raises(UsageError, match="pos_bits: expected 1 to the 14"):
        requantize(make(plain()), widths={"pos_bits": 15})
    with pytest.raises(UsageError, match="expected pos_bits"):
        requantize(make(plain()), widths={"bits": 5})
    data = make(levels=2)
    partial = data[: open_file(data).levels[0].end]
    with pytest.raises(UsageError, match="a partial one"):
        requantize(partial, coarser=2.0)


def floats(kind: Any = Quantizer.float32) -> Header:
    names = {"position": 2, "scale": 2, "rotation": 1, "feature": 3}
    return head(lattice=False, **{name: kind(columns) for name, columns in names.items()})


@pytest.mark.parametrize(
    ("header", "factor", "expected"),
    [
        (floats(), 64, "floats keep their width; --pos-bits, "),
        (floats(Quantizer.float16), 2, "floats keep their width; --pos-bits, "),
        (head(lattice=False), 1.9, "codes lose whole bits, the first at a factor of 2"),
        (dataclasses.replace(floats(), scale=Quantizer.uniform(-2, 4, 1, columns=2)), 4, "codes have one bit each alr"),
        (head(), 1.001, "steps grow by eighths of an octave"),
        (dataclasses.replace(head(), lattice=COARSEST), 9, "all steps are as large as they can be"),
    ],
)
def test_a_factor_that_changes_nothing_is_told(header: Header, factor: float, expected: str) -> None:
    told: list[str] = []
    data = make(header)
    again = requantize(data, coarser=factor, on_warning=told.append)
    assert [message.startswith(f"nothing became coarser: {expected}") for message in told] == [True], told
    assert again.header.quantizers == header.quantizers
    requantize(data, coarser=1.0, on_warning=told.append)
    assert len(told) == 1


@pytest.mark.parametrize(
    "header", [head(), head(lattice=False), dataclasses.replace(floats(), scale=head(False).scale)]
)
def test_a_factor_that_changes_something_is_not_warned_of(header: Header) -> None:
    told: list[str] = []
    assert requantize(make(header), coarser=2, on_warning=told.append).header != read(make(header)).header
    assert not told


def test_floats_that_keep_a_file_large_are_named() -> None:
    """Coarser steps make no file of floats smaller, but bits per code do."""
    data = make(floats())
    with pytest.raises(UsageError, match=r"with steps 64 times as large, found 700 \(floats keep .*--pos-bits") as told:
        requantize(data, size=700)
    assert f"expected {len(data)} bytes or more" in str(told.value)
    widths = {"pos_bits": 12, "scale_bits": 8, "rot_bits": 8, "feat_bits": 8}
    assert len(requantize(data, widths=widths).to_bytes()) < len(data) / 2


def test_all_else_of_the_header_stays() -> None:
    before = head(background=(0.25, 0.5, 0.75), top_k=7)
    after = requantize(make(before), coarser=2.0).header
    same = [f.name for f in dataclasses.fields(Header) if f.name not in ("lattice", "box_shift")]
    assert all(getattr(before, name) == getattr(after, name) for name in same)


def test_refining_keeps_more_of_the_picture_in_no_more_bytes() -> None:
    pytest.importorskip("torch")
    data = requantize(make(), coarser=1.0).to_bytes()
    limit = int(0.7 * len(data))
    plain_file, refined = (requantize(data, size=limit, refine=r, threads=1).to_bytes() for r in (False, True))
    assert len(refined) <= limit
    assert psnr(data, refined) > psnr(data, plain_file) + 1
    assert validate_file(refined).valid
    assert open_file(refined).num_gaussians < 80
    assert requantize(data, size=limit, refine=True, threads=1).to_bytes() == refined
    same = requantize(data, coarser=1.5, refine=True, threads=1)
    assert same.head.num_gaussians == 80


@pytest.mark.parametrize(("lattice", "levels"), [(False, 1), (True, 2)])
def test_refining_is_for_lattices_of_one_level(lattice: bool, levels: int) -> None:
    with pytest.raises(UsageError, match="one level with a lattice"):
        requantize(make(head(lattice), levels), coarser=2.0, refine=True)


def test_models_of_other_codes_do_not_stand_in_the_way() -> None:
    """A lattice record fits its own codes closely; those of a coarser lattice may lie outside its models."""
    data = requantize(make(), coarser=1.0).to_bytes()
    for factor in (8.0, 30.0, 64.0):
        assert validate_file(requantize(data, coarser=factor).to_bytes()).valid


def test_a_file_that_became_larger_is_told_of() -> None:
    """One colour everywhere: to make up for each other's rounding Gaussians become different."""
    flat = igs.encode(np.full((48, 64, 3), 90, np.uint8), num_gaussians=60, steps=0).data
    said: list[str] = []
    found = requantize(flat, coarser=3, refine=True, on_warning=said.append).to_bytes()
    assert len(found) > len(flat)
    assert said == [f"the file became larger: it had {len(flat)} bytes, now {len(found)}"]
