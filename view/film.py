"""A fit as it went: pictures of single moments, of growths with the new Gaussians marked, and a film of all of them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from typing import IO, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from igs.decoder.output import visible_stored
from igs.format import Group
from igs.format.errors import UsageError
from igs.view.canvas import U8, Panel, compose, font, plain, to_u8
from igs.view.colours import FAINT, INK, MARK, PAPER
from igs.view.ellipses import Style, draw_ellipses
from igs.view.scene import F32

FORMATS = {".webp": "WEBP", ".gif": "GIF"}
_FRAME, _GROWTH, _LAST = 90, 400, 2500  # milliseconds
_FRAME_SIDE = 480  # pixels of one of the two panels


class Moment(Protocol):
    """What is known of a fit at one step; ``igs.encoder.fitting.record.Snapshot`` is one."""

    @property
    def step(self) -> int: ...
    @property
    def growth(self) -> bool: ...
    @property
    def num_gaussians(self) -> int: ...
    @property
    def added(self) -> int: ...
    @property
    def psnr(self) -> float | None: ...
    @property
    def values(self) -> npt.NDArray[np.uint8]: ...
    @property
    def position(self) -> npt.NDArray[np.float32]: ...
    @property
    def covariance(self) -> npt.NDArray[np.float32]: ...
    @property
    def feature(self) -> npt.NDArray[np.float32]: ...
    @property
    def new(self) -> npt.NDArray[np.bool_]: ...


@dataclasses.dataclass(frozen=True)
class Stage:
    """What is the same for all moments. width, height: of the picture. side: of an output's longer side, in pixels."""

    width: int
    height: int
    groups: tuple[Group, ...]
    side: int = _FRAME_SIDE

    @property
    def scale(self) -> float:
        """Output pixels per pixel."""
        return self.side / max(self.width, self.height)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows of an output."""
        return max(1, round(self.width * self.scale)), max(1, round(self.height * self.scale))

    def rgb(self, stored: npt.ArrayLike) -> F32:
        """Stored values [..., C] as they look."""
        return visible_stored(stored, self.groups)

    def picture(self, moment: Moment) -> U8:
        """The fit's picture, [h, w, 3]."""
        pixels = to_u8(self.rgb(moment.values.astype(np.float32) / 255))
        method = Image.Resampling.LANCZOS if max(self.size) < max(pixels.shape) else Image.Resampling.BICUBIC
        return np.asarray(Image.fromarray(pixels).resize(self.size, method))

    def ellipses(self, moment: Moment) -> U8:
        """All Gaussians on paper, [h, w, 3]."""
        canvas: F32 = np.tile(np.array(PAPER, np.float32) / np.float32(255), (self.size[1], self.size[0], 1))
        mean, cov = moment.position * self.scale, moment.covariance * self.scale**2
        draw_ellipses(canvas, mean, cov, self.rgb(moment.feature), Style(width=0.8))
        return to_u8(canvas)

    def growth(self, moment: Moment) -> U8:
        """The picture, stepped back, under all Gaussians in grey and the new ones marked, [h, w, 3]."""
        picture = self.picture(moment).astype(np.float32) / 255
        grey = picture.mean(axis=2, keepdims=True)
        canvas = np.repeat(0.45 + 0.55 * grey, 3, axis=2).astype(np.float32)
        mean, cov = moment.position * self.scale, moment.covariance * self.scale**2
        old, new = ~moment.new, moment.new
        tone = np.full((int(old.sum()), 3), 0.3, np.float32)
        draw_ellipses(canvas, mean[old], cov[old], tone, Style(fill=0.0, line=0.35, width=0.8, shade=1.0))
        mark = np.tile(np.array(MARK, np.float32) / 255, (int(new.sum()), 1))
        draw_ellipses(canvas, mean[new], cov[new], mark, Style(fill=0.5, line=1.0, shade=0.8))
        return to_u8(canvas)


def caption(moment: Moment) -> str:
    """Step, number and quality in a line."""
    words = [f"step {moment.step}", f"{moment.num_gaussians} Gaussians"]
    if moment.growth and moment.new.any():
        words[1] += f" ({moment.added} new)"
    if moment.psnr is not None:
        words.append(f"{moment.psnr:.2f} dB")
    return ", ".join(words)


def growth_sheet(moment: Moment, stage: Stage) -> Image.Image:
    """A growth as a picture of its own: the fit, and the Gaussians with the new ones marked."""
    first = Panel(stage.picture(moment), "The fit", caption(moment))
    title = "Added Gaussians" if moment.new.any() else "First Gaussians"
    pixels = stage.growth(moment) if moment.new.any() else stage.ellipses(moment)
    return compose([first, Panel(pixels, title)])


def save_film(file: IO[bytes], kind: str, moments: Sequence[Moment], stage: Stage) -> int:
    """Write an animation, the fit beside its Gaussians; returns the number of frames.

    kind: a suffix of ``FORMATS``. Raises UsageError for another, or without a moment.
    """
    if kind not in FORMATS:
        raise UsageError(f"film: expected a name that ends in {' or '.join(FORMATS)}, found {kind or 'none'}")
    if not moments:
        raise UsageError("film: expected one moment of the fit or more, found none")
    frames = [_frame(m, stage, max(x.step for x in moments)) for m in moments]
    memory = io.BytesIO()  # on a file Pillow's encoders write to the descriptor, and take a part for the whole
    durations = [*(_GROWTH if m.growth else _FRAME for m in moments[:-1]), _LAST]
    if kind == ".gif":
        # One palette for all frames, so that nothing flickers: that of the last, and of one with marks.
        marked = [f for f, m in zip(frames, moments, strict=True) if m.new.any()]
        both = Image.new("RGB", (frames[-1].width, frames[-1].height * 2))
        both.paste(frames[-1], (0, 0))
        both.paste(marked[0] if marked else frames[0], (0, frames[-1].height))
        palette = both.quantize(255, Image.Quantize.MEDIANCUT)
        frames = [f.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for f in frames]
        frames[0].save(
            memory, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False
        )
    else:
        frames[0].save(
            memory, "WEBP", save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=80, method=4
        )
    file.write(memory.getbuffer())
    return len(frames)


def _frame(moment: Moment, stage: Stage, last: int) -> Image.Image:
    """Two panels, a caption and a bar of how far the fit is; always of the same size."""
    columns, rows = stage.size
    gap, size = 12, min(max(columns / 26, 11.0), 18.0)
    foot = round(size * 2.4)
    frame = Image.new("RGB", (2 * columns + 3 * gap, rows + gap + foot), PAPER)
    frame.paste(Image.fromarray(stage.picture(moment)), (gap, gap))
    shown = stage.growth(moment) if moment.growth and moment.new.any() else stage.ellipses(moment)
    frame.paste(Image.fromarray(shown), (columns + 2 * gap, gap))
    pen = ImageDraw.Draw(frame)
    top = rows + gap
    pen.text((gap, top + size * 0.75), plain(caption(moment)), INK, font(size), anchor="lt")
    left, right = columns + 2 * gap, 2 * columns + 2 * gap
    y = top + size * 1.15
    pen.line([(left, y), (right, y)], (222, 221, 217), 2)
    pen.line([(left, y), (left + (right - left) * moment.step / max(last, 1), y)], FAINT, 2)
    return frame
