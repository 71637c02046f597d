"""The table of error codes of spec §13: name → number, what is wrong, and whether a reader can go on.

The specification holds the same table; a test compares the two. Numbers are stable: they name the files of
``tests/conformance/invalid``. Nothing here checks anything.
"""

from __future__ import annotations

from typing import NamedTuple

from igs.format.errors import InvalidFile, LimitExceeded, UnsupportedFile


class Code(NamedTuple):
    """One row of the table. ``fatal``: no reader may go on; otherwise only what the message names is unusable."""

    number: int
    condition: str
    fatal: bool = True


CODES: dict[str, Code] = {
    "E_SIGNATURE": Code(101, "the first eight bytes are not the signature"),
    "E_VERSION": Code(102, "a version or draft that this reader does not implement"),
    "E_TRUNCATED": Code(103, "the file ends before it should, and not at the end of a level"),
    "E_TRAILING": Code(104, "bytes behind file_bytes"),
    "E_HEAD_BYTES": Code(105, "head_bytes is not the sum of the head's parts"),
    "E_HEAD_CRC": Code(106, "head_crc does not match the head"),
    "E_RESERVED": Code(107, "a reserved bit or byte is not zero"),
    "E_UNKNOWN": Code(108, "a field that enumerates has a value that this version does not define"),
    "E_FIELD": Code(109, "a field is out of its range, or contradicts another one"),
    "E_QUANTIZER": Code(110, "a quantiser record or its parameters are out of range"),
    "E_GROUP": Code(
        111,
        "a group's channels, bit_depth, gamma or name are wrong, its alpha or colour does not fit its channels, "
        "or the groups do not sum to channels",
    ),
    "E_LEVEL": Code(112, "a level is empty, or its end is not the end of its last payload, or not within file_bytes"),
    "E_SECTION": Code(
        113,
        "the section table is out of order, repeats a type, has a type that is not four letters, "
        "or a critical section in the tail",
    ),
    "E_CRITICAL": Code(114, "a critical section, inline, that this reader does not know"),
    "E_SECTION_CRC": Code(115, "a section does not match its crc", fatal=False),
    "E_SECTION_CONTENT": Code(116, "a known section does not hold what its type promises", fatal=False),
    "E_PART": Code(
        117, "the table of parts is out of range, or does not fit groups, channels, levels or the number of chunks"
    ),
    "E_INDEX": Code(201, "an entry or node of the index is out of range"),
    "E_COUNT": Code(202, "the counts do not sum to num_gaussians"),
    "E_NODE": Code(203, "a node does not agree with its entries"),
    "E_NODE_CRC": Code(204, "a block of stage two does not match its crc"),
    "E_CODEC": Code(205, "a chunk's codec is unknown"),
    "E_CHUNK_CRC": Code(301, "a payload does not match its crc"),
    "E_CHUNK_BYTES": Code(
        302, "a raw payload's length, or the content size a zstd frame states, is not what count and bits make it"
    ),
    "E_ZSTD": Code(
        303, "not one Zstandard frame as §5 asks for, with nothing behind it, whose content has the size it states"
    ),
    "E_PADDING": Code(304, "unused bits of a payload are not zero"),
    "E_VALUE": Code(305, "a float code is NaN or infinite"),
    "E_STREAM": Code(308, "an entropy-coded payload does not hold the chunk's Gaussians and nothing else"),
    "E_REACH": Code(306, "a Gaussian reaches out of its chunk's box"),
    "E_REACH_AREA": Code(307, "the Gaussians of a chunk reach over more than its reach_area"),
    "E_LIMIT_PIXELS": Code(401, "width·height exceeds the limit pixels"),
    "E_LIMIT_SIDE": Code(402, "width or height exceeds the limit side"),
    "E_LIMIT_GAUSSIANS": Code(403, "num_gaussians exceeds the limit gaussians"),
    "E_LIMIT_CHANNELS": Code(404, "channels exceeds the limit channels"),
    "E_LIMIT_HEAD_BYTES": Code(405, "head_bytes exceeds the limit of that name"),
    "E_LIMIT_SECTION_BYTES": Code(406, "a section exceeds the limit section_bytes"),
    "E_LIMIT_CHUNK_BYTES": Code(407, "a chunk's codes exceed the limit chunk_bytes"),
    "E_LIMIT_REACH_RATIO": Code(408, "the Gaussians' reach per pixel exceeds the limit reach_ratio"),
    "E_LIMIT_GAUSSIANS_PER_BYTE": Code(409, "a chunk exceeds the limit gaussians_per_byte"),
    "W_PARTIAL": Code(
        501, "the file ends at the end of a level that is not its last, or lacks tail sections", fatal=False
    ),
}

# What a reader of the future may accept: refused as unsupported (exit 5), not as broken (exit 3).
_FUTURE = {"E_VERSION", "E_UNKNOWN", "E_CRITICAL", "E_CODEC"}


def invalid(code: str, expected: object, found: object, offset: int | None = None, *, where: str = "") -> InvalidFile:
    """The exception for ``code``, to be raised by the caller: what was expected, what was found, at which byte."""
    if code.startswith("E_LIMIT_"):
        kind: type[InvalidFile] = LimitExceeded
    else:
        kind = UnsupportedFile if code in _FUTURE else InvalidFile
    prefix = f"{where}: " if where else ""
    error = kind(code, f"{prefix}expected {expected}, found {found}", offset)
    error.expected = str(expected)
    error.found = str(found)
    return error
