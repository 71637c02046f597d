"""The pictures of igs-view, one function each: a scene and what was asked for → panels on a sheet."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from igs.decoder.grid import output_size
from igs.decoder.measure import psnr
from igs.format.describe import counted
from igs.format.errors import UsageError
from igs.format.groups import each_group
from igs.view import maps
from igs.view.canvas import U8, Bar, Panel, compose, framed, rounded_up, to_u8
from igs.view.colours import PAPER, amounts, numbers
from igs.view.ellipses import Style, draw_ellipses
from igs.view.scene import F32, F64, Drawn, Region, Scene

WIDE = 1200.0  # pixels of a single panel's longer side, where no scale is asked for
NARROW = 800.0  # of one panel of several
MOST = 200_000  # ellipses that are drawn unless more are asked for: some ten seconds, and a pixel has several of them
_ZOOM_SIDE = 64.0  # pixels of the picture
_MOST_NAMES = 4  # of groups in a title
_PALE = 0.72  # how far a picture steps back behind what is drawn over it
_ROUND_DB = 5.0
_FINER = 2  # samples per pixel and side where numbers are shown as colours: their seams are smoothed


@dataclasses.dataclass(frozen=True)
class Options:
    """What was asked for.

    region: x, y, w, h in pixels. scale: output pixels per pixel; None: what makes a sheet of readable size. level: of
    quality; None: the last. sample: draw so many of the Gaussians, evenly drawn by ``seed``. deviations: of ellipses.
    on: what they lie on. beside: the decoded picture beside. source: the original, float32 [H, W, C] in [0, 1], where
    the file's picture is compared with it, of a group that the scene was opened for perhaps its channels alone. times:
    how many times as large it is; None: what fits. top: the upper end of the colour scale. bare: the last panel alone.
    """

    region: Region | None = None
    scale: float | None = None
    level: int | None = None
    sample: int | None = None
    seed: int = 0
    deviations: float = 1.0
    on: Literal["paper", "picture", "black"] = "paper"
    beside: bool = False
    source: F32 | None = None
    times: int | None = None
    unit: Literal["8-bit", "db"] = "8-bit"
    top: float | None = None
    bare: bool = False

    def check(self, scene: Scene) -> None:
        """Raise UsageError for a region or a level that the picture doesn't have."""
        if self.region is not None:
            x, y, w, h = self.region
            if not (w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= scene.width and y + h <= scene.height):
                raise UsageError(
                    f"--region: expected a part of {scene.width}×{scene.height} pixels, found {x:g},{y:g},{w:g},{h:g}"
                )
        scene.reader.level_range(self.level)

    def memory(self, scene: Scene, kind: str) -> float:
        """Bytes that drawing takes, about: of the largest panel, and of a decoded picture with its maps."""
        area = _area(scene, self)
        if kind == "zoom" and self.region is None:
            area = (0.0, 0.0, _ZOOM_SIDE, _ZOOM_SIDE)
        scale = _scale(self, area, WIDE)
        panel = math.ceil(area[2] * scale) * math.ceil(area[3] * scale)
        sampled = max(panel * _FINER**2, area[2] * area[3])
        gaussians = scene.reader.part_extent(scene.part).num_gaussians * (200.0 + 12.0 * scene.part.header.features)
        pixels = scene.width * scene.height if self.source is None else math.prod(self.source.shape[:2])
        return 64.0 * panel + 40.0 * sampled + 48.0 * pixels + gaussians


def _area(scene: Scene, o: Options) -> Region:
    return o.region or (0.0, 0.0, float(scene.width), float(scene.height))


def _scale(o: Options, area: Region, longest: float) -> float:
    if o.scale is not None:
        return o.scale
    scale = longest / max(area[2], area[3])
    return math.floor(2 * scale) / 2 if scale >= 1 else scale


def facts(scene: Scene, level: int | None = None) -> str:
    """Size and rate in a line, of the file up to a level; None: of all that is there."""
    reader = scene.reader
    size = reader.file_bytes
    if level is not None or reader.partial:
        size = reader.levels[reader.available_levels - 1 if level is None else level].end
    return f"{_drawn_by(scene, level)}, {size} bytes, {8 * size / (scene.width * scene.height):.3f} bpp"


