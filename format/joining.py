"""Pictures of one size as the parts of one file (spec §3.6), and back. Gaussians are copied as they are.

Each part of a file is coded just as a file of its own would be, so that whoever makes files makes parts as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from igs.format.errors import UsageError
from igs.format.groups import each_group
from igs.format.head import Head, build_head
from igs.format.header import ATTRIBUTES, Header
from igs.format.index import Entries
from igs.format.limits import Limits
from igs.format.parts import MAX_PARTS, Layout
from igs.format.reader import open_file
from igs.format.sections import TAIL, arrange

# What parts have in common: fields of the fixed header.
_SHARED = (
    *("width", "height", "blend", "top_k", "primitive", "shape", "scale_map", "reach2", "relative_reach2", "lowpass"),
    *("level_mode", "box_shift"),
)


def join(
    files: Sequence[bytes],
    order: Sequence[Sequence[int]] | None = None,
    sections: Mapping[str, bytes] | None = None,
    limits: Limits | None = None,
) -> bytes:
    """One file of several, each of one part and one level, with all their groups; one file comes back without a table.

    order: for each file the places that its groups have among all, ascending; None: one file's after the other's.
    sections: the metadata; that of the files is left out. Raises UsageError where they don't go together, InvalidFile,
    and LimitExceeded also where each is within the limits and all together are not.
    """
    if not 1 <= len(files) <= MAX_PARTS:
        raise UsageError(f"parts: expected 1 to {MAX_PARTS} files, found {len(files)}")
    opened = [_read(data, number, limits) for number, data in enumerate(files)]
    heads, entries, payloads = zip(*opened, strict=True)
    headers = [head.header for head in heads]
    for number, header in enumerate(headers):
        _check_same(headers[0], header, number)
    members = _members(headers, order)
    layout = Layout(
        tuple(h.channels for h in headers), tuple(head.num_chunks for head in heads), members, tuple(headers)
    )
    placed = arrange(sections or {})
    whole = _whole(headers, members)
    if whole.channels > 64:
        raise UsageError(f"parts: expected at most 64 channels together, found {whole.channels}")
    for problem in whole.group_problems():
        raise UsageError(f"parts: {problem.field}: expected {problem.expected}, found {problem.found}")
    chunks = sum(layout.num_chunks)
    start = build_head(whole, [chunks], np.concatenate(entries), placed, layout=layout if len(files) > 1 else None)
    joined = b"".join([start, *payloads, *(s.data for s in placed if s.place == TAIL)])
    open_file(joined, limits).close()
    return joined


def split(data: bytes, limits: Limits | None = None) -> list[bytes]:
    """Each part of a file as a file of its own, without metadata. Raises UsageError for a partial file, InvalidFile."""
    with open_file(data, limits) as file:
        if file.partial:
            raise UsageError("parts: expected a whole file, found a partial one")
        if len(file.parts) == 1:
            return [data]
        file.load_index()
        found = []
        for part in file.parts:
            entries = file.entries[part.first_chunk : part.last_chunk]
            start = build_head(part.header, [len(entries)], entries, ())
            found.append(b"".join([start, *file.payloads(range(part.first_chunk, part.last_chunk))]))
        return found


def _read(data: bytes, number: int, limits: Limits | None) -> tuple[Head, Entries, bytes]:
    with open_file(data, limits) as file:
        if file.partial or len(file.head.level_chunks) > 1 or len(file.parts) > 1:
            raise UsageError(f"parts: expected whole files of one level and part, found another one at {number}")
        file.load_index()
        head = file.head
        return head, file.entries, data[head.payload_offset : head.level_ends[0]]


def _check_same(first: Header, header: Header, number: int) -> None:
    """Raise UsageError where a part differs in what the file says once."""
    for name in _SHARED:
        expected, found = getattr(first, name), getattr(header, name)
        if expected != found:
            raise UsageError(f"parts: expected {name} {expected} as in the first, found {found} in part {number}")
    for name in ATTRIBUTES:
        expected, found = _form(getattr(first, name)), _form(getattr(header, name))
        if expected != found:
            raise UsageError(f"parts: expected a {name} quantiser {expected}, found {found} in part {number}")


def _form(quantizer: Any) -> tuple[Any, ...]:
    return quantizer.kind.name.lower(), quantizer.bits, quantizer.shared, quantizer.stages


def _members(headers: Sequence[Header], order: Sequence[Sequence[int]] | None) -> tuple[int, ...]:
    """The part of each group."""
    counts = [len(header.groups) for header in headers]
    if order is None:
        return tuple(number for number, count in enumerate(counts) for _ in range(count))
    places = [list(one) for one in order]
    every = sorted(place for one in places for place in one)
    ascending = all(one == sorted(one) for one in places)
    if [len(one) for one in places] != counts or every != list(range(sum(counts))) or not ascending:
        raise UsageError(f"order: expected places of {counts} groups, ascending in each part, found {places}")
    members = [0] * len(every)
    for number, one in enumerate(places):
        for place in one:
            members[place] = number
    return tuple(members)


def _whole(headers: Sequence[Header], members: Sequence[int]) -> Header:
    """The picture's header: all groups, and the first part's quantisers."""
    waiting = [[(at.group, h.background[at.whole]) for at in each_group(h.groups)] for h in headers]
    chosen = [waiting[member].pop(0) for member in members]
    return dataclasses.replace(
        headers[0],
        channels=sum(header.channels for header in headers),
        groups=tuple(group for group, _ in chosen),
        background=tuple(value for _, values in chosen for value in values),
    )
