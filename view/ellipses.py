"""Gaussians as ellipses at so many standard deviations, drawn with soft edges of one pixel.

Coverage is that of the distance to the outline, to first order: (d − s) over the length of its gradient, which for an
ellipse is exact enough at every size that can be seen.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Style:
    """How ellipses look. deviations: the outline, in standard deviations. width: of the line, in output pixels."""

    deviations: float = 1.0
    fill: float = 0.8  # opacity, 0 to 1
    line: float = 0.9
    width: float = 1.0
    shade: float = 0.62  # the line's colour, as a share of the Gaussian's own


def draw_ellipses(
    canvas: F32, means: npt.ArrayLike, covariances: npt.ArrayLike, colours: npt.ArrayLike, style: Style | None = None
) -> None:
    """Draw onto canvas, float32 [H, W, 3] in [0, 1], the largest ellipses first.

    means [n, 2] and covariances [n, 3] (Σxx, Σxy, Σyy): in pixels of the canvas, the centre of the first being (½, ½).
    colours [n, 3] in [0, 1]. What lies outside is cut off.
    """
    style = style or Style()
    mean, cov = np.asarray(means, np.float64), np.asarray(covariances, np.float64)
    colour = np.clip(np.asarray(colours, np.float32), 0.0, 1.0)
    height, width = canvas.shape[:2]
    area = cov[:, 0] * cov[:, 2] - cov[:, 1] ** 2
    margin = style.width + 1.5
    half = style.deviations * np.sqrt(np.maximum(cov[:, ::2], 0.0)) + margin
    x0 = np.clip(np.floor(mean[:, 0] - half[:, 0]), 0, width).astype(int)
    x1 = np.clip(np.ceil(mean[:, 0] + half[:, 0]), 0, width).astype(int)
    y0 = np.clip(np.floor(mean[:, 1] - half[:, 1]), 0, height).astype(int)
    y1 = np.clip(np.ceil(mean[:, 1] + half[:, 1]), 0, height).astype(int)
    for i in np.argsort(-area, kind="stable").tolist():
        if x1[i] <= x0[i] or y1[i] <= y0[i] or not area[i] > 0:
            continue
        dx = np.arange(x0[i], x1[i])[None, :] + 0.5 - mean[i, 0]
        dy = np.arange(y0[i], y1[i])[:, None] + 0.5 - mean[i, 1]
        outside = _distance(dx, dy, cov[i], float(area[i]), style.deviations)
        fill = style.fill * np.clip(0.5 - outside, 0.0, 1.0)
        line = style.line * np.clip(0.5 + style.width / 2 - np.abs(outside), 0.0, 1.0)
        part = canvas[y0[i] : y1[i], x0[i] : x1[i]]
        for cover, tone in ((fill, colour[i]), (line, colour[i] * np.float32(style.shade))):
            part += cover.astype(np.float32)[:, :, None] * (tone - part)


def _distance(dx: F64, dy: F64, cov: F64, area: float, deviations: float) -> F64:
    """How far outside the outline points lie, about, in pixels; negative inside."""
    a, b, c = float(cov[0]), float(cov[1]), float(cov[2])
    gx, gy = (c * dx - b * dy) / area, (a * dy - b * dx) / area  # Σ⁻¹·(x − μ)
    d = np.sqrt(np.maximum(gx * dx + gy * dy, 1e-12))
    slope = np.hypot(gx, gy) / d  # of d, per pixel
    # At the centre the slope has no direction; no point is further inside than the minor axis is long.
    minor = deviations * math.sqrt(max(_least(a, b, c), 1e-12))
    return np.maximum((d - deviations) / np.maximum(slope, 1e-9), -minor)


def _least(a: float, b: float, c: float) -> float:
    """The smaller eigenvalue, without cancellation for thin ellipses."""
    large = (a + c) / 2 + math.hypot((a - c) / 2, b)
    return max(a * c - b * b, 0.0) / large if large > 0 else 0.0
