"""From points to curves, and from two curves to one number: BD-rate, crossings, means over pictures.

A point is a mapping with `bpp` and some of the metrics `psnr`, `ms_ssim`, `flip`, `lpips`. Every metric is turned
into a quality in decibels (`quality`), so that one set of definitions serves all. A curve is the upper envelope of a
codec's points; between points it is a monotone cubic (PCHIP) over the logarithm of the rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

METRICS = ("psnr", "ms_ssim", "flip", "lpips")
MIN_OVERLAP = 0.3  # dB: over less, a mean rate difference says nothing
_SAMPLES = 200  # of the common quality range; twice as many change no digit that is shown
_FLOOR = 1e-6  # of 1 − MS-SSIM, FLIP and LPIPS: 60 dB at most

Point = Mapping[str, float]
Curve = list[tuple[float, float]]  # (bpp, quality in dB), both strictly rising


def quality(point: Point, metric: str) -> float | None:
    """A metric's value as decibels, higher is better: PSNR itself, −10·log₁₀ of 1 − MS-SSIM, of FLIP, of LPIPS."""
    value = point.get(metric)
    if value is None:
        return None
    if metric == "psnr":
        return value
    return -10 * math.log10(max(1 - value if metric == "ms_ssim" else value, _FLOOR))


def envelope(points: Iterable[Point], metric: str) -> Curve:
    """The points that no other one beats at the same or a lower rate, by rising rate."""
    known = [(p["bpp"], q) for p in points if (q := quality(p, metric)) is not None]
    curve: Curve = []
    for rate, value in sorted(known, key=lambda p: (p[0], -p[1])):
        if not curve or value > curve[-1][1] + 1e-9:
            curve.append((rate, value))
    return curve


@dataclass(frozen=True)
class Comparison:
    """A test curve against an anchor curve.

    `percent` is the mean rate difference over the common quality range, negative where the test needs fewer bytes. It
    is None where there is no such range, and `relation` then says why: `above` if the test's qualities lie above the
    anchor's, `below` if they lie below, `too few points` if one of the two has less than two.
    """

    percent: float | None
    relation: str


def bd_rate(test: Iterable[Point], anchor: Iterable[Point], metric: str = "psnr") -> Comparison:
    """Bjøntegaard's rate difference, by PCHIP over log-rate where the two quality ranges overlap by 0.3 dB or more."""
    t, a = envelope(test, metric), envelope(anchor, metric)
    if len(t) < 2 or len(a) < 2:
        return Comparison(None, "too few points")
    low, high = max(t[0][1], a[0][1]), min(t[-1][1], a[-1][1])
    if high - low < MIN_OVERLAP:
        return Comparison(None, "above" if t[0][1] >= a[-1][1] - MIN_OVERLAP else "below")
    grid = np.linspace(low, high, _SAMPLES)
    difference = float(np.mean(_log_rate(t)(grid) - _log_rate(a)(grid)))
    return Comparison((math.exp(difference) - 1) * 100, "overlap")


def _log_rate(curve: Curve) -> PchipInterpolator:
    return PchipInterpolator([q for _, q in curve], [math.log(r) for r, _ in curve])


def _quality_of(curve: Curve) -> PchipInterpolator:
    return PchipInterpolator([math.log(r) for r, _ in curve], [q for _, q in curve])


def at(points: Iterable[Point], bpp: float, metric: str = "psnr", tolerance: float = 0.0) -> float | None:
    """The curve's quality in dB at a rate; None outside of the rates measured.

    Beyond an end by at most ``tolerance``, a share of the rate, it is the end's: files of one rate differ by a little.
    """
    curve = envelope(points, metric)
    if len(curve) < 2 or not curve[0][0] * (1 - tolerance) <= bpp <= curve[-1][0] * (1 + tolerance):
        return None
    return float(_quality_of(curve)(math.log(min(max(bpp, curve[0][0]), curve[-1][0]))))


def mean_curve(pictures: Sequence[Sequence[Point]], metric: str, samples: int = 60) -> Curve:
    """Mean quality over pictures at equal rates, over the rates at which every picture has a value; may be empty.

    Pictures with less than two points are left out: they have no curve.
    """
    curves = [c for points in pictures if len(c := envelope(points, metric)) >= 2]
    if not curves:
        return []
    low, high = max(c[0][0] for c in curves), min(c[-1][0] for c in curves)
    if not low < high:
        return []
    logs = np.linspace(math.log(low), math.log(high), samples)
    mean = np.mean([_quality_of(c)(logs) for c in curves], axis=0)
    return [(float(math.exp(x)), float(q)) for x, q in zip(logs, mean, strict=True)]


def crossings(test: Curve, anchor: Curve) -> list[tuple[float, float]]:
    """(bpp, quality) where the anchor overtakes the test or the other way round, over the rates that both cover."""
    if len(test) < 2 or len(anchor) < 2:
        return []
    low, high = max(test[0][0], anchor[0][0]), min(test[-1][0], anchor[-1][0])
    if not low < high:
        return []
    logs = np.linspace(math.log(low), math.log(high), 2 * _SAMPLES)
    values = _quality_of(test)(logs)
    lead = values - _quality_of(anchor)(logs)
    found = []
    for i in np.flatnonzero(np.sign(lead[:-1]) * np.sign(lead[1:]) < 0):
        share = lead[i] / (lead[i] - lead[i + 1])
        x, q = (float(v[i] + share * (v[i + 1] - v[i])) for v in (logs, values))
        found.append((math.exp(x), q))
    return found
