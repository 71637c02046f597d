"""Reading the `cells` codec (spec §5.3): chunks of codes from their payloads, and the Gaussians that they are (§6.4).

Gaussians come out as ``gaussians.dequantize`` makes them of the codes, bit for bit, in a fraction of its time: their
shapes are needed for decoding anyway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from igs.format import cells_model as m
from igs.format import rans
from igs.format.cells_lanes import (
    AREA,
    BOX_X0,
    CONTEXTS,
    END,
    HEAD_BYTES,
    HEIGHT,
    OF_CHUNK,
    READ,
    REAL_OF_CHUNK,
    ROW,
    SHEAR,
    STOP,
    TRIM_BYTES,
    decode_lanes,
    plan,
)
from igs.format.cells_model import F64
from igs.format.error_codes import invalid
from igs.format.fields import REACH_MARGIN
from igs.format.gaussians import Gaussians
from igs.format.header import Header
from igs.format.lattice import Lattice
from igs.format.quantize import Codes
from igs.format.threads import run

LANES = 8  # chunks decoded side by side; more gain nothing


class Coded(NamedTuple):
    """Chunks to decode. counts: int64 [n], of Gaussians. boxes, areas: float64 [n, 4], [n], as the index has them, in
    pixels. grid_boxes: float64 [n, 4], as ``cells.clip_box`` gives them."""

    payloads: Sequence[bytes]
    counts: NDArray[np.int64]
    grid_boxes: F64
    boxes: F64
    areas: F64

    @classmethod
    def anywhere(cls, payload: bytes, count: int, grid_box: F64) -> Coded:
        """A chunk by itself, whose Gaussians may reach as far as they like."""
        everywhere = np.array([[-math.inf, -math.inf, math.inf, math.inf]])
        return cls([payload], np.array([count]), grid_box.reshape(1, 4), everywhere, np.array([math.inf]))


class Columns(NamedTuple):
    """What is decoded, row by row; all but the last two as in ``Gaussians``."""

    codes: NDArray[np.int32]  # [n, 5 + F]
    means: NDArray[np.int32]
    factors: NDArray[np.float32]
    features: NDArray[np.float32]
    covariances: F64
    scales: F64
    before: NDArray[np.int32]  # [n] the Gaussian before in its cell, or −1
    values: F64  # [n, 1 + F] λ2 and features

    @classmethod
    def empty(cls, n: int, features: int) -> Columns:
        """Room for n Gaussians."""
        codes, features_ = np.empty((n, 5 + features), np.int32), np.empty((n, features), np.float32)
        means, factors = np.empty((n, 2), np.int32), np.empty((n, 3), np.float32)
        before, values = np.empty(n, np.int32), np.empty((n, 1 + features))
        return cls(codes, means, factors, features_, np.empty((n, 3)), np.empty((n, 2)), before, values)


def _decode_part(coded: Coded, part: slice, lattice: Lattice, rgb: Sequence[int], reach2: float, out: Columns) -> bool:
    """Whether some of the chunks are what they should be; their Gaussians into their rows of ``out``."""
    payloads, counts = coded.payloads[part], coded.counts[part]
    lengths = np.array([len(p) for p in payloads], np.int64) - HEAD_BYTES
    if (lengths < 0).any() or (lengths & 1).any():
        return False
    chunks, places = np.empty((len(payloads), OF_CHUNK), np.int64), np.empty((len(payloads), REAL_OF_CHUNK))
    chunks[:, STOP], chunks[:, END] = np.cumsum(lengths >> 1), np.cumsum(coded.counts)[part]
    chunks[:, READ], chunks[:, ROW] = chunks[:, STOP] - (lengths >> 1), chunks[:, END] - counts
    places[:, BOX_X0:AREA], places[:, AREA] = coded.boxes[part], coded.areas[part]
    heads = np.frombuffer(b"".join([p[:HEAD_BYTES] for p in payloads]), np.uint8).reshape(-1, HEAD_BYTES)
    room = plan(heads, counts, coded.grid_boxes[part], chunks, places)
    if room < 0:
        return False
    n = min(len(payloads), LANES)
    return bool(
        decode_lanes(
            np.frombuffer(b"".join([p[HEAD_BYTES:] for p in payloads]), "<u2"),
            chunks,
            places,
            np.empty((n, HEIGHT + 1), np.int64),
            np.empty((n, SHEAR + 1)),
            np.empty((n, 16), np.int32),
            np.empty(n, np.int64),
            (np.empty(n * room, np.int32), np.empty(n * room, np.int32)),
            np.empty((n * CONTEXTS, 3), np.int64),
            m.FRESH,
            tuple(m.parameters(lattice)),
            np.array(rgb if lattice.ycbcr else (), np.int64),
            np.array([math.sqrt(reach2) * REACH_MARGIN, math.pi * reach2]),
            tuple(out),
        )
    )


def decode(payload: bytes, count: int, lattice: Lattice, box: F64) -> Codes:
    """The codes table of a chunk, rows in the order of the stream. box: of its grid. Raises InvalidFile E_STREAM."""
    rans.open_payload(payload, TRIM_BYTES)
    out = Columns.empty(count, len(lattice.feature))
    if not _decode_part(Coded.anywhere(payload, count, box), slice(None), lattice, (), 1.0, out):
        raise invalid("E_STREAM", f"{count} Gaussians in the whole payload", "something else")
    return out.codes.view(np.uint32)


def decode_gaussians(coded: Coded, header: Header, threads: int) -> Gaussians | None:
    """The Gaussians of chunks in their order, or None: one holds something else, or more than its index entry allows.

    Which one and what, ``decode`` and the reader's checks tell. header: with a lattice.
    """
    lattice, rgb = header.lattice, header.rgb_groups
    assert lattice is not None
    out = Columns.empty(int(coded.counts.sum()), header.features)
    parts = min(threads, len(coded.payloads))
    good = [False] * parts

    def work(part: int) -> None:
        good[part] = _decode_part(coded, slice(part, None, parts), lattice, rgb, header.reach2, out)

    run(parts, threads, work)
    return Gaussians(*out[1:6]) if all(good) else None
