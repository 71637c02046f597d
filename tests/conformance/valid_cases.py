"""Valid files, one per feature: name → bytes. What they look like, the decoder's reference says (generate.py)."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from chosen import Chooser, chosen_file
from vectors import head_of, header, lattice_header, patch, random_codes, with_payload

from igs.format import (
    Alpha,
    Blend,
    Codec,
    Colour,
    Group,
    Header,
    LevelMode,
    Primitive,
    Quantizer,
    ScaleMap,
    Shape,
    Transfer,
    join,
    quantize,
    write,
)
from igs.format.codecs import encode_zstd, plane_bytes, zstd_content
from igs.format.lattice import Lattice, ValueModel

INF = float("inf")


def _file(head: Header, n: int = 8, codec: Codec = Codec.RAW) -> bytes:
    return write(head, [[random_codes(head, n)]], codec=codec)


def _with_features(codes: np.ndarray, features: object) -> np.ndarray:
    """Codes with others in the feature columns: rows of them, or a seed to draw 6 bits of."""
    columns = codes.shape[1] - 5
    if isinstance(features, int):
        features = np.random.default_rng(features).integers(0, 64, (len(codes), columns))
    return np.concatenate([codes[:, :5], np.asarray(features, np.uint32)], axis=1)


def cases() -> Iterator[tuple[str, bytes]]:
    """All of them."""
    yield from _quantizers()
    yield from _shapes()
    yield from _models()
    yield from _containers()
    yield from _coded()
    yield from _parts()
    yield from _exact()
    yield from _long()
    yield from _extremes()


def _quantizers() -> Iterator[tuple[str, bytes]]:
    q = Quantizer
    yield "uniform", _file(header(3, position=q.uniform([-1, 0], [17, 13], 11), feature=q.uniform([0] * 3, [1] * 3, 7)))
    yield "uniform_1_bit", _file(header(feature=q.uniform(0, 1, 1)))
    yield "uniform_31_bits", _file(header(position=q.uniform([-1, 0], [17, 13], 31)))
    equal = dataclasses.replace(q.uniform(0.5, 0.5, 31), bits=32)  # the one kind that the constructor turns into floats
    yield "uniform_32_bits_lo_is_hi", _file(header(feature=equal))
    yield "affine", _file(header(feature=q.affine(1, -1 / 63, 6), scale=q.affine([-1, 2], [0.25, -0.2], 4)))
    yield "float16", _file(header(position=q.float16(2), scale=q.float16(2), rotation=q.float16(1)))
    every = {"position": q.float32(2), "scale": q.float32(2), "rotation": q.float32(1), "feature": q.float32(3)}
    yield "float32", _file(header(3, **every))
    rng = np.random.default_rng(3)
    yield "codebook", _file(header(3, feature=q.codebook(rng.uniform(0, 0.5, (2, 8, 3)))))
    head = header(feature=q.affine(0, 2.0**40, 6))
    yield "feature_clamp", write(head, [[_with_features(random_codes(head, 3), [[0], [1], [63]])]], codec=Codec.RAW)


def _shapes() -> Iterator[tuple[str, bytes]]:
    q = Quantizer
    for scale_map, scale in (
        (ScaleMap.RAW, q.uniform(-1, 8, 8, shared=True, columns=2)),
        (ScaleMap.INVERSE, q.uniform(0, 2, 8, shared=True, columns=2)),
        (ScaleMap.LOG2, q.uniform(-8, 3, 8, shared=True, columns=2)),
    ):
        yield f"scale_{scale_map.name.lower()}", _file(header(scale_map=scale_map, scale=scale))
    head = header(scale_map=ScaleMap.INVERSE, scale=q.uniform(0, 2, 8, shared=True, columns=2), reach2=9.0, box_shift=0)
    codes = random_codes(head, 4)
    codes[3, 2] = 0  # infinitely long, but for the bound
    yield "scale_inverse_of_0", write(head, [[codes]], codec=Codec.RAW)
    signed = {"scale_map": ScaleMap.RAW, "rotation": q.uniform(-12, 12, 10)}
    yield "cholesky", _file(header(shape=Shape.CHOLESKY, scale=q.uniform([0, 0], [6, 6], 8), **signed))
    yield "covariance", _file(header(shape=Shape.COVARIANCE, scale=q.uniform([-1, -1], [36, 36], 10), **signed))
    yield (
        "covariance_lowpass",
        _file(header(shape=Shape.COVARIANCE, scale=q.uniform([-1, -1], [36, 36], 10), lowpass=0.3, **signed)),
    )
    long = header(scale=q.uniform(-6, 15, 8, shared=True, columns=2), rotation=q.affine(0, 1 / 256, 8), reach2=9.0)
    codes = quantize(long, [[8, 6], [3, 3]], [[9, -6], [-2, 3.5]], [[0.31], [0.77]], [[1], [0]])
    yield "elongation_and_open_boxes", write(dataclasses.replace(long, box_shift=0), [[codes]], codec=Codec.RAW)


def _models() -> Iterator[tuple[str, bytes]]:
    yield "topk_1", _file(header(top_k=1))
    yield "topk_32", _file(header(top_k=32), 40)
    yield "no_relative_reach", _file(header(relative_reach2=INF, reach2=9.0))
    yield "relative_reach_0", _file(header(relative_reach2=0.0))
    yield "sum", _file(header(3, blend=Blend.SUM, top_k=0, relative_reach2=INF))
    slopes = {
        "primitive": Primitive.GRADIENT,
        "feature": Quantizer.uniform([0] * 3 + [-0.5] * 2, [1] * 3 + [0.5] * 2, 6),
    }
    yield "gradient", _file(header(3, **slopes))
    yield "gradient_sum", _file(header(3, blend=Blend.SUM, top_k=0, relative_reach2=INF, **slopes))
    unlit = (Group(channels=3, alpha=Alpha.STRAIGHT), Group(channels=1, name="grey"), Group(channels=2, name="uv"))
    wide = Quantizer.uniform([0] * 6 + [-0.5] * 2, [1] * 6 + [0.5] * 2, 6)
    yield "gradient_groups", _file(header(6, primitive=Primitive.GRADIENT, groups=unlit, feature=wide))
    head = header(top_k=2)
    codes = random_codes(head, 3)
    same = np.repeat(codes[:1], 5, axis=0)
    same[:, 5] = [1, 40, 20, 60, 33]  # five of one shape: the first two of the file count
    yield "ties", write(head, [[same[:2], same[2:]]], codec=Codec.RAW)
    sparse = header(scale=Quantizer.uniform(-3, -2, 4, shared=True, columns=2))
    yield "holes", _file(sparse, 4)
    rgba = Group(channels=4, alpha=Alpha.PREMULTIPLIED, colour=Colour.RGB, gamma=2.2)
    yield "premultiplied_gamma", _file(header(4, groups=(rgba,)))
    maps = (
        Group(channels=4, alpha=Alpha.STRAIGHT, colour=Colour.RGB, name="albedo"),
        Group(channels=3, transfer=Transfer.LINEAR, bit_depth=16, colour=Colour.NORMAL, name="normal"),
        Group(channels=1, transfer=Transfer.LINEAR, bit_depth=32, colour=Colour.GREY, gamma=0.5, name="höhe"),
    )
    yield "groups", _file(header(8, groups=maps))
    light = (
        Group(channels=2, transfer=Transfer.PQ, bit_depth=32, name="pq"),
        Group(channels=3, transfer=Transfer.LOG, bit_depth=32, alpha=Alpha.PREMULTIPLIED, gamma=0.75, name="log"),
        Group(channels=1, transfer=Transfer.LOG, bit_depth=32, name="signed"),
    )
    # Beyond what the curves take, and below 0 where there is a sign.
    feature = Quantizer.uniform([-0.2] * 2 + [0] * 3 + [-6], [1.2] * 2 + [1] * 3 + [6], 6)
    head = header(6, groups=light, feature=feature)
    yield "transfers", write(head, [[_with_features(random_codes(head, 8), 4)]], codec=Codec.RAW)
    dark = header(groups=(Group(channels=1, gamma=2.0),), feature=Quantizer.uniform(-0.5, 1, 6))
    yield "gamma_below_0", write(dark, [[_with_features(random_codes(dark, 8), 1)]], codec=Codec.RAW)
    clear = header(
        4,
        groups=(dataclasses.replace(rgba, gamma=0.5),),
        background=(0.25, 0, 0, 0),
        scale=Quantizer.uniform(-3, -2, 4, shared=True, columns=2),
    )
    yield "premultiplied_clear", _file(clear, 12)  # alpha 0, and colour where it is, between the Gaussians
    yield "channels_64", _file(header(64, feature=Quantizer.uniform(0, 1, 3, shared=True, columns=64)), 4)


def two_stage_file() -> bytes:
    """4097 chunks of one Gaussian, the fewest that make two stages: a coarse lattice of 300, then a fine one.

    The first level ends within a block of the index, and the last block holds a single entry.
    """
    head = header(
        3,
        width=160,
        height=104,
        position=Quantizer.uniform(0, 255.5, 9, shared=True, columns=2),
        feature=Quantizer.uniform(0, 1, 4, shared=True, columns=3),
        background=(0.25, 0.5, 0.75),
    )
    levels = []
    for pitch, columns, n, wide in ((8, 20, 300, 15), (2, 73, 3797, 6)):
        row, column = np.divmod(np.arange(n), columns)
        codes = np.zeros((n, head.code_columns), np.uint32)
        codes[:, 0], codes[:, 1] = 2 * pitch * column + pitch, 2 * pitch * row + pitch  # half pixels
        codes[:, 2], codes[:, 3] = wide, wide - 2 - row % 3
        codes[:, 4] = column % 16
        codes[:, 5], codes[:, 6], codes[:, 7] = column % 16, row % 16, (column + row) // 2 % 16
        levels.append(list(codes[:, None, :]))
    return write(head, levels, codec=Codec.RAW)


def _containers() -> Iterator[tuple[str, bytes]]:
    head = header(3)
    yield "zstd", write(head, [[np.repeat(random_codes(head, 20), 10, axis=0)]], codec=Codec.ZSTD)
    small = header()
    codes = random_codes(small, 3)
    content = zstd_content(encode_zstd(codes, small.code_bits), 3 * plane_bytes(small.code_bits))
    # One raw block; a descriptor with a one-byte Dictionary_ID, which is 0, and a one-byte content size.
    frame = b"\x28\xb5\x2f\xfd\x21\x00" + bytes([len(content)]) + struct.pack("<I", len(content) << 3 | 1)[:3] + content
    yield "zstd_dictionary_0", with_payload(write(small, [[codes]], codec=Codec.RAW), frame, codec=Codec.ZSTD)
    yield "chunks", write(head, [[random_codes(head, 5, s) for s in range(4)]], codec=Codec.RAW)
    sections = {
        "soft": b"conformance",
        "json": b'{"title": "' + b"x" * 300 + b'"}',
        "abcd": b"\0\1",
        "wxyz": bytes(280),
    }
    yield "sections", write(head, [[random_codes(head, 4)]], codec=Codec.RAW, sections=sections)
    two_stage = two_stage_file()
    yield "two_stage", two_stage
    yield "two_stage_partial", two_stage[: head_of(two_stage).level_ends[0]]
    for mode in LevelMode:
        leveled = header(3, level_mode=mode)
        levels = [[random_codes(leveled, 3)], [random_codes(leveled, 4, 1), random_codes(leveled, 2, 2)]]
        data = write(leveled, levels, codec=Codec.RAW, sections={"json": b'{"title": "' + b"x" * 300 + b'"}'})
        name = mode.name.lower()
        yield f"levels_{name}", data
        yield f"levels_{name}_partial", data[: head_of(data).level_ends[0]]
        if mode == LevelMode.RESIDUAL:
            sparse = dataclasses.replace(leveled, scale=Quantizer.uniform(-3, -1, 4, shared=True, columns=2))
            levels = [[random_codes(sparse, 4, seed)] for seed in (3, 4)]
            yield "levels_residual_holes", write(sparse, levels, codec=Codec.RAW)
        if mode == LevelMode.UNION:
            yield "levels_union_without_tail", data[: head_of(data).level_ends[1]]


def _coded() -> Iterator[tuple[str, bytes]]:
    """Files with lattice quantisers, and entropy-coded plain ones."""
    head = lattice_header()
    yield "lattice", write(head, [[random_codes(head, 8)]])
    grey = lattice_header(1, reach2=1024.0, box_shift=0)
    assert grey.lattice is not None
    grey = dataclasses.replace(grey, lattice=dataclasses.replace(grey.lattice, ratio_spread=208))
    codes = quantize(grey, [[8, 6], [3, 3]], [[11, 1], [2, 1]], [[0.3], [0.8]], [[1], [0]])
    yield "lattice_open_boxes", write(grey, [[codes]])
    rgba = Group(channels=4, alpha=Alpha.PREMULTIPLIED, colour=Colour.RGB)
    head = lattice_header(4, groups=(rgba,), level_mode=LevelMode.UNION)
    levels = [[random_codes(head, 5)], [random_codes(head, n, n) for n in (1, 20, 3)]]
    yield "lattice_levels", write(head, levels)
    sloped = {"primitive": Primitive.GRADIENT, "feature": Quantizer.uniform(0, 1, 6, shared=True, columns=5)}
    head = lattice_header(3, **sloped)
    yield "lattice_gradient", write(head, [[random_codes(head, 9)]])
    plain = header(
        3, position=Quantizer.uniform([-1, 0], [17, 13], 11), feature=Quantizer.affine([1, 0, 0], [-1, 1, 1], 1)
    )
    yield (
        "columns",
        write(plain, [[np.repeat(random_codes(plain, 5), 6, axis=0), random_codes(plain, 2)]], codec=Codec.COLUMNS),
    )


def _parts() -> Iterator[tuple[str, bytes]]:
    """Groups with Gaussians of their own: parts whose groups interleave, of other features, parameters and lattices."""
    rgba = Group(channels=4, alpha=Alpha.PREMULTIPLIED, colour=Colour.RGB, gamma=2.2, name="albedo")
    grey = [Group(channels=1, transfer=Transfer.LINEAR, colour=Colour.GREY, name=name) for name in ("ao", "height")]
    first = header(5, groups=(rgba, grey[1]), background=(0.25, 0.5, 0.75, 1, 0.125))
    second = header(groups=(grey[0],), position=Quantizer.uniform(-2, 18, 5, shared=True, columns=2))
    sections = {"soft": b"conformance", "json": b'{"title": "' + b"x" * 300 + b'"}'}
    files = [
        write(first, [[random_codes(first, 5), random_codes(first, 3, 1)]], codec=Codec.RAW),
        write(second, [[random_codes(second, 6, 2)]], codec=Codec.RAW),
    ]
    yield "parts", join(files, [[0, 2], [1]], sections)
    sloped = {"primitive": Primitive.GRADIENT, "feature": Quantizer.uniform(0, 1, 6, shared=True, columns=5)}
    heads = [
        lattice_header(3, groups=(Group(channels=3, colour=Colour.RGB, name=name),), **sloped) for name in ("a", "b")
    ]
    assert heads[1].lattice is not None
    heads[1] = dataclasses.replace(heads[1], lattice=dataclasses.replace(heads[1].lattice, position=14, ycbcr=False))
    yield "parts_lattice", join([write(h, [[random_codes(h, 9, n)]]) for n, h in enumerate(heads)])


def _exact() -> Iterator[tuple[str, bytes]]:
    """Numbers at which another rounding, another clamp or another order gives other Gaussians, or lets others count."""
    q = Quantizer
    far = header(position=q.float32(2), reach2=9.0)
    ties = 3 + np.array([1, 3, -1, -3]) * 2.0**-15  # between two units of the mean: upwards
    position = np.stack([np.append(ties, [-1e5, 1e5, 70000]), np.append(-ties, [4, -1e5, 1e5])], axis=1)
    codes = quantize(far, position, [[1, 0]] * 7, [[0.125]] * 7, [[v / 8] for v in range(7)])
    yield "means_rounded_and_clamped", write(dataclasses.replace(far, box_shift=0), [[codes]], codec=Codec.RAW)

    # 341 of 1023 is a third, and a third of hi between two units; k·(hi − lo) first would round to the other side.
    third = header(position=q.uniform(0, 9.001739501953125, 10, shared=True, columns=2), reach2=1.0)
    codes = np.array([[341, 341, 8, 8, 0, 63], [682, 341, 8, 4, 3, 40]], np.uint32)
    yield "uniform_rounding", write(third, [[codes]], codec=Codec.RAW)

    beyond = {"reach2": 9.0, "box_shift": 0}
    raw = header(scale_map=ScaleMap.RAW, scale=q.float32(2), **beyond)
    codes = quantize(raw, [[8, 6], [3, 3]], [[2.0**17, -1.0], [2, 1]], [[0.3], [0.8]], [[1], [0.5]])
    yield "scale_raw_beyond", write(raw, [[codes]], codec=Codec.RAW)
    inverse = header(scale_map=ScaleMap.INVERSE, scale=q.uniform(-2, 2, 8, shared=True, columns=2), **beyond)
    codes = quantize(inverse, [[8, 6], [3, 3]], [[0.5, -1.0], [0.25, 1.5]], [[0.3], [0.8]], [[1], [0.5]])
    yield "scale_inverse_below_0", write(inverse, [[codes]], codec=Codec.RAW)

    # Exponents and angles in steps of 2^-50, at which the last bit of exp2, cospi and sinpi decides a factor's.
    scale = q.affine([2.3758020401000977, 0], [2.0**-50, 0], 32)
    fine = header(scale=scale, rotation=q.affine(0, 0, 1), reach2=1.0)
    codes = np.array([[5, 5, 59698147, 0, 0, 63], [9, 9, 2**32 - 1, 0, 0, 9]], np.uint32)
    yield "exp2_last_bit", write(fine, [[codes]], codec=Codec.RAW)
    turn = q.affine(0.3895229995250702, 2.0**-50, 32)
    fine = header(scale=q.affine([1, -1], 0, 1), rotation=turn, reach2=1.0)
    codes = np.array([[5, 5, 0, 0, 27532756, 63], [9, 9, 0, 0, 2**31, 9]], np.uint32)
    yield "cospi_last_bit", write(fine, [[codes]], codec=Codec.RAW)

    # Sizes and places at which the last bit of log2 decides a unit of the mean.
    record = Lattice(
        100, 16, 12, 8, (32,), False, ValueModel(2, 0, 0, 208), 200, (ValueModel(0, 0, 0, 180),), (0,) * 16
    )
    long = lattice_header(1, width=32768, height=16, reach2=2.0**-12)
    codes = np.array([[6454761, 0, 102, 0, 0, 5], [4053146, 0, 113, 0, 0, 9]], np.uint32)
    yield "log2_last_bit", write(dataclasses.replace(long, lattice=record), [[codes]])

    # A picture as wide as can be (limits: expected.py), for points beyond the last that there is.
    widest = header(width=65536, position=q.float32(2))
    codes = quantize(widest, [[65535.5, 6], [65530, 6]], [[0, 0]] * 2, [[0]] * 2, [[1], [0.5]])
    yield "widest", write(widest, [[codes]], codec=Codec.RAW)

    # The points of this one were searched: at each a fused or reordered d2, one in binary64, a rounded X − Mx that is
    # a difference of rounded numbers, or a dmin + Q² that isn't rounded lets others count (expected.py).
    head = header(
        width=2000,
        height=64,
        top_k=2,
        position=q.affine([1400, 0], 1 / 16, 11),
        scale=q.uniform(0, 3, 6, shared=True, columns=2),
        rotation=q.affine(0, 1 / 64, 6),
        feature=q.uniform(0, 1, 4),
    )
    rng = np.random.default_rng(11)
    drawn = [rng.integers(0, most, 12) for most in (1600, 1000, 64, 64, 64)]
    codes = np.stack([*drawn, np.arange(12)], axis=1).astype(np.uint32)
    yield "d2_at_borders", write(head, [[codes]], codec=Codec.RAW)

    # π·R²·D is above what the entry says by less than 2^-20 of it.
    wide = header(scale_map=ScaleMap.RAW, scale=q.float32(2))
    codes = quantize(wide, [[8, 6]], [[2.5532312393188477] * 2], [[0]], [[1]])
    data = write(wide, [[codes]], codec=Codec.RAW)
    at = head_of(data).index_offset + 14
    yield "reach_area_within_tolerance", patch(data, at, "H", struct.unpack("<I", struct.pack("<f", 512.0))[0] >> 16)

    small = {"scale": q.uniform(-2, -1, 1, shared=True, columns=2), "position": q.affine([2.5, 5.5], 4, 2)}
    faint = (Group(channels=2, alpha=Alpha.PREMULTIPLIED), Group(channels=1, transfer=Transfer.LOG, name="log"))
    head = header(3, groups=faint, background=(0.25, 1, -0.5), feature=q.float32(3), **small)
    values = [[0.25, 2.0**-10, -0.25], [2.0**-11, 2.0**-8, 0.25], [0.5, -0.5, -1]]  # alpha about 2^-9, and below 0
    codes = quantize(head, [[2.5, 5.5], [6.5, 5.5], [10.5, 5.5]], [[-1, -1]] * 3, [[0]] * 3, values)
    yield "faint_alpha_and_negative_log", write(head, [[codes]], codec=Codec.RAW)


def _long() -> Iterator[tuple[str, bytes]]:
    """Chunks in which contexts are halved, decisions nearly certain, and raw bits more than 16."""
    q = Quantizer
    plain = header(
        position=q.affine([4, 4], 2.0**-32, 32), feature=q.uniform(0, 1, 1), rotation=q.affine(0, 0.5, 1), reach2=1.0
    )
    codes = np.zeros((3000, 6), np.uint32)
    codes[:, :2] = 2**31 + 12345
    codes[::97, 0] = np.random.default_rng(7).integers(0, 2**32, len(codes[::97]))
    codes[:, 2:4] = 3
    codes[2500:2503, 4] = 1
    codes[:, 5] = 1
    codes[2900, 5] = 0
    yield "columns_long", write(plain, [[codes]], codec=Codec.COLUMNS)
    tight = ValueModel(0, 32, 8, 140), ValueModel(1, 32, 0, 150)
    record = Lattice(20, 0, 0, 0, (16,), False, tight[0], 130, (tight[1],), tuple(range(16)))
    yield "lattice_1000", _chosen(record, 1, 0, 1000, width=256, height=256)


def _chosen(
    record: Lattice,
    channels: int,
    seed: int,
    count: int,
    extremes: float = 0.07,
    trim: bytes = bytes(4),
    **changes: Any,
) -> bytes:
    """A file of symbols drawn at random; the seed is one with which no MUST is contradicted."""
    coder = Chooser(seed, extremes=extremes)
    head = dataclasses.replace(lattice_header(channels, **changes), lattice=record, box_shift=0)
    data = chosen_file(head, count, coder, trim=trim)
    assert not coder.refused
    return data


def _extremes() -> Iterator[tuple[str, bytes]]:
    """Lattice records at their ends, and grids that are: see which bound of §5.3 and §6.4 each reaches."""
    model = ValueModel
    weights = tuple(range(16))
    # Cells of three and more, and neighbours at all distances: their order and number matter.
    close = Lattice(24, 4, 10, 8, (16,), False, model(1, 63, 8, 176), 170, (model(2, 63, 0, 192),), weights)
    yield "lattice_neighbours", _chosen(close, 1, 2, 100, 0.15, width=64, height=48)
    # ρ ≤ 128, 12 octaves, λ1 ≤ 15, φ ≥ 2^-6, (mean + 12·spread)/2 ≤ 7; a number below 1025.
    colours = model(1, 40, 0, 200), model(2, 20, 3, 210), model(0, 63, -3, 190)
    coarse = Lattice(24, 0, 0, 8, (8, 12, 10), True, model(0, 20, 4, 255), 255, colours, weights)
    yield "lattice_coarse", _chosen(coarse, 3, 12, 24, 0.25, width=96, height=64, reach2=2.0**-12)
    # 8191 of both sizes, 2^18 angles, a span of 16384; a number below 16388.
    fine = Lattice(90, 120, 100, 255, (255,), False, model(2, 20, 4, 250), 240, (model(0, 40, 0, 120),), weights[::-1])
    yield "lattice_fine", _chosen(fine, 1, 5, 40, 0.1, width=96, height=64, reach2=2.0**-12)
    # A grid of 1024 columns whose height is 0 but for its bound.
    flat = dataclasses.replace(close, position=60)
    yield "lattice_flat", _chosen(flat, 1, 4, 20, 0.1, bytes([3, 128, 9, 128]), width=8192, height=1)
    head = lattice_header(1)
    assert head.lattice is not None
    head = dataclasses.replace(head, lattice=dataclasses.replace(head.lattice, ycbcr=True))
    yield "lattice_ycbcr_without_rgb", write(head, [[random_codes(head, 3)]])
    two = tuple(Group(channels=3, colour=Colour.RGB, name=name) for name in "ab")
    head = lattice_header(6, groups=two)
    assert head.lattice is not None
    head = dataclasses.replace(head, lattice=dataclasses.replace(head.lattice, ycbcr=True))
    yield "lattice_two_rgb", write(head, [[random_codes(head, 4)]])