def _drawn_by(scene: Scene, level: int | None) -> str:
    """How many Gaussians a level is decoded from: of levels that replace one another its own."""
    first, last = scene.reader.level_range(level)
    return counted(sum(l.num_gaussians for l in scene.reader.levels if first <= l.first_chunk < last), "Gaussian")


def of_part(scene: Scene) -> str:
    """Whose the Gaussians are, where the file has several parts."""
    names = [name or "the unnamed group" for name in scene.sharing]
    if len(names) > _MOST_NAMES:
        names[_MOST_NAMES - 1 :] = [f"{len(names) - _MOST_NAMES + 1} more"]
    return f" of {' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))}" if names else ""


def _decoded(scene: Scene, o: Options, area: Region, scale: float, title: str = "Decoded") -> Panel:
    return Panel(to_u8(scene.picture(area, scale, o.level)), title, facts(scene, o.level))


def placed(drawn: Drawn, area: Region, scale: float) -> tuple[F64, F64]:
    """Means and covariances in the pixels of an output that shows ``area`` at ``scale``."""
    return (drawn.means - [area[0], area[1]]) * scale, drawn.covariances * scale**2


def ground(scene: Scene, o: Options, area: Region, scale: float) -> F32:
    """What is drawn on: paper, black, or the picture, stepped back."""
    if o.on == "picture":
        picture = scene.picture(area, scale, o.level)
        grey = picture.mean(axis=2, keepdims=True)
        toned = 0.6 * grey + 0.4 * picture
        return np.asarray(toned + _PALE * (1 - toned), np.float32)
    w, h = _size(area, scale)
    tone = np.array(PAPER if o.on == "paper" else (0, 0, 0), np.float32) / 255
    return np.tile(tone, (h, w, 1))


def sampled(drawn: Drawn, count: int | None, seed: int) -> Drawn:
    """So many of them, drawn without replacement; all if there are no more."""
    if count is None or count >= len(drawn):
        return drawn
    rows = np.sort(np.random.default_rng(seed).choice(len(drawn), count, replace=False))
    return drawn.take(rows)


def _ellipses(scene: Scene, o: Options) -> list[Panel]:
    area = _area(scene, o)
    scale = _scale(o, area, NARROW if o.beside else WIDE)
    every = scene.drawn(o.level)
    drawn = sampled(every, o.sample or MOST, o.seed)
    canvas = ground(scene, o, area, scale)
    style = Style(o.deviations, fill=0.35, shade=0.8) if o.on == "picture" else Style(o.deviations)
    if o.on == "black":
        style = dataclasses.replace(style, shade=1.25, fill=0.55)
    draw_ellipses(canvas, *placed(drawn, area, scale), drawn.colours, style)
    share = f"{len(drawn)} of {len(every)}" if len(drawn) < len(every) else str(len(every))
    deviations = "one standard deviation" if o.deviations == 1 else f"{o.deviations:g} standard deviations"
    panels = [Panel(to_u8(canvas), f"{share} Gaussians{of_part(scene)}", f"ellipses at {deviations}")]
    return [_decoded(scene, o, area, scale), *panels] if o.beside else panels


def _ids(scene: Scene, o: Options) -> list[Panel]:
    area = _area(scene, o)
    scale = _scale(o, area, NARROW if o.beside else WIDE)
    found = _leaders(scene, o, area, scale)
    count = len(np.unique(found[found >= 0]))
    note = f"{count} of {len(scene.drawn(o.level))} Gaussians{of_part(scene)} count most somewhere"
    panels = [Panel(_reduced(id_map(found), area, scale), "Which Gaussian counts most", note)]
    return [_decoded(scene, o, area, scale), *panels] if o.beside else panels


def _leaders(scene: Scene, o: Options, area: Region, scale: float) -> maps.I64:
    """Who counts most, at more samples than will be shown."""
    return maps.nearest(*scene.splats(o.level), (scene.width, scene.height), area, max(1.0, _FINER * scale))


