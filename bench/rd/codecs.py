"""What a codec is to the benchmark, and the classical ones: JPEG, WebP, AVIF (Pillow), JPEG XL (pillow-jxl-plugin).

A codec turns a picture into bytes and bytes into a picture; the rate is the length of the bytes, headers and all.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, features

from rd.sets import Profile

Settings = dict[str, Any]  # JSON values: part of the point's key


@dataclass
class Encoded:
    """A file in memory, and what the encoder had to say about it (JSON values, kept with the point)."""

    data: bytes
    details: dict[str, Any] = field(default_factory=dict)


class Codec(Protocol):
    """`name` is what --only and the results call it; codecs of one `family` and `version` share their points.

    `pictures` says on which a codec is measured: `all`, or the profile's number of `some` or `few`. `keep`: the bytes
    stay in the cache, as they are dear to make again. Whatever does not work here says why in `missing`.
    """

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def family(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def pictures(self) -> str: ...

    @property
    def keep(self) -> bool: ...

    @property
    def stops(self) -> bool: ...

    def missing(self) -> str | None: ...

    def ladders(self, profile: Profile) -> Sequence[Sequence[Settings]]: ...

    def encode(self, pixels: NDArray[np.uint8], settings: Settings) -> Encoded: ...

    def decode(self, data: bytes) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class PillowCodec:
    """A format that Pillow writes, at a ladder of qualities for each chroma sampling (None: the format's own)."""

    name: str
    label: str
    format: str
    qualities: tuple[int, ...]
    fixed: tuple[tuple[str, Any], ...] = ()
    samplings: tuple[Any, ...] = (None,)
    feature: str | None = None  # Pillow's name of the library, for its version
    plugin: str | None = None  # a module that must be imported first
    pictures: str = "all"
    keep: bool = False
    stops: bool = True

    @property
    def family(self) -> str:
        return self.name

    @property
    def version(self) -> str:
        if self.plugin:
            from importlib.metadata import version

            return f"{self.plugin.replace('_', '-')} {version('pillow-jxl-plugin')}"
        assert self.feature
        return f"Pillow {PIL.__version__}, {self.feature} {features.version(self.feature)}"

    def missing(self) -> str | None:
        if self.plugin:
            try:
                __import__(self.plugin)
            except ImportError:
                return "needs `pip install pillow-jxl-plugin`"
        elif not features.check(self.feature or ""):
            return f"this Pillow was built without {self.feature}"
        return None

    def ladders(self, profile: Profile) -> list[list[Settings]]:
        return [
            [{"quality": q, **dict(self.fixed), **({} if s is None else {"subsampling": s})} for q in self.qualities]
            for s in self.samplings
        ]

    def encode(self, pixels: NDArray[np.uint8], settings: Settings) -> Encoded:
        self.missing()  # registers the plugin
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, self.format, **settings)
        return Encoded(out.getvalue())

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        self.missing()
        with Image.open(io.BytesIO(data)) as im:
            return np.asarray(im.convert("RGB"))


CLASSICAL = (
    PillowCodec(
        "jpeg",
        "JPEG",
        "JPEG",
        (2, 4, 6, 9, 12, 16, 20, 25, 30, 38, 46, 55, 65, 75, 85, 92),
        fixed=(("optimize", True), ("progressive", True)),
        samplings=(2, 0),  # 4:2:0, 4:4:4
        feature="libjpeg_turbo",
    ),
    PillowCodec(
        "webp",
        "WebP",
        "WEBP",
        (0, 2, 5, 10, 15, 20, 27, 35, 45, 55, 65, 75, 82, 88, 93),
        fixed=(("method", 6),),
        feature="webp",
    ),
    PillowCodec(
        "avif",
        "AVIF",
        "AVIF",
        (2, 6, 10, 15, 20, 26, 32, 38, 45, 52, 60, 68, 76, 84),
        fixed=(("speed", 4),),
        samplings=("4:2:0", "4:4:4"),
        feature="avif",
        keep=True,
    ),
    PillowCodec(
        "jxl",
        "JPEG XL",
        "JXL",
        (1, 3, 6, 10, 14, 18, 22, 26, 30, 38, 48, 58, 68, 76, 84, 90, 94),
        fixed=(("effort", 7),),
        plugin="pillow_jxl",
    ),
)
