"""Channel groups (spec §3.4): records, and where each group's channels stand among all."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from igs.format.binary import Cursor, Faults, enumerated, round_f16
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
        for _, expected, found in self._problems():
            yield expected, found

    def _problems(self) -> Iterator[tuple[int, str, str]]:
        """The same with the byte of the record by which it is known."""
        colours = self.channels - (self.alpha != Alpha.NONE)
        if not 1 <= self.channels <= 64 or colours < 1:
            at = 2 if 1 <= self.channels <= 64 else 0
            yield at, f"1 to 64 channels, 2 or more with alpha, in group {self.name!r}", str(self.channels)
        if self.bit_depth not in (8, 16, 32):
            yield 3, "bit_depth 8, 16 or 32", str(self.bit_depth)
        if self.colour.channels not in (None, colours):
            yield 4, f"{self.colour.channels} channels for colour {self.colour.name.lower()}", str(colours)
        if not 2.0**-4 <= self.gamma <= 2.0**4:
            yield 5, "gamma from 1/16 to 16", str(self.gamma)
        if len(self.name.encode("utf-8", "surrogatepass")) > 64:
            yield 7, "a name of at most 64 bytes", repr(self.name)
        if any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in self.name):
            yield 8, "a name without control characters", repr(self.name)

    def to_bytes(self) -> bytes:
        """The record of spec §3.4."""
        name = self.name.encode()
        fixed = (self.channels, self.transfer, self.alpha, self.bit_depth, self.colour, self.gamma, len(name))
        return _GROUP.pack(*fixed) + name


def parse_groups(
    cursor: Cursor, count: int, channels: int, members: Sequence[int] = (), shares: Sequence[int] = ()
) -> tuple[Group, ...]:
    """So many records, of so many channels together. members: the part of each; shares: the channels of each part.

    What is wrong is told where it is known first (spec §13). Raises InvalidFile: E_GROUP, E_PART, E_UNKNOWN.
    """
    groups: list[Group] = []
    left, lefts = channels, list(shares)
    for number in range(count):
        start = cursor.position
        record = _GROUP.unpack(cursor.take(_GROUP.size, "group"))
        left -= record[0]
        if left < 0 or (left and number == count - 1):
            raise invalid("E_GROUP", f"groups of {channels} channels together", str(channels - left), start)
        if members:
            part = members[number]
            lefts[part] -= record[0]
            if lefts[part] < 0 or (lefts[part] and part not in members[number + 1 :]):
                expected = f"part {part} with the channels of its groups, {shares[part] - lefts[part]}"
                raise invalid("E_PART", expected, str(shares[part]), start)
        group = _parse_group(record, cursor, start)
        if group.name in [g.name for g in groups]:
            raise invalid("E_GROUP", "different names", repr(group.name), start + _GROUP.size)
        groups.append(group)
    return tuple(groups)


def _parse_group(record: tuple[Any, ...], cursor: Cursor, start: int) -> Group:
    channels, transfer, alpha, depth, colour, gamma, name_bytes = record
    faults = Faults()
    known: dict[str, Any] = {"transfer": Transfer.SRGB, "alpha": Alpha.NONE, "colour": Colour.UNSPECIFIED}
    for name, kind, value, at in (
        ("transfer", Transfer, transfer, 1),
        ("alpha", Alpha, alpha, 2),
        ("colour", Colour, colour, 4),
    ):
        with faults.noting():
            known[name] = enumerated(kind, value, name, start + at)
    group = Group(channels=channels, bit_depth=depth, gamma=gamma, **known)
    _check(group, faults, start)
    if name_bytes > 64:
        raise invalid("E_GROUP", "name_bytes of at most 64", str(name_bytes), cursor.position - 1)
    try:
        group = dataclasses.replace(group, name=cursor.take(name_bytes, "group name").decode())
    except UnicodeDecodeError:
        raise invalid("E_GROUP", "a UTF-8 name", "other bytes", start + _GROUP.size) from None
    _check(group, faults, start)
    return group


def _check(group: Group, faults: Faults, start: int) -> None:
    for at, expected, found in group._problems():
        with faults.noting():
            raise invalid("E_GROUP", expected, found, start + at)
    faults.raise_first()


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


def layout_of(groups: Sequence[Group]) -> str:
    """What picture formats call such channels: L, LA, RGB, RGBA or CMYK; N: several groups, or other channels."""
    if len(groups) != 1:
        return "N"
    group = groups[0]
    colours = group.channels - (group.alpha != Alpha.NONE)
    if group.colour == Colour.CMYK:
        return "CMYK" if group.alpha == Alpha.NONE else "N"
    base = {1: "L", 3: "RGB"}.get(colours)
    if base is None:
        return "N"
    return base + "A" * (group.alpha != Alpha.NONE)
