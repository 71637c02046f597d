"""Gaussians as ellipses at so many standard deviations, drawn with soft edges of one pixel.

Coverage is that of the distance to the outline, to first order: (d − s) over the length of its gradient, which is exact
enough at every size that can be seen.
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
    canvas: F32,
    means: npt.ArrayLike,
    covariances: npt.ArrayLike,
    colours: npt.ArrayLike,
    style: Style | None = None,
    bands: bool = True,
) -> None:
    """Draw onto canvas, float32 [H, W, 3] in [0, 1], the largest ellipses first.

    means [n, 2] and covariances [n, 3] (Σxx, Σxy, Σyy): in pixels of the canvas, the centre of the first being (½, ½).
    colours [n, 3] in [0, 1]. What lies outside is cut off. bands: look at a slanted band around a long thin ellipse
    instead of its bounding box, so that the time is in proportion to what is drawn; the same picture comes of both.
    """
    style = style or Style()
    mean, cov = np.asarray(means, np.float64), np.asarray(covariances, np.float64)
    colour = np.clip(np.asarray(colours, np.float32), 0.0, 1.0)
    height, width = canvas.shape[:2]
    area = cov[:, 0] * cov[:, 2] - cov[:, 1] ** 2
    # Where the line and its soft edge end, by an ellipse that holds the sum of this one and a disc of the margin.
    wide = cov + (((style.width + 1.5) / style.deviations) ** 2) * np.array([1.0, 0.0, 1.0])
    reach = math.sqrt(2.0) * style.deviations
    half = reach * np.sqrt(np.maximum(wide[:, ::2], 0.0))
    low = np.floor(np.clip(mean - half, 0, [width, height])).astype(int)
    high = np.ceil(np.clip(mean + half, 0, [width, height])).astype(int)
    slant = wide[:, 1] / wide[:, 2]
    chord = reach * np.sqrt(np.maximum(wide[:, 0] - wide[:, 1] * slant, 0.0))
    span = np.ceil(np.minimum(2 * chord, 2.0 * width)).astype(int) + 2
    for i in np.argsort(-area, kind="stable").tolist():
        (x0, y0), (x1, y1) = low[i].tolist(), high[i].tolist()
        if x1 <= x0 or y1 <= y0 or not area[i] > 0:
            continue
        y = np.arange(y0, y1)[:, None]
        dy = y + 0.5 - mean[i, 1]
        if bands and 2 * span[i] < x1 - x0:
            x = np.floor(mean[i, 0] + dy * slant[i] - chord[i]).astype(int) + np.arange(span[i])
            inside = (x >= 0) & (x < width)
            rows, columns = np.broadcast_to(y, x.shape)[inside], x[inside]
            part = canvas[rows, columns]
            _blend(part, (x + 0.5 - mean[i, 0])[inside], np.broadcast_to(dy, x.shape)[inside], cov[i], colour[i], style)
            canvas[rows, columns] = part
        else:
            dx = np.arange(x0, x1)[None, :] + 0.5 - mean[i, 0]
            _blend(canvas[y0:y1, x0:x1], dx, dy, cov[i], colour[i], style)


def _blend(part: F32, dx: F64, dy: F64, cov: F64, colour: F32, style: Style) -> None:
    """Lay one ellipse over pixels [..., 3] at dx, dy from its mean, in place."""
    outside = _distance(dx, dy, cov, style.deviations)
    fill = style.fill * np.clip(0.5 - outside, 0.0, 1.0)
    line = style.line * np.clip(0.5 + style.width / 2 - np.abs(outside), 0.0, 1.0)
    for cover, tone in ((fill, colour), (line, colour * np.float32(style.shade))):
        part += cover.astype(np.float32)[..., None] * (tone - part)


def _distance(dx: F64, dy: F64, cov: F64, deviations: float) -> F64:
    """How far outside the outline points lie, about, in pixels; negative inside."""
    a, b, c = cov.tolist()
    area = a * c - b * b
    gx, gy = (c * dx - b * dy) / area, (a * dy - b * dx) / area  # Σ⁻¹·(x − μ)
    d = np.sqrt(np.maximum(gx * dx + gy * dy, 1e-12))
    slope = np.hypot(gx, gy) / d  # of d, per pixel
    # Never less than the distance to the box along the axes: at the centre the slope has no direction, and beyond the
    # tip of a thin ellipse it points to the side.
    angle = 0.5 * math.atan2(2 * b, a - c)
    along, across = math.cos(angle), math.sin(angle)
    large = (a + c) / 2 + math.hypot((a - c) / 2, b)
    ends = np.abs(dx * along + dy * across) - deviations * math.sqrt(large)
    sides = np.abs(dy * along - dx * across) - deviations * math.sqrt(area / large)  # no cancellation for thin ones
    found: F64 = np.maximum((d - deviations) / np.maximum(slope, 1e-9), np.maximum(ends, sides))
    return found
