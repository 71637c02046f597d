"""What the Image refuses: arguments that make no sense, use after close, damaged chunks."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from files import payload_ranges
from image_cases import HEIGHT, WIDTH, large_file, make_file, make_header

import igs
from igs import format
from igs.format import Codec
from igs.format.errors import InvalidFile, LimitExceeded, UsageError


@pytest.mark.parametrize(
    "arguments",
    [
        (-1, 0, 5, 5),
        (0, 0, WIDTH + 1, 5),
        (0, 0.5, 5, HEIGHT),
        (0, 0, 0, 5),
        (0, 0, 5, -2),
        (0, 0, math.nan, 5),
        (math.inf, 0, 5, 5),
        ("a", 0, 5, 5),
        (0, 0, 5, 5, 0),
        (0, 0, 5, 5, -1),
        (0, 0, 5, 5, math.nan),
        (0, 0, 5, 5, 1e30),
        (0, 0, 5, 5, 1e-30),
        (0, 0, 5, 5, None),
        (0, 0, 5, 5, 1, "uint32"),
        (0, 0, 5, 5, 1, "no such type"),
        (0, 0, 5, 5, 1, None),
    ],
)
def test_bad_regions(arguments):
    with igs.open(make_file(make_header())) as image, pytest.raises(UsageError, match=r"expected .* found"):
        image.region(*arguments)


@pytest.mark.parametrize("x", [-1, WIDTH, 0.5, math.nan, math.inf, None, "1", 10**400])
def test_bad_pixels(x):
    with igs.open(make_file(make_header())) as image, pytest.raises(UsageError, match=r"expected .* found"):
        image.pixel(x, 0)


@pytest.mark.parametrize(
    "points", [[[math.nan, 0]], [[0, math.inf]], [[0, 0]] * 600 + [[0, -math.inf]], [1, 2], [[1, 2, 3]], "ab", None, 5]
)
def test_bad_points(points):
    with igs.open(make_file(make_header())) as image, pytest.raises(UsageError, match=r"expected .* found"):
        image.sample(points)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
def test_bad_threads(threads):
    with pytest.raises(UsageError, match="threads"):
        igs.open(make_file(make_header()), threads=threads)


def test_after_close():
    image = igs.open(make_file(make_header()))
    image.pixel(0, 0)
    image.close()
    image.close()
    for use in (image.decode, lambda: image.pixel(0, 0), lambda: image.sample([[0, 0]]), lambda: image.metadata):
        with pytest.raises(UsageError, match="closed"):
            use()
    with pytest.raises(UsageError, match="closed"):
        image.__enter__()


def test_a_damaged_chunk_harms_only_what_needs_it():
    header, data = large_file(chunk_size=32, codec=Codec.RAW)
    with format.open_file(data) as reader:
        last = reader.num_chunks - 1
        needed = reader.chunks_in_box(1000, 740, 1024, 768)
        victim = int(needed[0])
        safe = next(
            (x, y) for x in range(0, header.width, 8) for y in range(0, header.height, 8)
            if victim not in reader.chunks_in_box(x + 0.5, y + 0.5, x + 0.5, y + 0.5)
        )  # fmt: skip
    offset, _ = payload_ranges(data)[victim]
    assert victim <= last
    damaged = bytearray(data)
    damaged[offset] ^= 1
    with igs.open(bytes(damaged)) as image, igs.open(data) as whole:
        assert np.array_equal(image.pixel(*safe), whole.pixel(*safe))
        for _ in range(2):  # again: nothing of the chunk was kept
            with pytest.raises(InvalidFile, match="E_CHUNK_CRC"):
                image.region(1000, 740, 24, 28)


def needles(count: int) -> bytes:
    """64² pixels, crossed from top to bottom by so many Gaussians of σ = 64 and 1/64 pixels, all in the same place."""
    header = format.Header(
        width=64, height=64, channels=1, groups=(format.Group(channels=1, colour=format.Colour.GREY),), background=(0,),
        position=format.Quantizer.affine([24.5, 32.0], [0.5, 0.5], 2),
        scale=format.Quantizer.affine([-6.0, 6.0], [0.0, 0.0], 1), rotation=format.Quantizer.affine(0.0, 0.0, 1),
        feature=format.Quantizer.affine(0.0, 1.0, 1), top_k=32, reach2=2.0, relative_reach2=math.inf,
    )  # fmt: skip
    codes = np.zeros((count, header.code_columns), np.uint32)
    codes[:, -1] = np.random.default_rng(0).integers(0, 2, count)  # bytes enough for so many
    return format.write(header, [np.array_split(codes, -(-count // 50_000))], codec=Codec.ZSTD)


def test_needles_are_refused_before_they_are_tried():
    """170 000 of them reach over 70 times the picture's area only, but each is to be tried in every row of tiles."""
    with igs.open(needles(170_000), threads=1) as image:
        for ask in (
            image.decode,
            lambda: image.region(24, 24, 1, 1, scale=64),
            lambda: image.sample(np.full((5000, 2), 24.5)),
        ):
            with pytest.raises(LimitExceeded, match=r"reach_ratio of at most 4096, found \d+") as caught:
                ask()
            assert caught.value.code == "E_LIMIT_REACH_RATIO"
        assert image.pixel(24, 24).shape == (1,)  # each of them once