def _reduced(pixels: U8, area: Region, scale: float) -> U8:
    """Pixels of an area at any scale as they are shown at this one: means."""
    return np.asarray(Image.fromarray(pixels).resize(_size(area, scale), Image.Resampling.BOX))


def _size(area: Region, scale: float) -> tuple[int, int]:
    """Columns and rows of an area at a scale, as the decoder has them."""
    return output_size(area[2], scale), output_size(area[3], scale)


def id_map(found: maps.I64) -> U8:
    """A colour for each number, with darker seams."""
    colours = numbers(found)
    seams = edges(found)
    colours[seams] = (colours[seams] * 0.72).astype(np.uint8)
    return colours


def edges(found: maps.I64) -> npt.NDArray[np.bool_]:
    """Where the pixel to the right or below shows another number."""
    edge = np.zeros(found.shape, bool)
    edge[:, :-1] |= found[:, 1:] != found[:, :-1]
    edge[:-1] |= found[1:] != found[:-1]
    return edge


def _density(scene: Scene, o: Options) -> list[Panel]:
    area = _area(scene, o)
    scale = _scale(o, area, NARROW if o.beside else WIDE)
    values = maps.density(scene.drawn(o.level).means, scene.width, scene.height)
    top = o.top or rounded_up(float(values.max()))
    mean = 1000 * len(scene.drawn(o.level)) / (scene.width * scene.height)
    note = f"mean {mean:.3g}, most {values.max():.3g} per 1000 pixels"
    shown = resized(amounts(values, 0, top), area, scale)
    panels = [Panel(shown, f"Density of Gaussians{of_part(scene)}", note, Bar(0, top, "per 1000 pixels"))]
    return [_decoded(scene, o, area, scale), *panels] if o.beside else panels


