"""One page about one encode: a single HTML file with its pictures inside, and nothing fetched from anywhere.

What is on it, from top to bottom: size, rate and quality; the original and the decoded picture under a slider; what the
Gaussians do and where the error is; how the fit went; where the bits went; settings.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from igs.decoder.measure import psnr
from igs.decoder.output import visible
from igs.format import Limits, bits_by_attribute, describe, each_group
from igs.format.describe import counted, part_in_words
from igs.view import charts, kinds, maps
from igs.view.canvas import U8, Bar, rounded_up, ticks, to_u8
from igs.view.charts import grouped
from igs.view.colours import amounts, sequential
from igs.view.film import Moment, Stage, caption
from igs.view.log import Entry
from igs.view.scene import F32, Scene

_HERO, _FIGURE, _STRIP = 1440, 960, 480  # pixels of the longer sides
_SMALL = 256  # pixels: below, enlarged pixels are shown as squares
_QUALITY = 90  # of the page's WebP
_MOST_GROWTHS = 12
_ZOOM = 72  # pixels of the picture, a side
_HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Report:
    """What a page is made of.

    name: of the picture. data: the .igs file. source: float32 [H, W, C] picture values. facts: what ``igs-encode
    --json`` prints. history: the log. moments: snapshots of the fit. settings: names and values to show. command: how
    to do it again.
    """

    name: str
    data: bytes
    source: F32
    facts: Mapping[str, Any]
    history: Sequence[Entry] = ()
    moments: Sequence[Moment] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    command: str = ""
    threads: int | None = None

    @property
    def times(self) -> int:
        """How many times the picture was reduced before it was fitted."""
        return int(self.facts.get("downsample", 1))

    def options(self, scale: float | None = None) -> kinds.Options:
        """For pictures that are compared with the source."""
        return kinds.Options(source=self.source, times=self.times, scale=scale)


def html_report(report: Report) -> str:
    """The page."""
    height, width = report.source.shape[:2]
    with Scene(report.data, Limits().with_room(width, height), report.threads) as scene:
        body = "".join(
            [
                _head(report),
                _pictures(report, scene),
                _groups(report, scene),
                _levels(report, scene),
                _course(report, scene),
                _bits(scene),
                _settings(report),
            ]
        )
    css, js = ((_HERE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    title = escape(report.name)
    # The policy is a promise that the page keeps: no request leaves it.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title} as Gaussians</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>\n{css}</style>\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n<script>\n{js}</script>\n</body>\n</html>\n"
    )


# -- small things


def data_uri(pixels: U8, side: int | None = None) -> str:
    """A picture [h, w, 3] as the address of itself, reduced to at most ``side`` pixels."""
    image = Image.fromarray(pixels)
    if side is not None and max(image.size) > side:
        factor = side / max(image.size)
        size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
        image = image.resize(size, Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def _figure(pixels: U8, title: str, note: str = "", *, name: str = "", bar: Bar | None = None) -> str:
    key = f' id="{name}"' if name else ""
    below = _bar(bar) if bar is not None else ""
    words = f"<b>{escape(title)}</b> {escape(note)}"
    return (
        f'<figure><img{key} src="{data_uri(pixels, _FIGURE)}" alt="{escape(title)}">{below}'
        f"<figcaption>{words}</figcaption></figure>"
    )


def _bar(bar: Bar) -> str:
    stops = sequential()[:: 17 if not bar.reversed else -17]
    colours = ", ".join("#{:02x}{:02x}{:02x}".format(*stop) for stop in stops.tolist())
    span = bar.high - bar.low or 1.0
    values = [bar.low, *(t for t in ticks(bar.low, bar.high, 5) if bar.low < t < bar.low + 0.85 * span), bar.high]
    marks = [f"{v:g}" for v in values]
    marks[-1] += " " + bar.unit
    # The last label is long: those that it would cover are left out.
    kept = [(v, m) for v, m in zip(values, marks, strict=True) if v == bar.high or (v - bar.low) / span < 0.68]
    spans = "".join(f'<span style="left:{100 * (v - bar.low) / span:.2f}%">{escape(m)}</span>' for v, m in kept)
    return f'<div class="scale"><i style="background:linear-gradient(90deg, {colours})"></i><div>{spans}</div></div>'


# -- the page's parts


def _head(report: Report) -> str:
    f = report.facts
    psnr = "exact" if f.get("psnr") is None else f"{f['psnr']:.2f} dB"
    facts = [
        (f"{grouped(f['bytes'])}", "bytes"),
        (f"{f['bpp']:.3f}", "bits per pixel"),
        (psnr, "PSNR of the decoded file"),
        (grouped(f["num_gaussians"]), "Gaussians"),
        (f"{f['bits_per_gaussian']:.1f}", "bits per Gaussian"),
        (f"{f['seconds']:.1f} s", f"{f['steps']} steps"),
    ]
    if f.get("ms_ssim") is not None:
        facts.insert(3, (f"{f['ms_ssim']:.4f}", "MS-SSIM"))
    raw = f["width"] * f["height"] * f["channels"]
    ratio = f"1 : {raw / f['bytes']:.3g} of {grouped(raw)} bytes at 8 bits"
    items = "".join(f"<li><b>{escape(value)}</b><span>{escape(word)}</span></li>" for value, word in facts)
    channels = f"{f['channels']} channel" + "s" * (f["channels"] != 1)
    if report.times > 1:
        channels += f", reduced {report.times} times"
    return (
        f"<h1>{escape(report.name)}</h1><p>{f['width']} × {f['height']} pixels, {channels}, as coloured 2D Gaussians; "
        f'{ratio}.</p><ul class="facts">{items}</ul>'
    )


def _pictures(report: Report, scene: Scene) -> str:
    original = to_u8(visible(report.source, scene.groups))
    height, width = original.shape[:2]
    decoded = to_u8(scene.picture(scale=report.times))[:height, :width]
    scale = min(2.0, max(1.0, _FIGURE / max(scene.width, scene.height)))
    options = kinds.Options(scale=scale)
    ellipses = kinds.KINDS["ellipses"](scene, options)[0].pixels
    leaders = kinds.KINDS["ids"](scene, options)[0]
    error = maps.errors(*kinds.compared(scene, report.options(), "error", None))
    error_pixels, error_bar = kinds.error_map(error, "8-bit")
    density = maps.density(scene.drawn().means, scene.width, scene.height)
    top = rounded_up(float(density.max()))
    tabs = [("", "Decoded"), ("ellipses", "Ellipses"), ("leading", "Leading Gaussians"), ("error", "Error")]
    tabs += [("density", "Density")]
    buttons = "".join(
        f'<button type="button" data-from="{key}" aria-pressed="{"false" if key else "true"}">{title}</button>'
        for key, title in tabs
    )
    small = " small" if max(width, height) < _SMALL else ""
    hero = (
        f'<div class="compare{small}" style="aspect-ratio:{width}/{height};'
        f'max-width:calc(88vh * {width / height:.4f})">'
        f'<img src="{data_uri(original, _HERO)}" alt="Original">'
        f'<img class="over" src="{data_uri(decoded, _HERO)}" alt="Decoded">'
        '<div class="edge"></div><em>Original</em><em>Decoded</em>'
        '<input type="range" min="0" max="1000" value="500" aria-label="How much of the original is shown"></div>'
        f'<div class="tabs">{buttons}</div>'
    )
    half = float(np.median(error))
    grid = [
        _figure(ellipses, "Ellipses", "at one standard deviation, in their own colours", name="ellipses"),
        _figure(leaders.pixels, "Leading Gaussians", leaders.note.replace(" Gaussians", ""), name="leading"),
        _figure(error_pixels, "Error", f"half of the pixels are below {half:.1f}", name="error", bar=error_bar),
        _figure(amounts(density, 0, top), "Density", "of centres", name="density", bar=Bar(0, top, "per 1000 pixels")),
        _zooms(scene, original, decoded, report.times),
    ]  # fmt: skip
    reduced = f" All are reduced to {_HERO} pixels." if max(width, height) > _HERO else ""
    whose = f" Gaussians are those{escape(kinds.of_part(scene))}." if scene.sharing else ""
    return (
        f"{hero}<h2>What the Gaussians do</h2>"
        f"<p>The buttons above lay each of these over the original.{whose}{reduced}</p>"
        f'<div class="grid">{"".join(grid)}</div>'
    )


def _zooms(scene: Scene, original: U8, decoded: U8, times: int) -> str:
    """The busiest place enlarged: the original's pixels, the decoded ones smoothed, and the Gaussians sampled there."""
    area = maps.busiest(np.asarray(original, np.float32) / np.float32(255), min(_ZOOM, *original.shape[:2]))
    x, y, w, h = (round(v) for v in area)
    scale = max(1, _STRIP // max(w, h))
    size, box = (w * scale, h * scale), (x, y, x + w, y + h)
    pixels = np.asarray(Image.fromarray(original).resize(size, Image.Resampling.NEAREST, box=box))
    smooth = np.asarray(Image.fromarray(decoded).resize(size, Image.Resampling.BICUBIC, box=box))
    sampled = to_u8(scene.picture((x / times, y / times, w / times, h / times), float(scale * times)))
    note = (
        f"at column {x}, row {y}: the original's pixels; the decoded ones, bicubic; the Gaussians, sampled in between"
    )
    images = "".join(f'<img src="{data_uri(p)}" alt="">' for p in (pixels, smooth, sampled))
    words = f"<b>Enlarged {scale} times</b> {note}"
    return f'<figure class="wide"><div class="trio">{images}</div><figcaption>{words}</figcaption></figure>'


def _groups(report: Report, scene: Scene) -> str:
    """The maps of a texture stack: each group's original beside what was decoded."""
    if len(scene.groups) < 2:
        return ""
    height, width = report.source.shape[:2]
    both = report.source, scene.decoded(times=report.times)[:height, :width]
    source, decoded = (scene.compared(p) for p in both)
    figures = []
    for number, (group, part, *_) in enumerate(each_group(scene.groups)):
        pair = [to_u8(visible(p, scene.groups, number)) for p in both]
        images = "".join(f'<img src="{data_uri(p, _STRIP)}" alt="">' for p in pair)
        words = f"<b>{escape(group.name)}</b> {_psnr(decoded[..., part], source[..., part])}"
        figures.append(f'<figure><div class="pair">{images}</div><figcaption>{words}</figcaption></figure>')
    note = "The original of each on the left, the decoded one on the right."
    return f'<h2>Channel groups</h2><p>{note}</p>{_sharing(scene)}<div class="grid">{"".join(figures)}</div>'


def _sharing(scene: Scene) -> str:
    """Of a file of several parts: which maps share Gaussians."""
    if not scene.sharing:
        return ""
    lines = [escape(part_in_words(part)) for part in describe(scene.reader)["parts"]]
    return f"<p>Those on one line share Gaussians:<br>{'<br>'.join(lines)}</p>"


def _levels(report: Report, scene: Scene) -> str:
    """What a prefix of the file shows."""
    if scene.reader.available_levels < 2:
        return ""
    scale = min(1.0, _STRIP / max(scene.width, scene.height))
    panels = kinds.KINDS["levels"](scene, report.options(scale))
    figures = "".join(
        f'<figure><img src="{data_uri(p.pixels)}" alt=""><figcaption><b>{escape(p.title)}</b><br>{escape(p.note)}'
        "</figcaption></figure>"
        for p in panels
    )
    return f'<h2>Levels</h2><p>What the file shows as it arrives.</p><div class="strip">{figures}</div>'


def _psnr(a: F32, b: F32) -> str:
    found = psnr(a, b)
    return "exact" if found is None else f"{found:.2f} dB"


def _course(report: Report, scene: Scene) -> str:
    growths = [m for m in report.moments if m.growth]
    marks = [(m.step, m.added) for m in growths if m.new.any()]
    chart = charts.convergence(report.history, marks)
    if not chart and not growths:
        return ""
    stage = Stage(scene.width, scene.height, scene.groups, _STRIP)
    if len(growths) > _MOST_GROWTHS:
        growths = [growths[i] for i in np.linspace(0, len(growths) - 1, _MOST_GROWTHS).astype(int)]
    strip = []
    for moment in growths:
        second = stage.growth(moment) if moment.new.any() else stage.ellipses(moment)
        images = "".join(f'<img src="{data_uri(p)}" alt="">' for p in (stage.picture(moment), second))
        strip.append(f"<figure>{images}<figcaption>{escape(caption(moment))}</figcaption></figure>")
    words = "PSNR of the fit, before its values are rounded to codes."
    if marks:
        words += " Dotted lines are where Gaussians were added; below, the fit at these steps and the new ones in red."
    return f'<h2>How it got there</h2><p>{words}</p>{chart}<div class="strip">{"".join(strip)}</div>'


def _bits(scene: Scene) -> str:
    spent = bits_by_attribute(scene.reader)
    bar, table = charts.bits(spent, scene.reader.num_gaussians)
    chunks = kinds.KINDS["chunks"](scene, kinds.Options(scale=1.0))[0]
    note = "tinted by the chunk of the leading Gaussian, framed where a chunk reaches"
    title = counted(scene.part.last_chunk - scene.part.first_chunk, "chunk") + kinds.of_part(scene)
    figure = _figure(chunks.pixels, title, note)
    words = "What the entropy coder charges for each attribute, and what is not Gaussians."
    return f'<h2>Where the bits went</h2><p>{words}</p>{bar}<div class="split"><div>{table}</div>{figure}</div>'


def _settings(report: Report) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(name))}</td><td>{escape(str(value))}</td></tr>" for name, value in report.settings.items()
    )
    again = f"<code>{escape(report.command)}</code>" if report.command else ""
    table = f'<details><summary>All settings</summary><table class="settings">{rows}</table></details>' if rows else ""
    foot = f"Pictures on this page are WebP at quality {_QUALITY}; the numbers are of the .igs file itself."
    return f"<h2>Settings</h2>{again}{table}<footer>{foot}</footer>"
