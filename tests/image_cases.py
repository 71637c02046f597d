"""Files of a few hundred Gaussians for the tests of igs.open, and what the reference makes of them."""

from __future__ import annotations

import numpy as np

from igs import format
from igs.decoder import reference
from igs.decoder.rule import Rule
from igs.format import Group, Header, Quantizer

WIDTH, HEIGHT = 64, 48


def make_header(channels=3, *, groups=None, width=WIDTH, height=HEIGHT, **fields):
    return Header(
        width=width,
        height=height,
        channels=channels,
        groups=groups or (Group(channels=channels),),
        background=fields.pop("background", (0.0,) * channels),
        position=Quantizer.uniform([0, 0], [width, height], 12),
        scale=Quantizer.uniform([-2, -2], [6, 6], 8),
        rotation=Quantizer.uniform([0], [1], 8),
        feature=Quantizer.uniform([0] * channels, [1] * channels, 8),
        **fields,
    )


def make_codes(header, n, seed=0, size=2.0):
    rng = np.random.default_rng(seed)
    position = rng.uniform(0, 1, (n, 2)) * [header.width, header.height]
    scale = rng.uniform(size - 1.5, size, (n, 2))
    return format.quantize(header, position, scale, rng.uniform(0, 1, (n, 1)), rng.uniform(0, 1, (n, header.channels)))


def make_file(header, n=200, seed=0, **options):
    return format.write(header, [make_codes(header, n, seed)], **options)


def reference_decode(header, codes, rule=None):
    gaussians = format.dequantize(header, codes)
    centres = np.stack(np.meshgrid(np.arange(header.width), np.arange(header.height)), axis=-1).reshape(-1, 2)
    points = (centres * 2**14 + 2**13).astype(np.int32)
    values = reference.values_reference(
        gaussians.means, gaussians.factors, gaussians.features, points, rule or Rule.of(header)
    )
    return values.reshape(header.height, header.width, header.channels)


def large_file(**options):
    header = make_header(width=1024, height=768)
    return header, format.write(header, [make_codes(header, 4000, size=3.5)], **options)