def resized(pixels: U8, area: Region, scale: float, times: int = 1) -> U8:
    """A region of a map of the whole picture's size, or ``times`` that, at a scale: bilinear above 1, means below."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    method = Image.Resampling.BILINEAR if scale >= times else Image.Resampling.BOX
    x, y, w, h = (v * times for v in area)
    return np.asarray(image.resize(_size(area, scale), method, box=(x, y, x + w, y + h)))


def _source(scene: Scene, o: Options, kind: str) -> F32:
    if o.source is None:
        raise UsageError(f"{kind}: expected the original to compare with (--against FILE), found none")
    height, width, channels = o.source.shape
    expected = {scene.header.channels, scene.groups[scene.number].channels if scene.named else scene.header.channels}
    if channels not in expected or scene.times(o.source) is None:
        raise UsageError(
            f"--against: expected {scene.width}×{scene.height} pixels of {' or '.join(map(str, sorted(expected)))} "
            f"channels as in the .igs file, or several times these pixels, found {width}×{height} of {channels}"
        )
    return o.source


def _times(scene: Scene, o: Options) -> int:
    return o.times or (1 if o.source is None else scene.times(o.source) or 1)


def compared(scene: Scene, o: Options, kind: str, level: int | None) -> tuple[F32, F32]:
    """The decoded picture, enlarged where it was reduced, and the original: both as errors are measured."""
    source = _source(scene, o, kind)
    decoded = scene.decoded(level, _times(scene, o))[: source.shape[0], : source.shape[1]]
    return scene.compared(decoded), scene.compared(source)


def _error(scene: Scene, o: Options) -> list[Panel]:
    decoded, source = compared(scene, o, "error", o.level)
    parts = [("Error", slice(None))]
    if len(scene.groups) > 1 and not scene.named and not o.bare:
        parts += [(f"Error of {g.name}", part) for g, part, *_ in each_group(scene.groups)]
    area, times = _area(scene, o), _times(scene, o)
    scale = _scale(o, area, NARROW if o.beside or len(parts) > 1 else WIDE)
    panels = []
    for title, part in parts:
        errors = maps.errors(decoded[..., part], source[..., part])
        found = psnr(decoded[..., part], source[..., part])
        note = "no error" if found is None else f"PSNR {found:.2f} dB"
        shown, bar = error_map(errors, o.unit, o.top)
        beyond = scene.height * times - shown.shape[0], scene.width * times - shown.shape[1]
        shown = np.pad(shown, ((0, beyond[0]), (0, beyond[1]), (0, 0)), mode="edge")
        panels.append(Panel(resized(shown, area, scale, times), title, note, bar))
    return [_decoded(scene, o, area, scale), *panels] if o.beside else panels


def error_map(errors: F64, unit: str, top: float | None = None) -> tuple[U8, Bar]:
    """Colours of an error map and the bar that says what they mean: the lighter the worse."""
    if unit == "db":
        local = maps.error_db(errors)
        worst = _ROUND_DB * math.floor(float(np.quantile(local, 0.005)) / _ROUND_DB)
        best = max(top or min(_ROUND_DB * math.ceil(float(local.max()) / _ROUND_DB), 50.0), worst + _ROUND_DB)
        return amounts(-local, -best, -worst), Bar(worst, best, "dB, local PSNR", reversed=True)
    high = top or rounded_up(float(np.quantile(errors, 0.998)))
    return amounts(errors, 0, high), Bar(0, high, "8-bit steps")


def _levels(scene: Scene, o: Options) -> list[Panel]:
    area, reader = _area(scene, o), scene.reader
    available = list(range(reader.available_levels))
    scale = _scale(o, area, WIDE / min(2, len(available)))
    panels = []
    for level in available:
        end = reader.levels[level].end
        note = f"{end} bytes, {8 * end / (scene.width * scene.height):.3f} bpp"
        if o.source is not None:
            values, original = compared(scene, o, "levels", level)
            found = psnr(values, original)
            note += ", no error" if found is None else f", {found:.2f} dB"
        picture = to_u8(scene.picture(area, scale, level))
        panels.append(Panel(picture, f"Level {level}: {_drawn_by(scene, level)}", note))
    return panels


def _zoom(scene: Scene, o: Options) -> list[Panel]:
    whole = scene.picture(level=o.level)
    original = None if o.source is None else scene.shown(_source(scene, o, "zoom"))
    times = _times(scene, o)
    area = o.region or maps.busiest(whole if original is None or times > 1 else original, int(_ZOOM_SIDE))
    scale = max(1.0, _scale(o, area, NARROW * 0.64))
    side = round(area[3] * scale)
    shrink = side / scene.height
    box = tuple(v * shrink for v in area)
    overview = np.asarray(
        Image.fromarray(to_u8(whole)).resize((max(1, round(scene.width * shrink)), side), Image.Resampling.LANCZOS)
    )
    panels = [Panel(framed(overview, (box[0], box[1], box[2], box[3])), "Decoded", facts(scene, o.level))]
    if original is not None:
        pixels = _enlarged(original, area, scale, Image.Resampling.NEAREST, times)
        panels.append(Panel(pixels, f"The original's pixels, {scale / times:g}x"))
    pixels = _enlarged(whole, area, scale, Image.Resampling.BICUBIC)
    panels.append(Panel(pixels, f"Decoded at 1x, bicubic {scale:g}x"))
    panels.append(Panel(to_u8(scene.picture(area, scale, o.level)), f"Gaussians sampled at {scale:g}x"))
    return panels


def _enlarged(picture: F32, area: Region, scale: float, method: Image.Resampling, times: int = 1) -> U8:
    """A region of a picture that is ``times`` as large as the file's."""
    x, y, w, h = (v * times for v in area)
    box = (x, y, min(x + w, picture.shape[1]), min(y + h, picture.shape[0]))
    return np.asarray(Image.fromarray(to_u8(picture)).resize(_size(area, scale), method, box=box))


