"""Properties of the container: packing at every width, write → read → write, cut and damaged files."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from igs.format import (
    Alpha,
    Blend,
    Codec,
    Colour,
    Group,
    Header,
    IgsError,
    InvalidFile,
    LevelMode,
    Limits,
    Primitive,
    Quantizer,
    ScaleMap,
    Shape,
    Transfer,
    feature_columns,
    open_file,
    read,
    validate_file,
    write,
)
from igs.format.bitpack import pack, packed_bytes, unpack, unused_bits_are_zero
from igs.format.codecs import DECODERS, Chunk, encode_zstd
from igs.format.columns import encode as encode_columns

# Random parameters make Gaussians of any reach; that the limits refuse some of them is not what is tested here.
UNBOUNDED = Limits(reach_ratio=math.inf, gaussians_per_byte=math.inf)
PLAIN = (Codec.RAW, Codec.ZSTD, Codec.COLUMNS)  # those that take any codes
f16 = st.floats(-65504, 65504, width=16)  # without bounds most draws would be rejected
f32 = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6)


@pytest.mark.parametrize("bits", range(1, 33))
@given(data=st.data())
def test_pack_unpack_at_every_width(bits: int, data: st.DataObject) -> None:
    columns = data.draw(st.integers(1, 3))
    widths = [bits] + [data.draw(st.integers(1, 32)) for _ in range(columns - 1)]
    count = data.draw(st.integers(1, 9))
    rows = [[data.draw(st.integers(0, 2**b - 1)) for b in widths] for _ in range(count)]
    packed = pack(np.array(rows, np.uint32), widths)
    assert len(packed) == packed_bytes(count, widths)
    assert unused_bits_are_zero(packed, count, widths)
    assert unpack(packed, count, widths).tolist() == rows
    # The definition of spec §5, on a big integer.
    number, at = 0, 0
    for column, b in enumerate(widths):
        for row in rows:
            number |= row[column] << at
            at += b
    assert int.from_bytes(packed, "little") == number


@pytest.mark.parametrize("codec", PLAIN)
@given(widths=st.lists(st.integers(1, 32), min_size=1, max_size=6), count=st.integers(1, 300), seed=st.integers(0, 999))
def test_every_codec_returns_its_codes(codec: Codec, widths: list[int], count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, 2**b, count) for b in widths], axis=1).astype(np.uint32)
    payload = {Codec.RAW: pack, Codec.ZSTD: encode_zstd, Codec.COLUMNS: encode_columns}[codec](codes, widths)
    assert np.array_equal(DECODERS[codec](payload, Chunk(_Widths(tuple(widths)), count, np.zeros(4))), codes)


class _Widths(NamedTuple):
    """What these codecs look at in a header."""

    code_bits: tuple[int, ...]


@st.composite
def quantizers(draw: st.DrawFn, columns: int) -> Quantizer:
    kind = draw(st.sampled_from(["uniform", "affine", "float16", "float32", "codebook"]))
    if kind == "float16":
        return Quantizer.float16(columns)
    if kind == "float32":
        return Quantizer.float32(columns)
    if kind == "codebook":
        shape = (draw(st.integers(1, 8)), 2 ** draw(st.integers(1, 4)), columns)
        return Quantizer.codebook(np.random.default_rng(draw(st.integers(0, 99))).normal(0, 4, shape))
    shared = draw(st.booleans())
    bits = draw(st.integers(1, 32))
    first = [draw(f32) for _ in range(1 if shared else columns)]
    second = [draw(f32) for _ in first]
    if kind == "affine":
        return Quantizer.affine(first, second, bits, shared, columns)
    pairs = [sorted(p) for p in zip(first, second, strict=True)]
    return Quantizer.uniform([p[0] for p in pairs], [p[1] for p in pairs], bits, shared, columns)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    groups = []
    for number in range(draw(st.integers(1, 3))):
        colour = draw(st.sampled_from(Colour))
        alpha = draw(st.sampled_from(Alpha))
        channels = (colour.channels or draw(st.integers(1, 5))) + (alpha != Alpha.NONE)
        transfer, depth = draw(st.sampled_from(Transfer)), draw(st.sampled_from([8, 16, 32]))
        name = f"{number}" + draw(st.text(st.characters(exclude_categories=["C"]), max_size=12))
        gamma = draw(st.floats(0.0625, 16, width=16))
        parts = {"alpha": alpha, "transfer": transfer, "bit_depth": depth, "colour": colour, "gamma": gamma}
        groups.append(Group(channels=channels, name=name, **parts))
    channels = sum(g.channels for g in groups)
    blend, shape = draw(st.sampled_from(Blend)), draw(st.sampled_from(Shape))
    primitive = draw(st.sampled_from(Primitive))
    topk = blend == Blend.TOPK
    return Header(
        width=draw(st.integers(1, 4000)),
        height=draw(st.integers(1, 4000)),
        channels=channels,
        groups=tuple(groups),
        background=tuple(draw(f16) for _ in range(channels)),
        position=draw(quantizers(2)),
        scale=draw(quantizers(2)),
        rotation=draw(quantizers(1)),
        primitive=primitive,
        feature=draw(quantizers(feature_columns(primitive, channels))),
        blend=blend,
        top_k=draw(st.integers(1, 32)) if topk else 0,
        shape=shape,
        scale_map=draw(st.sampled_from(ScaleMap)) if shape == Shape.SCALE_ROTATION else ScaleMap.RAW,
        reach2=draw(st.floats(0.0625, 1024, width=16)),
        relative_reach2=draw(st.one_of(st.just(math.inf), st.floats(0, 64, width=16))) if topk else math.inf,
        lowpass=draw(st.sampled_from([0.0, 0.25, 300.0, 2.0**20])),
        level_mode=draw(st.sampled_from(LevelMode)),
    )


def _codes(header: Header, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, 2**b, count) for b in header.code_bits], axis=1).astype(np.uint32)
    at = 0
    for q in header.quantizers:
        part = slice(at, at + q.code_columns)
        if q.kind.name.startswith("FLOAT"):
            codes[:, part] = q.encode(rng.normal(0, 3000, (count, q.columns)))
        at += q.code_columns
    return codes


@given(header=headers(), seed=st.integers(0, 999), data=st.data())
def test_any_quantised_set_comes_back_bit_exact(header: Header, seed: int, data: st.DataObject) -> None:
    levels = []
    for level in range(data.draw(st.integers(1, 3))):
        sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
        levels.append([_codes(header, n, seed + 10 * level + i) for i, n in enumerate(sizes)])
    sections = data.draw(st.dictionaries(st.from_regex(r"[a-z][a-zA-Z]{3}", fullmatch=True), st.binary(max_size=400)))
    written = write(header, levels, codec=data.draw(st.sampled_from(PLAIN)), sections=sections)
    with open_file(written, UNBOUNDED) as file:
        assert dataclasses.replace(file.header, box_shift=None) == header
        chunks = [chunk for level in levels for chunk in level]
        assert all(np.array_equal(file.codes(i), chunk) for i, chunk in enumerate(chunks))
        assert [x.num_gaussians for x in file.levels] == [sum(map(len, level)) for level in levels]
        assert dict(file.sections) == sections
        parts = file.read_gaussians(range(file.num_chunks))
        assert [p.first_index for p in parts] == np.cumsum([0, *map(len, parts)])[:-1].tolist()
        for part in parts:
            assert all(np.isfinite(a).all() for a in (part.factors, part.features, part.covariances, part.scales))
    document = read(written, UNBOUNDED)
    assert document.to_bytes() == written
    changed = document.with_sections({"zzzz": b"new", "soft": None})
    with open_file(changed.to_bytes(), UNBOUNDED) as file:
        assert dict(file.sections) == {k: v for k, v in sections.items() if k != "soft"} | {"zzzz": b"new"}
    undone = changed.with_sections({"zzzz": sections.get("zzzz"), "soft": sections.get("soft")})
    assert undone.to_bytes() == written


@given(n=st.integers(1, 300), chunk_size=st.one_of(st.none(), st.integers(1, 64)), seed=st.integers(0, 99))
def test_a_partition_keeps_every_gaussian_once(n: int, chunk_size: int | None, seed: int) -> None:
    header = _plain_header()
    codes = _codes(header, n, seed)
    with open_file(write(header, [codes], chunk_size=chunk_size)) as file:
        counts = [len(file.codes(c)) for c in range(file.num_chunks)]
        stored = np.concatenate([file.codes(c) for c in range(file.num_chunks)])
    assert chunk_size is None or max(counts) <= chunk_size
    assert sorted(map(tuple, stored.tolist())) == sorted(map(tuple, codes.tolist()))


def _plain_header(**changes: object) -> Header:
    fields = {
        "width": 64,
        "height": 48,
        "channels": 1,
        "groups": (Group(channels=1),),
        "background": (0.0,),
        "position": Quantizer.uniform(0, 64, 10, shared=True, columns=2),
        "scale": Quantizer.uniform(-2, 4, 6, shared=True, columns=2),
        "rotation": Quantizer.affine(0, 1 / 64, 6),
        "feature": Quantizer.uniform(0, 1, 7),
    }
    return Header(**(fields | changes))


def _layered() -> bytes:
    header = _plain_header()
    levels = [[_codes(header, 5, 1)], [_codes(header, 4, 2), _codes(header, 3, 3)]]
    return write(header, levels, codec=Codec.RAW, sections={"json": b'{"a": "' + b"x" * 260 + b'"}', "soft": b"s"})


def test_cut_anywhere() -> None:
    """Every prefix is a partial file at a level's end, E_TRUNCATED elsewhere, and opens with allow_partial from the
    end of the first level on."""
    data = _layered()
    with open_file(data) as file:
        ends = [x.end for x in file.levels]
        whole = [file.codes(i) for i in range(file.num_chunks)]
    for length in range(len(data)):
        cut = data[:length]
        if length in ends:
            with open_file(cut) as file:
                assert file.partial
        else:
            with pytest.raises(InvalidFile) as caught:
                open_file(cut)
            assert caught.value.code == "E_TRUNCATED"
        if length < ends[0]:
            with pytest.raises(InvalidFile, match="E_TRUNCATED"):
                open_file(cut, allow_partial=True)
            continue
        with open_file(cut, allow_partial=True) as file:
            assert file.available_levels == 1 + (length >= ends[1])
            first, last = file.level_range()
            assert all(np.array_equal(file.codes(i), whole[i]) for i in range(first, last))
            assert set(file.sections) == {"soft"}
        report = validate_file(cut)
        assert report.valid == (length in ends)


@given(st.data())
def test_damaged_bytes_give_a_result_or_an_error(data: st.DataObject) -> None:
    original = _layered()
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    assume(bytes(damaged) != original)
    report = validate_file(bytes(damaged))
    assert not report.valid  # every byte is covered by a checksum or a check
    with pytest.raises(IgsError):
        _read_all(bytes(damaged))


def test_every_flipped_bit_is_found() -> None:
    """One flip in each byte of a file with levels, inline and tail sections; bit 7, 6, … in turn."""
    original = _layered()
    for at in range(len(original)):
        damaged = bytearray(original)
        damaged[at] ^= 1 << (-at % 8)
        assert not validate_file(bytes(damaged)).valid, at


def _read_all(data: bytes) -> None:
    with open_file(data) as file:
        file.read_gaussians(range(file.num_chunks))
        dict(file.sections)
