"""The lattice record whose models code given Gaussians shortest (spec §3.2, §5.3): a writer's choice, not normative.

Families, centres, pulls and spreads are tried on a small grid; the cost is the entropy under the curves themselves.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from igs.format import lattice as la
from igs.format.fields import MEAN_UNIT
from igs.format.gaussians import Gaussians
from igs.format.header import Header
from igs.format.lattice import BROAD, BROADEST, Lattice, ValueModel

F64 = NDArray[np.float64]


def best_record(
    header: Header, codes: NDArray[np.uint32], gaussians: Gaussians, ends: Sequence[int] | None = None
) -> Lattice:
    """The header's lattice record with the models that code these Gaussians shortest; codes [n, 5 + F].

    ends: of the rows of each level, whose Gaussians know nothing of another's; None: one level.
    """
    from igs.format import cells  # Numba loads with it

    assert header.lattice is not None
    # Only the order and the neighbours are wanted yet: models that hold anything, not those of other codes.
    lattice = dataclasses.replace(
        header.lattice, minor_model=BROAD, ratio_spread=255, feature_models=(BROADEST,) * len(header.lattice.feature)
    )
    everywhere = cells.clip_box(np.array([-np.inf, -np.inf, np.inf, np.inf]), header.width, header.height)
    means, ordered, around = gaussians.means.astype(np.float64) * MEAN_UNIT, [], []
    for start, end in itertools.pairwise([0, *(ends or [len(codes)])]):
        coded = cells.encode(codes[start:end], lattice, everywhere, means[start:end])
        ordered.append(codes[start:end][coded.order])
        around.append(coded.around)
    return fit_record(lattice, np.concatenate(ordered), np.concatenate(around))


_SAMPLE = 4096  # Gaussians, or half as many, are enough to choose models by


def fit_record(record: Lattice, codes: NDArray[np.uint32], around: F64) -> Lattice:
    """The record with the models that code a set of Gaussians shortest.

    codes: [n, 5 + F]. around: [n, 1 + F], what known neighbours have, as cells.Encoded gives; NaN where none.
    """
    signed = codes.view(np.int32).astype(np.float64)
    sigma1, sigma2, _, l2, gain, feature_gain = la.sizes(record, codes[:, 2], codes[:, 3])
    root, step = np.sqrt(sigma2), la.step_value(record.minor)
    k = signed[:, 2]
    low = np.where(k > 0, 2 * np.log2(np.maximum(la.ROOT_MIN + (k - 0.5) * step, 1e-9)), -np.inf)
    high = 2 * np.log2(la.ROOT_MIN + (k + 0.5) * step)
    minor = _fit_values(l2, low, high, around[:, 0])
    features = []
    for f, code in enumerate(record.feature):
        unit = la.step_value(code) * feature_gain
        v = signed[:, 5 + f] * unit
        features.append(_fit_values(v, v - unit / 2, v + unit / 2, around[:, 1 + f]))
    m = signed[:, 3]
    width = (la.step_value(record.ratio) / root) * np.exp2(-la.RATIO_FALL * l2)  # of a code, in units of the spread
    spread = _fit_ratio(m, width)
    n = la.angle_count(record, sigma1, sigma2, gain)
    turns = (signed[:, 4] + 0.5) / n
    counts = np.bincount(np.minimum((turns[n > 1] * la.ANGLE_BINS).astype(int), la.ANGLE_BINS - 1), minlength=16) + 1.0
    angles = tuple(np.clip(np.round(16 * counts / counts.max()) - 1, 0, 15).astype(int).tolist())
    return dataclasses.replace(
        record, minor_model=minor, ratio_spread=spread, feature_models=tuple(features), angles=angles
    )


def _fit_values(v: F64, low: F64, high: F64, around: F64) -> ValueModel:
    from igs.format import cells, model_kernels

    curves = cells.tables()[:3] / 2.0**24
    median = float(np.median(v))
    # All values must be within the curves, and the centre, up to 8 spreads from 0, near theirs.
    floor = max(float(np.abs(v - median).max()) / (0.9 * cells.TAIL), abs(median) * 16 / 127)
    v, low, high, around = (a[:: 1 + len(v) // _SAMPLE] for a in (v, low, high, around))
    known = ~np.isnan(around)
    beside = np.where(known, around - median, 0.0)
    best: tuple[float, ValueModel] | None = None
    for pull in (0, 16, 32, 44, 54, 63):
        shift, share = pull / 64 * beside + median, 1 - pull / 64 * known
        codes = _around_code(float(np.abs(v - shift).mean()) + 1e-4, floor)
        widths = np.array([la.spread_value(code) for code in codes])
        centres = np.clip(np.round(16 * median / widths), -128, 127)
        bits = model_kernels.value_bits(curves, low, high, shift, share, centres / 16 * widths - median, widths)
        least = float(bits.min())
        if best is None or least < best[0]:
            at, family = np.unravel_index(bits.argmin(), bits.shape)
            best = least, ValueModel(int(family), pull, int(centres[at]), codes[at])
    assert best is not None
    return best[1]


def _around_code(rest: float, floor: float) -> list[int]:
    """Spread codes to try: from about a third of the mean deviation to all of it, none below the floor."""
    least = math.ceil(16 * math.log2(max(floor, 2.0**-12)) + 192)
    middle = round(16 * math.log2(max(rest, 2.0**-11)) + 192)
    return sorted({int(np.clip(max(middle + d, least), 0, 255)) for d in (-20, -15, -11, -7, -3, 1)})


def _fit_ratio(m: F64, width: F64) -> int:
    from igs.format import model_kernels

    curve = 1 - np.exp(-(np.arange(0, 12.01, 1 / model_kernels.RATIO_KNOTS) ** 1.5))
    low, high = np.maximum(m - 0.5, 0) * width, (m + 0.5) * width
    least = math.ceil(16 * math.log2(max(float((m * width).max()) / 11.0, 2.0**-11)) + 192)
    m, width, low, high = (a[:: 1 + len(m) // _SAMPLE] for a in (m, width, low, high))
    middle = round(16 * math.log2(max(float((m * width).mean()), 2.0**-10)) + 192)
    codes = sorted({int(np.clip(max(middle + d, least), 0, 255)) for d in range(-16, 25, 2)})
    bits = model_kernels.ratio_bits(curve, low, high, np.array([la.spread_value(code) for code in codes]))
    return codes[int(bits.argmin())]