def _chunks(scene: Scene, o: Options) -> list[Panel]:
    area = _area(scene, o)
    scale = _scale(o, area, NARROW if o.beside else WIDE)
    drawn, reader = scene.drawn(o.level), scene.reader
    found = _leaders(scene, o, area, scale)
    owner = np.where(found < 0, -1, drawn.chunks[np.maximum(found, 0)])
    tint = _reduced(numbers(owner), area, scale).astype(np.float32) / np.float32(255)
    picture = scene.picture(area, scale, o.level).mean(axis=2, keepdims=True)
    shown = Image.fromarray(to_u8(tint * (0.45 + 0.55 * picture)))
    pen = ImageDraw.Draw(shown)
    limit = np.array([shown.width - 1, shown.height - 1] * 2, np.float64)
    line = max(1, round(shown.width / 700))
    for chunk in np.unique(drawn.chunks).tolist():
        corners = (np.array(reader.chunk_box(chunk)) - [area[0], area[1]] * 2) * scale
        x0, y0, x1, y1 = np.clip(corners, 0, limit).tolist()
        r, g, b = (numbers(chunk).astype(int) // 3 + 170).tolist()
        pen.rectangle((x0, y0, x1, y1), outline=(r, g, b), width=line)
    count = len(np.unique(drawn.chunks))
    note = f"{count} chunks: tinted where a chunk's Gaussians lead, framed where they reach"
    panels = [Panel(np.asarray(shown), f"Chunks{of_part(scene)}", note)]
    return [_decoded(scene, o, area, scale), *panels] if o.beside else panels


def _overview(scene: Scene, o: Options) -> list[Panel]:
    """The picture, its ellipses, who leads, and the error or, without an original, the density."""
    o = dataclasses.replace(o, beside=False, bare=True, scale=_scale(o, _area(scene, o), NARROW))
    last = _density if o.source is None else _error
    parts = [kind(scene, o)[0] for kind in (_ellipses, _ids, last)]
    return [_decoded(scene, o, _area(scene, o), o.scale or 1.0), *parts]


KINDS: dict[str, Callable[[Scene, Options], list[Panel]]] = {
    "ellipses": _ellipses,
    "ids": _ids,
    "density": _density,
    "error": _error,
    "levels": _levels,
    "zoom": _zoom,
    "chunks": _chunks,
    "overview": _overview,
}


def draw(kind: str, scene: Scene, options: Options | None = None) -> Image.Image:
    """A sheet of one of ``KINDS``. Raises UsageError for what can't be drawn of this file."""
    if kind not in KINDS:
        raise UsageError(f"kind: expected one of {', '.join(KINDS)}, found {kind!r}")
    options = options or Options()
    panels = KINDS[kind](scene, options)
    if options.bare:
        return Image.fromarray(panels[-1].pixels)
    many = kind in ("levels", "error") and len(panels) > 3
    return compose(panels, columns=2 if kind == "overview" or many else None)


def map_sheet(
    kind: str,
    values: F64,
    picture: F32,
    top: float | None = None,
    *,
    beside: bool = False,
    bare: bool = False,
    name: str = "spectral-residual",
) -> Image.Image:
    """A sheet of a map [H, W] of a picture [H, W, 3], such as its gradient, at the picture's own size or an even
    multiple of it. name: of the map of saliency."""
    if top is None:  # an edge or two would leave all else dark
        top = rounded_up(float(np.quantile(values, 0.99))) if values.any() else 1.0
    colours = amounts(values, 0, top)
    if bare:
        return Image.fromarray(colours)
    height, width = values.shape
    times = max(1, int((NARROW if beside else WIDE) // max(height, width)))

    def enlarged(pixels: U8) -> U8:
        return np.repeat(np.repeat(pixels, times, axis=0), times, axis=1)

    titles = {
        "gradient": ("Gradient", "per pixel", "where first positions are drawn, --init gradient"),
        "saliency": ("Saliency", name.replace("-", " "), "where first positions are drawn, --init saliency"),
    }
    title, unit, note = titles[kind]
    panels = [Panel(enlarged(colours), title, note, Bar(0, top, unit))]
    if beside:
        panels.insert(0, Panel(enlarged(to_u8(picture)), "Picture", f"{width} x {height}"))
    return compose(panels)
