"""The channel groups of an open picture, by position and by name, and each as a picture of its own (spec §3.4)."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from igs.decoder.output import output_dtype, to_dtype
from igs.format.errors import UsageError
from igs.format.groups import each_group

if TYPE_CHECKING:
    from igs.decoder.image import Image
    from igs.format import Group


class Map:
    """One group of a picture: what the picture's own methods give, of its channels alone.

    ``group`` is its record; name, channels, colour, transfer, bit_depth, alpha and gamma are read from there.
    ``np.asarray`` gives the map at its source's depth. renormalize: give normals the length 1 (for others an error).
    """

    def __init__(self, image: Image, group: Group) -> None:
        self._image, self.group = image, group

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.group, name)

    def decode(
        self, scale: float = 1.0, level: int | None = None, dtype: Any = None, raw: bool = False,
        renormalize: bool = False,
    ) -> npt.NDArray[Any]:  # fmt: skip
        """The whole map [H, W, channels]; see ``Image.decode``. dtype: None is the source's depth."""
        return self.region(0, 0, self._image.width, self._image.height, scale, dtype, level, raw, renormalize)

    def region(
        self, x: float, y: float, w: float, h: float, scale: float = 1.0, dtype: Any = None, level: int | None = None,
        raw: bool = False, renormalize: bool = False,
    ) -> npt.NDArray[Any]:  # fmt: skip
        """A rectangle of the map; see ``Image.region``."""
        kind = depth_dtype(self.group.bit_depth) if dtype is None else dtype
        return self._image.region(
            x, y, w, h, scale, kind, level, raw, groups=[self.group.name], renormalize=renormalize
        )

    def sample(self, points: Any, level: int | None = None, raw: bool = False) -> npt.NDArray[np.float32]:
        """Values at any points, [N, channels]; see ``Image.sample``."""
        return self._image.sample(points, level, raw, groups=[self.group.name])

    def pixel(self, x: int, y: int, level: int | None = None, raw: bool = False) -> npt.NDArray[np.float32]:
        """The value at the centre of the pixel in column x, row y, [channels]; see ``Image.pixel``."""
        return self._image.pixel(x, y, level, raw, groups=[self.group.name])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        decoded: Any = self.decode()
        pixels: npt.NDArray[Any] = decoded if self._image.device == "cpu" else decoded.copy_to_host()
        return pixels if dtype is None else pixels.astype(dtype)

    def __repr__(self) -> str:
        return f"<map {self.group.name!r} of {self.group.channels} channels of {self._image!r}>"


class Groups(tuple["Group", ...]):
    """The groups of a picture in order, as a tuple; by name each is a :class:`Map`.

    ``groups[0]`` and iteration give records, ``groups["normal"]`` gives the map. ``"normal" in groups`` tells whether
    there is one.
    """

    _image: Image

    @classmethod
    def of(cls, image: Image, groups: Iterable[Group]) -> Groups:
        """The groups of an open picture."""
        made = cls(groups)
        made._image = image
        return made

    @property
    def names(self) -> tuple[str, ...]:
        """The groups' names, in order."""
        return tuple(group.name for group in self)

    @overload  # type: ignore[override]
    def __getitem__(self, key: str) -> Map: ...
    @overload
    def __getitem__(self, key: int) -> Group: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Group, ...]: ...

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return Map(self._image, self[self.find(key)])
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        return key in self.names if isinstance(key, str) else super().__contains__(key)

    def find(self, name: str) -> int:
        """The position of the group of a name. Raises UsageError if there is none."""
        for i, group in enumerate(self):
            if group.name == name:
                return i
        known = ", ".join(repr(n) for n in self.names)
        raise UsageError(f"groups: expected one of {known}, found {name!r}")

    def select(self, wanted: Iterable[Any]) -> tuple[tuple[Group, ...], npt.NDArray[np.intp]]:
        """Groups by names or positions, in the order asked for, and their channels' numbers in the picture."""
        if isinstance(wanted, (str, numbers.Integral)):
            wanted = [wanted]
        starts = np.cumsum([0, *(group.channels for group in self)])
        found, channels = [], []
        for key in wanted:
            known = isinstance(key, (str, numbers.Integral)) and not isinstance(key, bool)
            at = self.find(key) if isinstance(key, str) else int(key) if known else -1
            if not 0 <= at < len(self):
                raise UsageError(f"groups: expected names, or positions of 0 to {len(self) - 1}, found {key!r}")
            if self[at] in found:
                raise UsageError(f"groups: expected each group once, found {key!r} again")
            found.append(self[at])
            channels.append(np.arange(starts[at], starts[at + 1]))
        if not found:
            raise UsageError("groups: expected at least one, found none")
        return tuple(found), np.concatenate(channels)


def decode_groups(
    image: Image,
    scale: float,
    level: int | None,
    dtype: Any,
    groups: Iterable[str | int] | None,
    renormalize: bool,
    region: tuple[float, float, float, float] | None,
) -> dict[str, npt.NDArray[Any]]:
    """See ``Image.decode_groups``: one pass for all maps, as finding who counts is what takes the time."""
    x, y, w, h = (0, 0, image.width, image.height) if region is None else region
    chosen = tuple(image.groups) if groups is None else image.groups.select(groups)[0]
    values = image.region(x, y, w, h, scale, "float32", level, False, [g.name for g in chosen], renormalize)
    found = {}
    for group, channels, *_ in each_group(chosen):
        part = values[..., channels]
        found[group.name] = np.empty(part.shape, output_dtype(dtype or depth_dtype(group.bit_depth)))
        to_dtype(part, found[group.name])
    return found


def depth_dtype(bit_depth: int) -> str:
    """The name of the dtype that holds values of so many bits."""
    return {8: "uint8", 16: "uint16"}.get(bit_depth, "float32")
