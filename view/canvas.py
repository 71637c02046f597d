"""Pictures side by side on paper, each with a title, a remark and, where colours are amounts, a colour bar.

Letters are those of Pillow's own font, which has ASCII only: titles keep to it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from igs.view.colours import FAINT, INK, MARK, PAPER, sequential

U8 = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Bar:
    """What the map's ends mean. reversed: the lightest colour is ``low``."""

    low: float
    high: float
    unit: str
    reversed: bool = False


@dataclasses.dataclass(frozen=True)
class Panel:
    """A picture uint8 [h, w, 3] with what is written above and below it."""

    pixels: U8
    title: str
    note: str = ""
    bar: Bar | None = None


def to_u8(values: npt.ArrayLike) -> U8:
    """[0, 1] → uint8, clipped, rounded half up."""
    codes: U8 = np.floor(np.clip(np.asarray(values, np.float32), 0, 1) * 255 + 0.5).astype(np.uint8)
    return codes


def font(size: float) -> Any:
    """The font of all labels."""
    load: Any = ImageFont.load_default  # whose size may be a fraction, whatever type stubs say
    return load(size)


def plain(text: str) -> str:
    """Text as the font can show it."""
    swaps = {"×": "x", "−": "-", "–": "-", "…": "...", "²": "2", "σ": "sigma", "·": ", "}
    return "".join(swaps.get(c, c if " " <= c <= "~" else "?") for c in text)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from low to high, about so many."""
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [low]
    raw = span / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def rounded_up(value: float) -> float:
    """The next of 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten: a tidy end for a scale."""
    if not (value > 0 and math.isfinite(value)):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if m * power >= value * (1 - 1e-9))


def compose(panels: Sequence[Panel], columns: int | None = None) -> Image.Image:
    """All panels on one sheet, row by row; those of a row stand on one line of titles."""
    per_row = columns or len(panels)
    widest = max(p.pixels.shape[1] for p in panels)
    size = min(max(widest / 36, 15.0), 26.0)
    gap, line = round(size * 1.3), round(size * 1.35)
    rows = [panels[i : i + per_row] for i in range(0, len(panels), per_row)]
    titles = [line if any(p.title for p in row) else 0 for row in rows]
    foots = [max(_foot(p, line) for p in row) for row in rows]
    heights = [max(p.pixels.shape[0] for p in row) for row in rows]
    width = max(sum(_width(p, size) for p in row) + gap * (len(row) - 1) for row in rows) + 2 * gap
    height = sum(titles) + sum(foots) + sum(heights) + gap * (len(rows) + 1)
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    y = gap
    for row, above, below, tall in zip(rows, titles, foots, heights, strict=True):
        x = gap
        for panel in row:
            if panel.title:
                pen.text((x, y + line * 0.25), plain(panel.title), INK, font(size), anchor="lt")
            sheet.paste(Image.fromarray(panel.pixels), (x, y + above))
            bottom = y + above + panel.pixels.shape[0]
            if panel.bar is not None:
                _draw_bar(sheet, pen, panel.bar, x, bottom + line * 0.45, panel.pixels.shape[1], size)
                bottom += round(line * 2.1)
            if panel.note:
                pen.text((x, bottom + line * 0.35), plain(panel.note), FAINT, font(size * 0.8), anchor="lt")
            x += _width(panel, size) + gap
        y += above + tall + below + gap
    return sheet


def _foot(panel: Panel, line: int) -> int:
    return (line if panel.note else 0) + (round(line * 2.1) if panel.bar is not None else 0)


def _width(panel: Panel, size: float) -> int:
    """Of a panel or, where that is longer, of its words."""
    words: float = max(font(size).getlength(plain(panel.title)), font(size * 0.8).getlength(plain(panel.note)))
    return max(int(panel.pixels.shape[1]), math.ceil(words))


def _draw_bar(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, bar: Bar, x: float, y: float, width: int, size: float
) -> None:
    tall = max(6, round(size * 0.5))
    table = sequential()[::-1] if bar.reversed else sequential()
    strip = Image.fromarray(np.ascontiguousarray(table[None])).resize((width, tall), Image.Resampling.BILINEAR)
    sheet.paste(strip, (round(x), round(y)))
    small = font(size * 0.8)
    unit_at = x + width - small.getlength(plain(bar.unit))
    for value in ticks(bar.low, bar.high, max(2, min(6, width // round(size * 5)))):
        at = x + (value - bar.low) / (bar.high - bar.low or 1.0) * (width - 1)
        text = f"{value:g}"
        half = small.getlength(text) / 2
        left = min(max(at - half, x), x + width - 2 * half)
        if left + 2 * half + size * 0.6 > unit_at:
            continue  # the unit stands here
        pen.line([(at, y + tall), (at, y + tall + size * 0.25)], FAINT)
        pen.text((left, y + tall + size * 0.4), text, FAINT, small, anchor="lt")
    pen.text((unit_at, y + tall + size * 0.4), plain(bar.unit), INK, small, anchor="lt")


def framed(pixels: U8, box: tuple[float, float, float, float], width: int | None = None) -> U8:
    """A copy with a rectangle x, y, w, h drawn around (not over) what it frames."""
    image = Image.fromarray(pixels)
    line = width or max(2, round(max(image.size) / 320))
    x, y, w, h = box
    pen = ImageDraw.Draw(image)
    pen.rectangle((x - line - 1, y - line - 1, x + w + line, y + h + line), outline=(255, 255, 255), width=1)
    pen.rectangle((x - line, y - line, x + w + line - 1, y + h + line - 1), outline=MARK, width=line)
    return np.asarray(image)
