"""The charts of the report as inline SVG and HTML: the curve of the fit, and where the bits went.

Colours are classes and variables of report.css, so that they follow the page's light or dark dress.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from igs.view.canvas import ticks
from igs.view.log import Entry

_WIDE, _TALL, _LOW = 880.0, 250.0, 70.0  # the curve, and the step chart of numbers below it
_LEFT, _RIGHT, _TOP, _GAP, _FOOT = 46.0, 14.0, 14.0, 26.0, 34.0
_MOST_POINTS = 400  # more can't be told apart

PARTS = {  # bits_by_attribute → what it is called on the page
    "position": "Positions",
    "scale": "Sizes",
    "rotation": "Angles",
    "feature": "Colours",
    "coder": "Coder states, padding",
    "head": "Header and index",
    "sections": "Metadata",
}


def convergence(history: Sequence[Entry], growths: Sequence[tuple[int, int]]) -> str:
    """PSNR over the steps, and the number of Gaussians. growths: step and number added."""
    entries = [e for e in history if e.psnr is not None and math.isfinite(e.psnr)]
    if len(entries) < 2:
        return ""
    entries = entries[:: math.ceil(len(entries) / _MOST_POINTS)] + entries[-1:]
    end = max(e.step for e in entries)
    values = [float(e.psnr or 0) for e in entries]
    low, high = math.floor(min(values)), math.ceil(max(values) + 0.2)
    if high - low < 4:
        low = high - 4
    most = max(e.num_gaussians for e in entries)
    base, bottom = _TOP + _TALL, _TOP + _TALL + _GAP + _LOW

    def x(step: float) -> float:
        return _LEFT + (_WIDE - _LEFT - _RIGHT) * step / end

    def y(db: float) -> float:
        return base - _TALL * (db - low) / (high - low)

    def z(count: float) -> float:
        return bottom - _LOW * count / most

    out = [
        f'<svg class="chart" viewBox="0 0 {_WIDE:g} {bottom + _FOOT:g}" role="img" '
        'aria-label="PSNR and number of Gaussians over the steps">'
    ]
    for value in ticks(low, high, 5):
        out.append(f'<path class="grid" d="M{_LEFT:g} {y(value):.1f}H{_WIDE - _RIGHT:g}"/>')
        out.append(f'<text class="tick" x="{_LEFT - 8:g}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    out.append(f'<text class="label" x="{_LEFT:g}" y="{_TOP - 2:g}">dB</text>')
    for step, added in growths:
        out.append(
            f'<path class="growth" d="M{x(step):.1f} {_TOP:g}V{bottom:g}"><title>step {step}: {added:+d}</title></path>'
        )
    line = " ".join(f"{x(e.step):.1f},{y(v):.1f}" for e, v in zip(entries, values, strict=True))
    out.append(f'<polyline class="curve" points="{line}"/>')
    area = [f"M{_LEFT:g} {bottom:g}V{z(entries[0].num_gaussians):.1f}"]
    for e in entries:
        area.append(f"H{x(e.step):.1f}V{z(e.num_gaussians):.1f}")
    out.append(f'<path class="area" d="{"".join(area)}V{bottom:g}Z"/>')
    for value in ticks(0, most, 2)[1:]:
        out.append(f'<text class="tick" x="{_LEFT - 8:g}" y="{z(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    out.append(f'<text class="label" x="{_LEFT:g}" y="{base + _GAP - 6:g}">Gaussians</text>')
    out.append(f'<path class="axis" d="M{_LEFT:g} {bottom:g}H{_WIDE - _RIGHT:g}"/>')
    for value in ticks(0, end, 8):
        anchor = "end" if value == end else "middle"
        out.append(f'<text class="tick" x="{x(value):.1f}" y="{bottom + 16:g}" text-anchor="{anchor}">{value:g}</text>')
    out.append(f'<text class="label" x="{_WIDE - _RIGHT:g}" y="{bottom + 32:g}" text-anchor="end">steps</text>')
    # What a pointer over the chart is told.
    for i, (e, v) in enumerate(zip(entries, values, strict=True)):
        left = x(entries[i - 1].step) if i else _LEFT
        tip = f"step {e.step}: {v:.2f} dB, {e.num_gaussians} Gaussians, {e.seconds:.1f} s"
        out.append(
            f'<rect class="tip" x="{left:.1f}" y="{_TOP:g}" width="{max(x(e.step) - left, 0.1):.1f}" '
            f'height="{bottom - _TOP:g}"><title>{tip}</title></rect>'
        )
    out.append("</svg>")
    return "".join(out)


def bits(spent: Mapping[str, float], num_gaussians: int) -> tuple[str, str]:
    """A bar of what the bits are spent on, and the same as a table."""
    total = sum(spent.values())
    known = [(name, PARTS.get(name, name), value) for name, value in spent.items() if value > 0]
    bar, rows = [], []
    for name, title, value in known:
        share = value / total
        words = f"<span>{escape(title)} {share:.0%}</span>" if share > 0.12 else ""
        bar.append(
            f'<div class="part of-{escape(name)}" style="flex-grow:{share:.5f}" '
            f'title="{escape(title)}: {share:.1%}">{words}</div>'
        )
        rows.append(
            f'<tr><td><i class="of-{escape(name)}"></i>{escape(title)}</td><td>{grouped(value / 8)}</td>'
            f"<td>{share:.1%}</td><td>{value / num_gaussians:.2f}</td></tr>"
        )
    rows.append(
        f'<tr class="sum"><td>All</td><td>{grouped(total / 8)}</td><td>100%</td>'
        f"<td>{total / num_gaussians:.2f}</td></tr>"
    )
    head = "<tr><th></th><th>bytes</th><th>share</th><th>bits per Gaussian</th></tr>"
    return f'<div class="bar">{"".join(bar)}</div>', f'<table class="numbers">{head}{"".join(rows)}</table>'


def grouped(value: float) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{round(value):,}".replace(",", "\u202f")
