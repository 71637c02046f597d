"""Texture stacks: several maps of one surface, in files or arrays, as one picture with a channel group per map.

What a map is follows from its name (:mod:`igs.encoder.loading.map_names`): transfer, whether one channel says it all,
whether it holds normals. Without torch.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from igs.decoder.output import renormalize
from igs.encoder.loading import map_names
from igs.encoder.loading.deep import SizeLimits
from igs.encoder.loading.image import is_folder, load_image
from igs.encoder.loading.source import SourceImage
from igs.encoder.recipe import is_number, is_one_of
from igs.format import Alpha, Colour, Transfer
from igs.format.errors import InputError, UsageError

# Files of a directory that may be maps.
MAP_SUFFIXES = frozenset(
    {".avif", ".bmp", ".exr", ".jpeg", ".jpg", ".npy", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)
_DEPTHS = (8, 16, 32)
_TRANSFERS = tuple(t.name.lower() for t in Transfer)
_WEIGHT_MOST = 1e4
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")


@dataclasses.dataclass(frozen=True)
class TextureMap:
    """One map of a stack, where what its name says is not enough.

    source: anything that ``load_image`` takes. transfer: "srgb", "linear", "pq" or "log"; None: by the name. bit_depth:
    that the decoded map will have, 8, 16 or 32 (float); None: the source's. weight: of its squared error in the loss,
    per channel, beside 1 for the others.
    """

    source: Any
    transfer: str | None = None
    bit_depth: int | None = None
    weight: float = 1.0


@dataclasses.dataclass
class _Loaded:
    name: str
    image: SourceImage
    weight: float


def load_stack(
    maps: Mapping[str, Any],
    *,
    resample: str | None = None,
    size_limit: int,
    dimension_limit: int,
    memory_limit: float = math.inf,
    name: str = "stack",
) -> SourceImage:
    """Load the maps of a stack, in the order given, as the groups of one picture.

    maps: group name → path, array, Pillow image, … or :class:`TextureMap`. resample: what to do with maps of different
    size: None refuses them; "largest", "smallest" or "WxH" is the size that all get. Limits as for ``load_image``, the
    memory that of all maps together. Metadata of the maps is left out, with a warning if there is a colour profile.
    Raises UsageError, InputError.
    """
    if not maps:
        raise UsageError(f"{name}: expected at least one map, found none")
    limits = {"size_limit": size_limit, "dimension_limit": dimension_limit}
    notes: list[str] = []
    loaded: list[_Loaded] = []
    left = memory_limit
    for key, value in maps.items():
        if not isinstance(key, str):
            raise UsageError(f"{name}: expected names of maps, found {key!r}")
        entry = value if isinstance(value, TextureMap) else TextureMap(value)
        image, weight = _load_map(key, entry, notes, **limits, memory_limit=left)
        left = max(0, left - image.values.nbytes)
        loaded.append(_Loaded(key, image, weight))
    channels = sum(m.image.channels for m in loaded)
    if channels > 64:
        raise UsageError(f"{name}: expected at most 64 channels together, found {channels}")
    width, height = _common_size(loaded, resample, name)
    SizeLimits(size_limit, dimension_limit, memory_limit).check(width, height, name, channels)
    parts = [_resized(one.image, width, height) for one in loaded]
    if len({part.dtype for part in parts}) > 1:  # picture values are what all have
        both = zip(parts, loaded, strict=True)
        parts = [part if part.dtype == np.float32 else one.image.pixels for part, one in both]
    values = np.empty((height, width, channels), parts[0].dtype)
    first = 0
    for part in parts:
        last = first + part.shape[2]
        values[..., first:last] = part
        first = last
    groups = tuple(m.image.groups[0] for m in loaded)
    depth = max(m.image.bit_depth for m in loaded)
    weights = tuple(m.weight for m in loaded)
    return SourceImage(values, groups, {}, notes, depth, name, weights)


def find_maps(
    folder: Path, named: Mapping[str, str | Path] | None = None, hint: str = ""
) -> tuple[dict[str, Path], list[str]]:
    """The maps in a directory, by the names of their roles, in a fixed order; and remarks on what was left out.

    Files whose names say nothing are left out, and a normal map of the other convention beside one whose y points up.
    named: maps that are known already, by name; they take the place of others of their role. hint: what
    the message adds where no map is found. Raises InputError for that, and for two of one kind.
    """
    named = named or {}
    known_files = {Path(path).resolve() for path in named.values()}
    try:
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in MAP_SUFFIXES and p.is_file())
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}") from error
    skip = map_names.common_start([p.stem for p in files])
    roles = [map_names.role_of(p.stem, skip) for p in files]
    if not any(roles):  # what all names begin with was no material's name but the maps' own: normal_gl, normal_dx
        roles = [map_names.role_of(p.stem) for p in files]
    found: dict[map_names.Role, Path] = {}
    notes = []
    for path, role in zip(files, roles, strict=True):
        if path.resolve() in known_files:
            continue
        if role is not None and role.name in named:
            notes.append(f"{path}: left out, --map {role.name}={named[role.name]} takes its place")
        elif role is None:
            notes.append(f"{path}: left out, not a known map's name (--map NAME={path} takes it)")
        elif role in found:
            both = f"{found[role].name} and {path.name}"
            raise InputError(f"{folder}: expected one {role.name} map, found {both} (--map NAME=FILE says which)")
        else:
            found[role] = path
    if not found and not named:
        known = ", ".join(role.name for role in map_names.ROLES[:9])
        raise InputError(f"{folder}: expected maps such as {known}, found none{hint}")
    ordered = {role.name: found[role] for role in sorted(found, key=map_names.order_of)}
    if "normal_dx" in ordered and {"normal_gl", "normal"} & (ordered.keys() | named.keys()):
        notes.append(f"{ordered.pop('normal_dx')}: left out, the same normals with y turned are there (--map takes it)")
    return ordered, notes


def _load_map(key: str, entry: TextureMap, notes: list[str], **limits: Any) -> tuple[SourceImage, float]:
    """One map with its group as the stack will have it, and its weight."""
    if entry.transfer is not None and not is_one_of(entry.transfer, _TRANSFERS):
        raise UsageError(f"{key}: expected a transfer of {', '.join(_TRANSFERS)}, found {entry.transfer!r}")
    depth = entry.bit_depth
    if depth is not None and not (is_number(depth, whole=True) and depth in _DEPTHS):
        raise UsageError(f"{key}: expected a bit depth of 8, 16 or 32, found {depth!r}")
    if not (is_number(entry.weight) and 1 / _WEIGHT_MOST <= entry.weight <= _WEIGHT_MOST):
        raise UsageError(
            f"{key}: expected a weight of {1 / _WEIGHT_MOST:g} to {_WEIGHT_MOST:g}, found {entry.weight!r}"
        )
    if isinstance(entry.source, Mapping) or is_folder(entry.source):
        raise UsageError(
            f"{key}: expected one map, found several in {type(entry.source).__name__} {entry.source!s:.80}"
        )
    named = isinstance(entry.source, (str, os.PathLike))
    image = load_image(entry.source, name=None if named else key, **limits)
    if len(image.groups) != 1:
        raise UsageError(f"{key}: expected a picture of one group, found {len(image.groups)}")
    notes += image.warnings
    if "iccp" in image.sections:
        notes.append(f"{image.name}: its colour profile is left out, a stack has none")
    role = map_names.role_of(key)
    values, group = image.values, image.groups[0]
    alpha = group.alpha != Alpha.NONE
    if alpha and not (role and role.transfer == Transfer.SRGB) and bool((image[..., -1] == 1).all()):
        values, alpha = values[..., :-1], False  # written by a tool that always writes four channels
    if role and role.scalar and not isinstance(entry.source, np.ndarray) and values.shape[2] - alpha == 3:
        values = _grey(values, image.name, role.name, notes)
    colours = values.shape[2] - alpha
    transfer = group.transfer
    if role and not (role.transfer == Transfer.SRGB and transfer != Transfer.SRGB):  # EXR says itself what light it has
        transfer = role.transfer
    elif colours == 1:
        transfer = Transfer.LINEAR
    if entry.transfer:
        transfer = Transfer[entry.transfer.upper()]
    new = dataclasses.replace(
        group,
        channels=values.shape[2],
        transfer=transfer,
        # A normal under zero alpha is as good as any other, but what it is multiplied by must not bend it.
        alpha=Alpha.NONE if not alpha else Alpha.STRAIGHT if role and role.colour == Colour.NORMAL else group.alpha,
        bit_depth=int(depth or image.bit_depth),
        colour=role.colour_of(colours) if role else group.colour,
        name=key,
    )
    for expected, found in new.problems():
        raise UsageError(f"{key}: expected {expected}, found {found}")
    return dataclasses.replace(image, values=values, groups=(new,), bit_depth=new.bit_depth), float(entry.weight)


def _grey(values: NDArray[Any], name: str, role: str, notes: list[str]) -> NDArray[Any]:
    """One channel of a grey map that was stored as RGB; a map with colours as it is, with a remark."""
    if (values[..., 0] == values[..., 1]).all() and (values[..., 0] == values[..., 2]).all():
        return np.delete(values, (1, 2), axis=2)
    notes.append(f"{name}: expected grey for a map of {role}, found colours; all three channels are kept")
    return values


def _common_size(maps: list[_Loaded], resample: str | None, name: str) -> tuple[int, int]:
    """Width and height that all maps have or will have."""
    sizes = [(m.image.width, m.image.height) for m in maps]
    if resample in ("largest", "smallest"):
        return (max if resample == "largest" else min)(sizes, key=math.prod)
    if resample is not None:
        match = _SIZE.fullmatch(resample) if isinstance(resample, str) else None
        if not match or not all(map(int, match.groups())):
            raise UsageError(f"resample: expected largest, smallest or a size such as 1024x1024, found {resample!r}")
        return int(match[1]), int(match[2])
    if len(set(sizes)) > 1:
        found = ", ".join(f"{m.name} of {m.image.width}×{m.image.height}" for m in maps)
        raise InputError(f"{name}: expected maps of one size, found {found} (--resample makes them one)")
    return sizes[0]


def _resized(image: SourceImage, width: int, height: int) -> NDArray[Any]:
    """A map's values as they are, or picture values at another size: by Lanczos' filter, normals of length 1 again."""
    if (image.width, image.height) == (width, height):
        return image.values
    group = image.groups[0]
    alpha = group.alpha != Alpha.NONE
    values = image.pixels
    if alpha:  # colours that can't be seen must not bleed into those that can
        values = np.concatenate([values[..., :-1] * values[..., -1:], values[..., -1:]], axis=2)
    out = np.empty((height, width, values.shape[2]), np.float32)
    for c in range(values.shape[2]):
        plane = Image.fromarray(np.ascontiguousarray(values[..., c]))
        out[..., c] = np.asarray(plane.resize((width, height), Image.Resampling.LANCZOS))
    if alpha:
        out[..., -1] = np.clip(out[..., -1], 0, 1)
        np.divide(out[..., :-1], out[..., -1:], out=out[..., :-1], where=out[..., -1:] > 1 / 512)
    if image.bit_depth != 32:
        out = np.clip(out, 0, 1)
    if group.colour == Colour.NORMAL:
        renormalize(out[..., :3])
    return out
