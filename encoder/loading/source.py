"""A picture to encode, in memory: its values as they came, and channel groups. Arrays become one here.

Where files come from is image.py's. Without torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igs.encoder.loading.deep import SizeLimits
from igs.encoder.loading.metadata import sound_sections
from igs.format import Alpha, Colour, Group, Transfer, each_group
from igs.format.errors import InputError, UsageError
from igs.format.transfer import CURVED, from_linear


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """A picture to encode.

    values: [H, W, C] with straight alpha: uint8 or uint16, all of whose range is [0, 1], or float32 picture values,
    nominally in [0, 1]. groups: what the channels are; alpha and transfer of a group say how it will be *stored* (see
    :func:`to_stored`). sections: metadata by type (§10). bit_depth: of the source, 8, 16 or 32 (float). name: for
    messages. weights: of the groups' squared errors in the loss; none given: all 1.

    Indexed as an array [H, W, C] it gives float32 picture values: of large pictures only parts are made at a time.
    """

    values: NDArray[Any]
    groups: tuple[Group, ...]
    sections: dict[str, bytes]
    warnings: list[str]
    bit_depth: int
    name: str = "image"
    weights: tuple[float, ...] = ()

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        """Picture values of a part."""
        part = self.values[index]
        return part if part.dtype == np.float32 else np.divide(part, np.iinfo(part.dtype).max, dtype=np.float32)

    @property
    def is_within_unit(self) -> bool:
        """Whether all values are known to lie in [0, 1], being integers."""
        return self.values.dtype != np.float32

    @property
    def pixels(self) -> NDArray[np.float32]:
        """All picture values, float32 [H, W, C]; of integers made anew each time."""
        return self[:]

    @property
    def shape(self) -> tuple[int, int, int]:
        """[H, W, C]."""
        height, width, channels = self.values.shape
        return height, width, channels

    @property
    def height(self) -> int:
        return self.shape[0]

    @property
    def width(self) -> int:
        return self.shape[1]

    @property
    def channels(self) -> int:
        return self.shape[2]


def to_stored(pixels: NDArray[np.float32], groups: tuple[Group, ...]) -> NDArray[np.float32]:
    """Picture values [..., C] as the values that Gaussians hold: by the group's curve, its gamma, then premultiplied.

    The inverse of spec §8.3 wherever alpha is above 0. Returns a new float32 array of the same shape.
    """
    stored = np.array(pixels, dtype=np.float32)
    for group, _, lit, alpha in each_group(groups):
        colours = stored[..., lit]
        if group.transfer in CURVED:
            colours[...] = from_linear(colours, group.transfer)
        if group.gamma != 1:
            np.maximum(colours, 0, out=colours)
            np.power(colours, np.float32(1 / group.gamma), out=colours)
        if group.alpha == Alpha.PREMULTIPLIED:
            colours *= stored[..., alpha]
    return stored


def default_groups(
    channels: int,
    bit_depth: int,
    *,
    alpha: bool,
    colour: Colour | None = None,
    transfer: Transfer = Transfer.SRGB,
) -> tuple[Group, ...]:
    """One unnamed group for a picture of ``channels`` channels, the last being alpha if ``alpha``."""
    if colour is None:
        colour = {1: Colour.GREY, 3: Colour.RGB}.get(channels - alpha, Colour.UNSPECIFIED)
    kind = Alpha.PREMULTIPLIED if alpha else Alpha.NONE
    return (
        Group(
            channels=channels,
            transfer=transfer,
            alpha=kind,
            bit_depth=bit_depth,
            colour=colour,
            gamma=1.0,
            name="",
        ),
    )


def checked_groups(groups: tuple[Group, ...], channels: int) -> tuple[Group, ...]:
    """The groups as they are. Raises UsageError unless they hold so many channels together."""
    if sum(group.channels for group in groups) != channels:
        raise UsageError(f"groups hold {sum(group.channels for group in groups)} channels, the picture has {channels}")
    return groups


def from_array(array: NDArray[Any], limits: SizeLimits, groups: tuple[Group, ...] | None, name: str) -> SourceImage:
    """A picture of an array [H, W] or [H, W, C], C ≤ 64: uint8, uint16, or floats, nominally in [0, 1] and finite.

    groups: what its channels are; None: grey, RGB or neither by their number, the last of two or four being alpha.
    name: for messages. Raises UsageError for other arrays, InputError for one above the limits. The array is copied.
    """
    array = np.asarray(array)  # a matrix has two axes, whatever is asked of it
    if array.ndim not in (2, 3):
        raise UsageError(f"{name}: expected a shape [H, W] or [H, W, C], found {list(array.shape)}")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind not in "uf" or array.dtype not in ("u1", "u2", "f2", "f4", "f8"):
        raise UsageError(f"{name}: expected uint8, uint16 or float values, found {array.dtype}")
    array = array[..., None] if array.ndim == 2 else array
    height, width, channels = array.shape
    if not (height and width and 1 <= channels <= 64):
        raise UsageError(f"{name}: expected at least one pixel and 1 to 64 channels, found {list(array.shape)}")
    limits.check(width, height, name, channels)
    bad = not_finite(array)
    if bad:
        raise UsageError(f"{name}: expected finite values, found {bad}")
    bit_depth = {"u1": 8, "u2": 16}.get(array.dtype.str[1:], 32)
    scale = {8: 255, 16: 65535, 32: 1}[bit_depth]
    if groups is None:
        groups = default_groups(channels, bit_depth, alpha=channels in (2, 4))
    array = array if bit_depth == 32 else array.copy()
    return finished(array, scale, checked_groups(groups, channels), {}, [], bit_depth, name)


def not_finite(values: NDArray[Any]) -> str:
    """How many values [H, W, C] are NaN or infinite and where the first is, in words; empty if none."""
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return ""
    found = np.argwhere(~np.isfinite(values))
    row, column, channel = found[0].tolist()
    return (
        f"NaN or infinity in {len(found)} of {values.size}, "
        f"the first ({values[row, column, channel]}) in column {column}, row {row}, channel {channel}"
    )


def finished(
    values: NDArray[Any],
    scale: float,
    groups: tuple[Group, ...],
    sections: Mapping[str, bytes],
    notes: list[str],
    bit_depth: int,
    name: str,
) -> SourceImage:
    """A picture of values of which ``scale`` means 1; alpha outside [0, 1] (a resampled float picture's) is clipped.

    Metadata that readers would refuse is left out, with a note. The values may be kept, and alpha be written to.
    """
    if (values.dtype, scale) not in ((np.uint8, 255), (np.uint16, 65535)):
        with np.errstate(over="ignore"):  # which the next lines tell
            values = np.divide(values, scale, dtype=np.float32) if scale != 1 else np.array(values, dtype=np.float32)
        bad = not_finite(values)
        if bad:  # a float64 beyond float32, or NaN in a float file
            raise InputError(f"{name}: expected finite values, found {bad}")
        for *_, alpha in each_group(groups):
            if alpha is not None:
                np.clip(values[..., alpha], 0, 1, out=values[..., alpha])
    sound = sound_sections(sections, name, notes)
    return SourceImage(np.ascontiguousarray(values), groups, sound, notes, bit_depth, name)
