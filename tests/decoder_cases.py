"""Files that all decoders are tested on, and what the reference makes of them."""

from __future__ import annotations

import numpy as np

from igs.decoder import grid, reference
from igs.decoder.rule import Rule
from igs.format import (
    Alpha,
    Blend,
    Gaussians,
    Group,
    Header,
    Primitive,
    Quantizer,
    ScaleMap,
    dequantize,
    feature_columns,
    quantize,
)

# spec §7: 2^-17·max(1, max |c| + (|a| + |b|)·R) of the exact sum, for the sum blend times max(1, Σ G).
TOLERANCE = 2.0**-17
SUM = {"blend": Blend.SUM, "top_k": 0, "relative_reach2": np.inf}
GRADIENT = {"primitive": Primitive.GRADIENT}


def float_header(channels, *, width, height, groups=None, background=None, alpha=Alpha.NONE, **fields) -> Header:
    """Of float32 codes; one group, with ``alpha``, unless given."""
    return Header(
        width=width,
        height=height,
        channels=channels,
        groups=groups or (Group(channels=channels, alpha=alpha),),
        background=tuple(background if background is not None else [0.0] * channels),
        position=Quantizer.float32(2),
        scale=Quantizer.float32(2),
        rotation=Quantizer.float32(1),
        feature=Quantizer.float32(feature_columns(fields.get("primitive", Primitive.CONSTANT), channels)),
        scale_map=ScaleMap.RAW,
        **fields,
    )


def random_codes(header, n, seed, smallest=0.3, largest=8.0, elongation=6.0, feature=None):
    """``n`` of random places and shapes; features are one-hot unless given."""
    rng = np.random.default_rng(seed)
    long = np.exp(rng.uniform(np.log(smallest), np.log(largest), n))
    short = long / np.exp(rng.uniform(0, np.log(elongation), n))
    position = rng.uniform(-3, 3, (n, 2)) + rng.uniform(0, 1, (n, 2)) * [header.width, header.height]
    if feature is None:
        feature = np.eye(n, header.channels)
    return quantize(header, position, np.stack([long, short], axis=1), rng.uniform(0, 1, (n, 1)), feature)


def random_gaussians(header, n, seed, *shapes, **options) -> Gaussians:
    return dequantize(header, random_codes(header, n, seed, *shapes, **options))


def grid_points(header, scale=1.0):
    samples = grid.make_grid(0, 0, header.width, header.height, scale, header.width, header.height)
    return np.stack(np.meshgrid(samples.xs, samples.ys), axis=-1).reshape(-1, 2)


def expected_counts(header, gaussians, points):
    d2 = reference.squared_distances(gaussians.means, gaussians.factors, points)
    return reference.counting_reference(d2, Rule.of(header))


def expected_values(header, gaussians, points):
    return reference.values_reference(gaussians.means, gaussians.factors, gaussians.features, points, Rule.of(header))
