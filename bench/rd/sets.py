"""Picture sets: folders, their categories (sub-folders), and the rates at which a set is measured."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SUFFIXES = {".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg"}
_SMALL = 1_000_000  # pixels: below it a set gets the rates for small pictures


@dataclass(frozen=True)
class Profile:
    """Rates in bits per pixel.

    BD-rates are taken over `rates`, curves go on through `more_rates`. Codecs that are set by a quality go up until
    they pass `limit`. `few` and `some` are how many pictures the dear codecs are measured on.
    """

    rates: tuple[float, ...]
    more_rates: tuple[float, ...]
    limit: float
    some: int
    few: int


SMALL = Profile((0.1, 0.15, 0.2, 0.3, 0.4), (0.6, 0.8, 1.0), 1.0, some=6, few=2)
LARGE = Profile((0.03, 0.05, 0.08, 0.12, 0.2), (0.35, 0.5), 0.5, some=3, few=0)


@dataclass(frozen=True)
class Picture:
    """One picture: `name` is unique in the run, as set/category/stem."""

    name: str
    category: str
    path: Path
    width: int
    height: int


@dataclass(frozen=True)
class PictureSet:
    """A folder's pictures in order of their names."""

    name: str
    profile: Profile
    pictures: tuple[Picture, ...]

    def describe(self) -> dict[str, Any]:
        """What the results keep of the set."""
        fields = ("name", "category", "width", "height")
        pictures = [{f: getattr(p, f) for f in fields} for p in self.pictures]
        return {"name": self.name, "profile": asdict(self.profile), "pictures": pictures}


def find(
    folder: Path,
    rates: tuple[float, ...] | None = None,
    subset: int | None = None,
    more_rates: tuple[float, ...] | None = None,
) -> PictureSet:
    """The pictures in a folder and in its direct sub-folders, which are its categories.

    `rates` and `more_rates` replace the profile's, `rates` alone both; `subset` leaves so many, spread evenly over the
    folder's order. Raises ValueError where there is none.
    """
    name = folder.resolve().name
    pictures = []
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        inside = path.relative_to(folder)
        category = inside.parts[0] if len(inside.parts) > 1 else ""
        with Image.open(path) as im:
            width, height = im.size
        pictures.append(Picture(f"{name}/{inside.with_suffix('').as_posix()}", category, path, width, height))
    if not pictures:
        raise ValueError(f"expected pictures in {folder}, found none")
    if subset:
        pictures = spread(pictures, subset)
    mean = sum(p.width * p.height for p in pictures) / len(pictures)
    profile = SMALL if mean < _SMALL else LARGE
    if rates or more_rates:
        rates, more = rates or profile.rates, more_rates or ()
        profile = Profile(rates, more, max([2.5 * max(rates), *more]), profile.some, profile.few)
    return PictureSet(name, profile, tuple(pictures))


def spread(items: list[Any], count: int) -> list[Any]:
    """`count` of the items, evenly spread, in order; all if there are not more."""
    if count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def load(path: Path) -> NDArray[np.uint8]:
    """The picture as 8-bit RGB [H, W, 3]; alpha is dropped, as every codec here gets the same three channels."""
    with Image.open(path) as im:
        return np.asarray(im.convert("RGB"))


def fingerprint(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 of the picture's values and shape, in hex."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
