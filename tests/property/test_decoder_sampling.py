"""Properties of sampling: pixel == region == full decode == sample == reference, for any file, region and scale."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

import igs
from igs import format
from igs.decoder import grid, reference
from igs.decoder.rule import Rule
from igs.format import Alpha, Blend, Codec, Group, Header, LevelMode, Limits, Primitive, Quantizer, ScaleMap


@st.composite
def headers(draw, level_modes=(LevelMode.UNION,)):
    channels = draw(st.sampled_from([1, 2, 3, 4, 6]))
    alpha = draw(st.sampled_from([Alpha.NONE, Alpha.STRAIGHT])) if channels > 1 else Alpha.NONE
    slopes = draw(st.sampled_from([0, 2]))  # feature columns besides the colours
    blend = draw(st.sampled_from(list(Blend)))
    topk = blend == Blend.TOPK
    width, height = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    return Header(
        width=width,
        height=height,
        channels=channels,
        groups=(Group(channels=channels, alpha=alpha),),
        primitive=Primitive.GRADIENT if slopes else Primitive.CONSTANT,
        background=tuple(draw(st.lists(st.floats(-1, 2, width=32), min_size=channels, max_size=channels))),
        # Few bits make ties and points on edges common: means on a grid, equal shapes.
        position=Quantizer.uniform([0, 0], [width, height], draw(st.sampled_from([2, 5, 16]))),
        scale=Quantizer.uniform(
            [-6, -6], draw(st.sampled_from([[3, 3], [8, 8], [15, 15]])), draw(st.sampled_from([2, 8]))
        ),
        rotation=Quantizer.uniform([0], [1], draw(st.sampled_from([1, 8]))),
        feature=Quantizer.uniform([0] * channels + [-1] * slopes, [1] * (channels + slopes), 8),
        scale_map=ScaleMap.LOG2,
        blend=blend,
        top_k=draw(st.integers(1, 32)) if topk else 0,
        reach2=draw(st.sampled_from([0.25, 4.0, 9.0, 25.0, 100.0, 1024.0])),
        relative_reach2=draw(st.sampled_from([0.0, 1.0, 9.0, math.inf])) if topk else math.inf,
        lowpass=draw(st.sampled_from([0.0, 0.3])),
        level_mode=draw(st.sampled_from(level_modes)),
    )


def open_image(content, threads=1):
    """Huge Gaussians in tiny pictures are wanted here."""
    return igs.open(content, threads=threads, limits=Limits(reach_ratio=math.inf))


def random_codes(header, n, seed):
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, 2**bits, n, dtype=np.uint32) for bits in header.code_bits], axis=1)


@st.composite
def files(draw, level_modes=(LevelMode.UNION,), max_levels=1):
    header = draw(headers(level_modes))
    levels = []
    for _ in range(draw(st.integers(1, max_levels))):
        codes = random_codes(header, draw(st.integers(1, 60)), draw(st.integers(0, 2**32)))
        cuts = sorted(draw(st.sets(st.integers(1, max(1, len(codes) - 1)), max_size=6)))
        levels.append([part for part in np.split(codes, cuts) if len(part)])
    return header, levels, format.write(header, levels, codec=draw(st.sampled_from(list(Codec))))


@st.composite
def regions(draw, width, height):
    """Whole pixels, or fractions of them."""
    unit = draw(st.sampled_from([1, 1, 4]))
    x0, x1 = sorted(draw(st.tuples(st.integers(0, width * unit), st.integers(0, width * unit))))
    y0, y1 = sorted(draw(st.tuples(st.integers(0, height * unit), st.integers(0, height * unit))))
    assume(x0 < x1 and y0 < y1)
    return x0 / unit, y0 / unit, (x1 - x0) / unit, (y1 - y0) / unit


@given(st.data(), files(list(LevelMode), 3), st.integers(1, 3))
def test_pixel_region_sample_and_decode_agree(data, file, threads):
    header, _, content = file
    with open_image(content, threads) as image, open_image(content) as other:
        whole = image.decode(dtype="float32")
        assert whole.shape == (header.height, header.width, header.channels)
        x, y, w, h = (int(v) for v in data.draw(regions(header.width, header.height)))
        assume(w and h)
        assert np.array_equal(other.region(x, y, w, h, dtype="float32"), whole[y : y + h, x : x + w])
        assert np.array_equal(other.pixel(x, y), whole[y, x])
        rows, columns = np.mgrid[: header.height, : header.width].reshape(2, -1)
        centres = np.stack([columns, rows], axis=1) + 0.5
        assert np.array_equal(
            other.sample(np.tile(centres, (2, 1))), np.tile(whole.reshape(-1, header.channels), (2, 1))
        )


@given(st.data(), files(), st.sampled_from([0.05, 0.25, 0.3, 0.5, 0.75, 1, 1.5, 2, 7.3, 40]))
def test_regions_are_sample_at_the_grid(data, file, scale):
    header, _, content = file
    x, y, w, h = data.draw(regions(header.width, header.height))
    assume(w * scale < 100 and h * scale < 100)
    with open_image(content) as image:
        found = image.region(x, y, w, h, scale, "float32")
        n = math.ceil(1 / scale) if scale < 1 else 1
        columns, rows = max(1, math.floor(w * scale + 0.5)), max(1, math.floor(h * scale + 0.5))
        across = (np.arange(columns)[:, None] + (np.arange(n) + 0.5) / n) / scale + x
        down = (np.arange(rows)[:, None] + (np.arange(n) + 0.5) / n) / scale + y
        points = np.stack(np.meshgrid(across.ravel(), down.ravel()), axis=-1).reshape(-1, 2)
        values = image.sample(points).reshape(rows, n, columns, n, -1)
        if n == 1:
            assert np.array_equal(found, values[:, 0, :, 0])
        else:
            mean = values.astype(np.float64).mean(axis=(1, 3))
            assert np.abs(found - mean).max() <= 2.0**-23 * max(1, np.abs(values).max())


@given(st.data(), files(), st.sampled_from([0.125, 0.25, 0.5, 2, 4]))
def test_a_region_on_whole_samples_is_cut_from_the_decode(data, file, scale):
    """Where x·s, y·s, w·s, h·s are integers the region equals the full decode at that scale, to the bit."""
    header, _, content = file
    with open_image(content) as image:
        whole = image.decode(scale, dtype="float32")
        step = max(1, int(1 / scale))
        assume(header.width >= step and header.height >= step)
        x0, y0, w, h = data.draw(regions(header.width // step, header.height // step))
        assume(all(float(v).is_integer() for v in (x0, y0, w, h)))
        found = image.region(x0 * step, y0 * step, w * step, h * step, scale, "float32")
        unit = int(step * scale)
        left, top = int(x0 * unit), int(y0 * unit)
        assert np.array_equal(found, whole[top : top + found.shape[0], left : left + found.shape[1]])


@given(files(), st.integers(0, 2**32))
def test_the_reference_agrees(file, seed):
    header, levels, content = file
    gaussians = format.dequantize(header, np.concatenate(levels[0]))
    rng = np.random.default_rng(seed)
    # Points on the codes' own grid and anywhere.
    points = np.concatenate([rng.uniform(-5, 65, (300, 2)), rng.integers(0, 120, (300, 2)) / 2])
    fixed = grid.to_units(points).astype(np.int32)
    rule = Rule.of(header)
    expected = reference.values_reference(gaussians.means, gaussians.factors, gaussians.features, fixed, rule)
    d2 = reference.squared_distances(gaussians.means, gaussians.factors, fixed)
    weight = np.exp(-0.5 * np.where(d2 <= np.float32(rule.reach2), d2, np.inf)).sum(axis=1).max()
    largest = 1.0
    if header.primitive == Primitive.GRADIENT:
        colours, slopes = np.split(np.abs(gaussians.features), [header.channels], axis=1)
        largest = max(1.0, float((colours.max(axis=1) + slopes.sum(axis=1) * math.sqrt(rule.reach2)).max()))
    tolerance = 2.0**-17 * largest * (max(1.0, float(weight)) if rule.sum_blend else 1.0)
    with open_image(content) as image:
        for part in (slice(None), slice(250, 350)):  # by cells, and one by one
            assert np.abs(image.sample(points[part]) - expected[part]).max() <= tolerance


@given(headers(), st.integers(1, 60), st.integers(0, 2**32))
def test_chunking_does_not_matter(header, n, seed):
    """Chunks of any size have the same values as long as they keep the order of the Gaussians."""
    codes = random_codes(header, n, seed)
    with (
        open_image(format.write(header, [[codes]])) as one,
        open_image(format.write(header, [[c[None] for c in codes]])) as each,
    ):
        assert np.array_equal(one.decode(dtype="float32"), each.decode(dtype="float32"))
        points = np.random.default_rng(seed).uniform(-9, 69, (700, 2))
        assert np.array_equal(one.sample(points), each.sample(points))
        assert np.array_equal(one.sample(points[:50]), each.sample(points[:50]))


@given(headers(), st.integers(1, 40), st.integers(0, 2**32))
def test_who_counts_is_exact_on_every_path(header, n, seed):
    """One-hot features: a value above 0 shows who counts. Checked for cells, single points and tiles."""
    rng = np.random.default_rng(seed)
    fields = {f: getattr(header, f) for f in ("width", "height", "position", "scale", "rotation", "blend", "top_k")}
    fields |= {f: getattr(header, f) for f in ("reach2", "relative_reach2", "lowpass", "scale_map")}
    hot = Header(
        **fields, channels=n, groups=(Group(channels=n),), background=(0.0,) * n, feature=Quantizer.float32(n)
    )  # fmt: skip
    codes = np.concatenate([random_codes(header, n, seed)[:, :5], np.eye(n, dtype=np.float32).view(np.uint32)], axis=1)
    gaussians = format.dequantize(hot, codes)
    points = np.concatenate([rng.uniform(-5, 65, (300, 2)), rng.integers(0, 120, (300, 2)) / 2])
    d2 = reference.squared_distances(gaussians.means, gaussians.factors, grid.to_units(points).astype(np.int32))
    counts = reference.counting_reference(d2, Rule.of(hot))
    with open_image(format.write(hot, [[codes]])) as image:
        assert np.array_equal(image.sample(points) > 0, counts)
        assert np.array_equal(image.sample(points[250:350]) > 0, counts[250:350])
        samples = grid.make_grid(0, 0, hot.width, hot.height, 1.25, hot.width, hot.height)
        lattice = np.stack(np.meshgrid(samples.xs, samples.ys), axis=-1).reshape(-1, 2)
        d2 = reference.squared_distances(gaussians.means, gaussians.factors, lattice)
        counts = reference.counting_reference(d2, Rule.of(hot))
        assert np.array_equal(image.decode(1.25, dtype="float32").reshape(-1, n) > 0, counts)
