"""Channel groups (spec §3.4): records, and where each group's channels stand among all."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from igs.format.binary import Cursor, enumerated, round_f16
from igs.format.error_codes import invalid
from igs.format.fields import Alpha, Colour, Transfer

_GROUP = struct.Struct("<BBBBBeB")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Channels that belong together (spec §3.4). ``alpha``: if not NONE the last of the channels is alpha."""

    channels: int
    transfer: Transfer = Transfer.SRGB
    alpha: Alpha = Alpha.NONE
    bit_depth: int = 8
    colour: Colour = Colour.UNSPECIFIED
    gamma: float = 1.0
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", round_f16(self.gamma))

    def problems(self) -> Iterator[tuple[str, str]]:
        """Pairs (expected, found) for what is out of range."""
        colours = self.channels - (self.alpha != Alpha.NONE)
        if not 1 <= self.channels <= 64 or colours < 1:
            yield f"1 to 64 channels, 2 or more with alpha, in group {self.name!r}", str(self.channels)
        if self.colour.channels not in (None, colours):
            yield f"{self.colour.channels} channels for colour {self.colour.name.lower()}", str(colours)
        if self.bit_depth not in (8, 16, 32):
            yield "bit_depth 8, 16 or 32", str(self.bit_depth)
        if not 2.0**-4 <= self.gamma <= 2.0**4:
            yield "gamma from 1/16 to 16", str(self.gamma)
        if len(self.name.encode("utf-8", "surrogatepass")) > 64:
            yield "a name of at most 64 bytes", repr(self.name)
        if any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in self.name):
            yield "a name without control characters", repr(self.name)

    def to_bytes(self) -> bytes:
        """The record of spec §3.4."""
        name = self.name.encode()
        fixed = (self.channels, self.transfer, self.alpha, self.bit_depth, self.colour, self.gamma, len(name))
        return _GROUP.pack(*fixed) + name


def parse_group(cursor: Cursor) -> Group:
    start = cursor.position
    channels, transfer, alpha, depth, colour, gamma, name_bytes = _GROUP.unpack(cursor.take(_GROUP.size, "group"))
    if name_bytes > 64:
        raise invalid("E_GROUP", "name_bytes of at most 64", str(name_bytes), cursor.position - 1)
    try:
        name = cursor.take(name_bytes, "group name").decode()
    except UnicodeDecodeError:
        raise invalid("E_GROUP", "a UTF-8 name", "other bytes", start + _GROUP.size) from None
    return Group(
        channels=channels,
        transfer=enumerated(Transfer, transfer, "transfer", start + 1),
        alpha=enumerated(Alpha, alpha, "alpha", start + 2),
        bit_depth=depth,
        colour=enumerated(Colour, colour, "colour", start + 4),
        gamma=gamma,
        name=name,
    )


def lit_channels(groups: Sequence[Group]) -> tuple[bool, ...]:
    """For each channel whether a Gaussian's gradient is added to it: to all but alpha (spec §7)."""
    return sum(((True,) * (g.channels - 1) + (g.alpha == Alpha.NONE,) for g in groups), ())


class Channels(NamedTuple):
    """Where a group's channels stand among those of all groups."""

    group: Group
    whole: slice
    colours: slice  # without alpha
    alpha: slice | None  # None: the group has none


def each_group(groups: Iterable[Group]) -> Iterator[Channels]:
    """The groups in order, each with the slices of its channels."""
    start = 0
    for group in groups:
        end = start + group.channels
        last = end - (group.alpha != Alpha.NONE)
        yield Channels(group, slice(start, end), slice(start, last), slice(last, end) if last < end else None)
        start = end


def rgb_groups(groups: Iterable[Group]) -> list[int]:
    """First channels of the groups whose colour is RGB."""
    return [part.whole.start for part in each_group(groups) if part.group.colour == Colour.RGB]