@pytest.mark.parametrize("threads", [1, 2])
def test_the_limit_of_tries_is_the_users(threads):
    data = needles(3000)
    with igs.open(data, threads=threads, limits=igs.Limits(reach_ratio=30)) as image:
        with pytest.raises(LimitExceeded, match="reach_ratio of at most 30"):
            image.decode()
        with pytest.raises(LimitExceeded, match="reach_ratio of at most 30"):
            image.sample(np.full((2000, 2), 24.5))
    with igs.open(data, threads=threads) as image:
        assert image.decode().shape == (64, 64, 1)
        image.sample(np.full((2000, 2), 24.5))


def test_parts_share_the_limit_of_tries() -> None:
    """Needles that a picture of one part may have are too many where there are as many again in another part."""
    alone = needles(3000)
    with format.open_file(alone) as file:
        codes = [file.codes(chunk) for chunk in range(file.num_chunks)]
        groups = [dataclasses.replace(file.header.groups[0], name=name) for name in ("a", "b")]
        headers = [dataclasses.replace(file.header, groups=(group,)) for group in groups]
    limits = igs.Limits(reach_ratio=500)
    with igs.open(alone, limits=limits) as image:
        image.decode()
    joined = format.join([format.write(header, [codes], codec=Codec.ZSTD) for header in headers])
    with igs.open(joined, limits=limits) as image:
        for ask in (image.decode, lambda: image.sample(np.full((2000, 2), 24.5)), image.groups["b"].decode):
            with pytest.raises(LimitExceeded, match="reach_ratio of at most 250"):
                ask()


def test_what_is_crowded_elsewhere_is_not_counted() -> None:
    """Of 20 000 Gaussians in one chunk, all over the picture, those count that can reach what is asked for."""
    header = format.Header(
        width=400, height=300, channels=1, groups=(format.Group(channels=1, colour=format.Colour.GREY),),
        background=(0,), position=format.Quantizer.affine([0.0, 0.0], [400 / 65536, 300 / 65536], 16),
        scale=format.Quantizer.affine([0.0, 0.0], [1.0, 1.0], 1), rotation=format.Quantizer.affine(0.0, 0.0, 1),
        feature=format.Quantizer.affine(0.0, 1.0, 1), reach2=9.0,
    )  # fmt: skip
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 2, (20_000, header.code_columns)).astype(np.uint32)
    codes[:, :2] = rng.integers(0, 65536, (20_000, 2))
    with igs.open(format.write(header, [[codes]])) as image:
        expected = image.sample([[300.5, 200.5]])[0]
        assert np.array_equal(image.sample(np.full((5000, 2), (300.5, 200.5))), np.broadcast_to(expected, (5000, 1)))
        line = np.stack([np.full(3000, 100.25), np.linspace(50, 50.001, 3000)], axis=1)
        image.sample(line)
        image.sample(rng.uniform(-500, -400, (1000, 2)))  # left of and above the picture
        spots = np.repeat([[10.5, 10.5], [11.5, 10.5], [390.0, 290.0]], 1000, axis=0)
        assert np.array_equal(image.sample(spots)[::1000], image.sample(spots[::1000]))
        column = image.region(200, 0, 1, 300, dtype="float32")
        assert np.array_equal(column, image.decode(dtype="float32")[:, 200:201])
