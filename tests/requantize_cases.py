"""Files for the tests that store Gaussians in fewer bits."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import igs
from igs.format import (
    Colour,
    Group,
    Header,
    Quantizer,
    ScaleMap,
    Shape,
    quantize,
    write,
)
from igs.format.lattice import Lattice, ValueModel

BROAD = ValueModel(2, 0, 0, 208)
LATTICE = Lattice(28, 36, 28, 28, (32, 32, 32), True, BROAD, 208, (ValueModel(2, 0, 0, 255),) * 3)

COARSEST = dataclasses.replace(LATTICE, position=0, minor=0, ratio=0, rotation=0, feature=(0, 0, 0))


def head(lattice: bool = True, **fields: Any) -> Header:
    q = Quantizer
    quantizers: dict[str, Any] = {
        "position": q.uniform([0, 0], [64, 48], 14),
        "scale": q.uniform(-2, 4, 10, shared=True, columns=2),
        "rotation": q.uniform(0, 1 - 2**-10, 10),
        "feature": q.uniform(0, 1, 10, shared=True, columns=3),
    }
    if lattice:
        names = dict(zip(quantizers, (2, 2, 1, 3), strict=True))
        quantizers = {name: q.lattice(columns) for name, columns in names.items()} | {"lattice": LATTICE}
    known = {"width": 64, "height": 48, "channels": 3, "groups": (Group(channels=3, colour=Colour.RGB),)}
    return Header(**(known | {"background": (0.5,) * 3, "reach2": 16.5, "relative_reach2": 11.0} | quantizers | fields))


def codes(header: Header, n: int = 80, seed: int = 0) -> np.ndarray:
    """Gaussians that cover the picture, smooth in colour."""
    rng = np.random.default_rng(seed)
    position = rng.random((n, 2)) * [64, 48]
    scale = rng.uniform(1.2, 2.4, (n, 2))  # log2 σ
    if header.scale_map == ScaleMap.RAW:
        scale = np.exp2(scale)
    if header.shape == Shape.COVARIANCE:
        scale = scale**2
    feature = 0.5 + 0.4 * np.sin(position[:, :1] / [9, 14, 20] + position[:, 1:] / [20, 11, 7])
    return quantize(header, position, scale, rng.random((n, 1)), feature)


def make(header: Header | None = None, levels: int = 1, **options: Any) -> bytes:
    header = header or head()
    return write(header, [codes(header, seed=level) for level in range(levels)], **options)


def psnr(a: bytes, b: bytes) -> float:
    x, y = (igs.open(data).decode(dtype="float32", raw=True).astype(np.float64) for data in (a, b))
    return -10 * np.log10(max(((x - y) ** 2).mean(), 1e-12))
