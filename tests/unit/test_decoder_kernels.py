"""The decoder's kernels against the reference: who counts to the bit, values within the tolerance of spec §7.

Membership is seen through one-hot features: with channel i belonging to Gaussian i alone, a value above 0 in channel i
says that Gaussian i counts (no weight is rounded to 0: exponents are clamped at 2^-125).
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from decoder_cases import (
    GRADIENT,
    SUM,
    TOLERANCE,
    expected_counts,
    expected_values,
    float_header,
    grid_points,
    random_gaussians,
)

import igs
from igs.decoder import bins, blend, coverage, grid, holes, reference, render, strips
from igs.decoder.jit import kernel
from igs.decoder.rule import Rule, Splats
from igs.decoder.simd import load
from igs.format import (
    Alpha,
    Blend,
    Gaussians,
    Limits,
    Primitive,
    dequantize,
    quantize,
    write,
)

WIDTH, HEIGHT = 40, 29
make_header = functools.partial(float_header, width=WIDTH, height=HEIGHT)


def make_gaussians(header, position, scale, rotation=None, feature=None) -> Gaussians:
    n = len(position)
    rotation = np.zeros((n, 1)) if rotation is None else np.reshape(rotation, (n, 1))
    feature = np.eye(n, header.channels) if feature is None else feature
    return dequantize(header, quantize(header, position, scale, rotation, feature))


RULES = [
    {"top_k": k, "reach2": r2, "relative_reach2": q2}
    for k, r2, q2 in itertools.product((1, 2, 10, 32), (0.02, 9.0, 25.0), (0.0, 9.0, np.inf))
] + [
    {"top_k": 5, "reach2": 1024.0, "relative_reach2": np.inf},
    {"blend": Blend.SUM, "top_k": 0, "reach2": 9.0, "relative_reach2": np.inf},
    {"blend": Blend.SUM, "top_k": 0, "reach2": 60.0, "relative_reach2": np.inf},
]


@pytest.mark.parametrize("fields", RULES, ids=str)
def test_the_same_gaussians_count(fields):
    header = make_header(60, **fields)
    gaussians = random_gaussians(header, 60, seed=1)
    counts = expected_counts(header, gaussians, grid_points(header))
    assert counts.any()
    assert np.array_equal(render(header, gaussians).reshape(-1, 60) > 0, counts)


@pytest.mark.parametrize(
    ("smallest", "largest", "elongation"),
    [(2.0**-6, 2.0**-6, 1.0), (0.02, 200.0, 4096.0), (2.0**10, 2.0**15, 4096.0), (2.0**15, 2.0**15, 1.0)],
)
@pytest.mark.parametrize("fields", [{"reach2": 25.0, "relative_reach2": 9.0}, {"reach2": 9.0, "top_k": 3}], ids=str)
def test_extreme_shapes(smallest, largest, elongation, fields):
    header = make_header(60, **fields)
    gaussians = random_gaussians(header, 60, 2, smallest, largest, elongation)
    counts = expected_counts(header, gaussians, grid_points(header, 2.0))
    assert np.array_equal(render(header, gaussians, scale=2.0).reshape(-1, 60) > 0, counts)


@pytest.mark.parametrize(
    ("channels", "fields", "scale"),
    [
        *itertools.product([1, 2, 3, 4, 7, 64], [{}, SUM], [1.0, 2.7, 0.5, 0.3, 1 / 23]),
        *itertools.product([1, 3, 5], [GRADIENT, GRADIENT | SUM], [1.0, 2.7, 0.3]),
        *((n, GRADIENT | {"alpha": Alpha.STRAIGHT}, 1.0) for n in (2, 3, 4)),
    ],
    ids=str,
)
def test_values(channels, fields, scale):
    header = make_header(channels, background=np.linspace(-0.5, 2, channels), **fields)
    rng = np.random.default_rng(3)
    gaussians = random_gaussians(header, 90, 3, feature=rng.normal(0.5, 1.0, (90, header.features)))
    samples = grid.make_grid(0, 0, WIDTH, HEIGHT, scale, WIDTH, HEIGHT)
    n = samples.reduction
    values = expected_values(header, gaussians, grid_points(header, scale))
    values = values.reshape(samples.rows, n, samples.columns, n, channels).mean(axis=(1, 3))
    size = max(1.0, float(np.abs(gaussians.features[:, :channels]).max()))
    if header.primitive == Primitive.GRADIENT:
        size += 5 * float(np.abs(gaussians.features[:, channels:]).sum(axis=1).max())
    weight = 1.0
    if header.blend == Blend.SUM:
        d2 = reference.squared_distances(gaussians.means, gaussians.factors, grid_points(header, scale))
        weight = max(1.0, float(np.exp(-0.5 * np.where(d2 <= 25, d2, np.inf)).sum(axis=1).max()))
    found = render(header, gaussians, scale=scale)
    assert found.shape == values.shape
    assert np.abs(found - values).max() <= TOLERANCE * size * weight


def test_a_gradient_is_colour_per_deviation_and_leaves_alpha_alone():
    header = make_header(2, primitive=Primitive.GRADIENT, alpha=Alpha.STRAIGHT)
    one = make_gaussians(header, [[20.5, 14.5]], [[4.0, 4.0]], feature=[[0.5, 0.75, 0.25, -0.125]])
    found = render(header, one)
    assert found[14, 20].tolist() == [0.5, 0.75]
    assert found[14, 24].tolist() == [0.75, 0.75]  # one deviation along x
    assert found[18, 20].tolist() == [0.375, 0.75]  # one along y
    with igs.open(write(header, [quantize(header, [[20.5, 14.5]], [[4.0, 4.0]], [[0]], one.features)])) as image:
        assert image.pixel(24, 14).tolist() == [0.75, 0.75]


@pytest.mark.parametrize("top_k", [1, 3, 6])
def test_ties_go_to_the_lower_index(top_k):
    header = make_header(12, top_k=top_k)
    # Twelve copies of one Gaussian, in the order of their channels: the first K count everywhere that they reach.
    gaussians = make_gaussians(header, np.tile([20.25, 14.0], (12, 1)), np.tile([3.0, 1.5], (12, 1)), np.full(12, 0.1))
    found = render(header, gaussians)
    reached = found.any(axis=2)
    assert reached.any()
    assert not reached.all()
    assert np.array_equal(found[reached] > 0, np.tile(np.arange(12) < top_k, (reached.sum(), 1)))


def test_ties_between_mirror_images():
    header = make_header(8, top_k=3)
    # On the middle column all eight are equally far; which three count depends on the index alone.
    position = [[20.5 + 4 * (-1) ** i, 14.5] for i in range(8)]
    gaussians = make_gaussians(header, position, np.full((8, 2), 2.0))
    found = render(header, gaussians)[:, 20]
    assert np.array_equal(found[14] > 0, np.arange(8) < 3)


# σ = 1 px on a pixel's centre: d2 at pixel centres is an exact integer.
EDGE_CASES = [
    ({"reach2": 9.0}, 3, True),
    ({"reach2": float(np.nextafter(np.float16(9), np.float16(0)))}, 3, False),
    ({"reach2": 25.0, "relative_reach2": np.inf}, 5, True),
]


@pytest.mark.parametrize(("fields", "distance", "inside"), EDGE_CASES, ids=str)
def test_points_on_the_edge_of_the_reach(fields, distance, inside):
    header = make_header(1, **fields)
    found = render(header, make_gaussians(header, [[20.5, 14.5]], [[1.0, 1.0]]))[..., 0]
    for x, y in ((distance, 0), (-distance, 0), (0, distance), (0, -distance)):
        assert (found[14 + y, 20 + x] > 0) == inside
    assert found[14, 20 + distance + 1] == 0


@pytest.mark.parametrize("beyond", [False, True])
def test_points_on_the_edge_of_the_relative_reach(beyond):
    # At the column of the first Gaussian dmin = 1 (one pixel above) and the second is at d2 = 10: Q² = 9 just takes it.
    relative = np.float16(9.0)
    header = make_header(2, reach2=25.0, relative_reach2=np.nextafter(relative, np.float16(0)) if beyond else relative)
    gaussians = make_gaussians(header, [[10.5, 10.5], [13.5, 10.5]], np.ones((2, 2)))
    found = render(header, gaussians)
    assert found[9, 10, 0] > 0
    assert (found[9, 10, 1] > 0) == (not beyond)


def test_background_where_nothing_reaches():
    header = make_header(2, background=(0.25, -3.0))
    found = render(header, make_gaussians(header, [[5.0, 5.0]], [[0.5, 0.5]], feature=[[1.0, 1.0]]))
    assert np.array_equal(found[20, 30], [0.25, -3.0])
    assert np.array_equal(found[5, 5], [1.0, 1.0])


def test_flat_colour_is_exact():
    """All features equal: the value is that number wherever anything reaches, to one rounding of the quotient."""
    header = make_header(3)
    gaussians = random_gaussians(header, 200, 5, feature=np.full((200, 3), 0.5))
    assert np.abs(render(header, gaussians) - 0.5).max() <= 2.0**-23


def test_more_entries_than_a_segment_holds():
    """A tile row whose lists do not fit at once is done in several runs of tiles."""
    header = make_header(1, width=512, height=3, blend=Blend.SUM, top_k=0, relative_reach2=np.inf)
    n = bins.SEGMENT_ENTRIES // 20
    rng = np.random.default_rng(6)
    position = rng.uniform(0, 1, (n, 2)) * [512, 3]
    gaussians = make_gaussians(header, position, np.full((n, 2), 200.0), feature=rng.uniform(0, 1 / n, (n, 1)))
    points = grid_points(header)[::37]
    found = render(header, gaussians).reshape(-1, 1)[::37]
    assert np.abs(found - expected_values(header, gaussians, points)).max() <= TOLERANCE


@pytest.mark.parametrize("scale", [1.5, 0.4, 1 / 20])
def test_bands_change_nothing(monkeypatch, scale):
    header = make_header(3)
    gaussians = random_gaussians(header, 150, 7, feature=np.random.default_rng(7).uniform(0, 1, (150, 3)))
    whole = render(header, gaussians, scale=scale)
    monkeypatch.setattr(bins, "BAND_ENTRIES", 20)
    assert np.array_equal(render(header, gaussians, scale=scale), whole)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(threads, monkeypatch):
    monkeypatch.setattr(strips, "STRIP_SAMPLES", 64)  # many pieces even for a small picture
    header = make_header(3)
    gaussians = random_gaussians(header, 150, 8, feature=np.random.default_rng(8).uniform(0, 1, (150, 3)))
    alone = render(header, gaussians, scale=0.7, threads=1)
    assert np.array_equal(render(header, gaussians, scale=0.7, threads=threads), alone)


@pytest.mark.parametrize("subdivision", [1, 3, 4])
def test_holes(subdivision):
    header = make_header(1, reach2=9.0)
    gaussians = random_gaussians(header, 25, 9)
    points = grid_points(header, subdivision)
    empty = ~expected_counts(header, gaussians, points).any(axis=1)
    assert empty.any()
    assert not empty.all()
    found = holes(header, gaussians, subdivision)
    columns = WIDTH * subdivision
    index = np.flatnonzero(empty)
    assert np.array_equal(found, (np.stack([index % columns, index // columns], axis=1) + 0.5) / subdivision)
    assert np.array_equal(coverage.holes(header, gaussians, subdivision, limit=5), found[:5])


def test_no_holes():
    header = make_header(1)
    found = holes(header, make_gaussians(header, [[20.0, 14.0]], [[50.0, 50.0]]))
    assert found.shape == (0, 2)


def test_no_gaussians_at_all():
    header = make_header(2, background=(0.5, 0.25))
    nobody = Splats(np.empty((2, 0), np.int32), np.empty((3, 0), np.float32), np.empty((0, 2), np.float32))
    samples = grid.make_grid(0, 0, 5, 4, 1, WIDTH, HEIGHT)
    out = np.empty((4, 5, 2), np.float32)
    strips.render_strips([(nobody, Rule.of(header))], samples, 1, lambda top, strip: None, out)
    assert np.array_equal(out, np.broadcast_to([0.5, 0.25], out.shape).astype(np.float32))


@pytest.mark.parametrize("fields", [{"top_k": 4}, {"blend": Blend.SUM, "top_k": 0, "relative_reach2": np.inf}], ids=str)
@pytest.mark.parametrize(("copies", "primitive"), [(1, 0), (3, 0), (1, 1)])
def test_crowds(fields, copies, primitive):
    """More candidates in one place than scratch memory is kept for: the same values on every path, ties included."""
    header = make_header(3, width=9, height=7, reach2=9.0, primitive=Primitive(primitive), **fields)
    n = (blend.CROWD + 300) // copies
    rng = np.random.default_rng(10)
    position = np.tile(rng.uniform(0, 1, (n, 2)) * [9, 7], (copies, 1))
    scale = np.tile(rng.uniform(1.5, 9, (n, 2)), (copies, 1))
    feature = rng.uniform(0, 1, (n * copies, header.features)) * (1 if header.blend == Blend.TOPK else 1e-3)
    gaussians = make_gaussians(header, position, scale, feature=feature)
    found = render(header, gaussians).reshape(-1, 3)
    points = grid_points(header)
    d2 = reference.squared_distances(gaussians.means, gaussians.factors, points)
    assert (d2 <= 9).sum(axis=1).max() > blend.CROWD / 4
    assert np.abs(found - expected_values(header, gaussians, points)).max() <= TOLERANCE * 10
    codes = quantize(header, position, scale, np.zeros((len(position), 1)), feature)
    with igs.open(write(header, [[codes]]), limits=Limits(reach_ratio=np.inf)) as image:
        centres = points / 2.0**14
        assert np.array_equal(image.sample(centres), found)
        assert np.array_equal(image.sample(np.tile(centres, (40, 1))), np.tile(found, (40, 1)))


def test_a_crowd_is_blended_like_any_other():
    """``blend_crowd`` and ``blend`` agree to the bit."""

    @kernel
    def crowd(means, factors, features, members, xs, ys, rule, top_k, is_sum, ranks, out):
        blend.blend_crowd(
            means,
            factors,
            features,
            members,
            0,
            len(members),
            load(xs, 0),
            load(ys, 0),
            rule,
            top_k,
            is_sum,
            ranks,
            out,
        )

    every = ({"top_k": 3}, {"top_k": 32, "relative_reach2": 1.0}, {"blend": Blend.SUM, "top_k": 0})
    for fields in (f | {"primitive": p} for f in every for p in Primitive):
        header = make_header(3, **({"relative_reach2": np.inf} | fields), background=(0.5, 0.25, 0.125))
        feature = np.random.default_rng(11).uniform(0, 1, (40, header.features))
        once = random_gaussians(header, 40, 11, feature=feature)
        gaussians = Gaussians.concatenate([once, once])
        splats, rule = Splats.of(gaussians), Rule.of(header)
        expected = render(header, gaussians)
        out, ranks = np.empty((3, 16), np.float32), np.empty(32 * 16, np.float32)
        samples = grid.make_grid(0, 0, WIDTH, HEIGHT, 1, WIDTH, HEIGHT)
        for row in range(HEIGHT):
            ys = np.full(16, samples.ys[row], np.int32)
            members = np.arange(80, dtype=np.int32)
            arguments = (rule.floats, rule.top_k, rule.sum_blend, ranks, out)
            crowd(splats.means, splats.factors, splats.features, members, samples.xs[:16], ys, *arguments)
            assert np.array_equal(out.T, expected[row, :16])
