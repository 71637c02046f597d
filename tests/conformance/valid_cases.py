"""Valid files, one per feature: name → bytes. What they look like, the decoder's reference says (generate.py)."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator

import numpy as np
from vectors import head_of, header, lattice_header, random_codes, with_payload

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
