"""What each attribute costs in a file: bits of position, scale, rotation and feature, and of all that is not Gaussians.

Of raw codes this is arithmetic; of entropy-coded ones it is what the coder's model charges, −log₂ p summed over the
symbols of each attribute (spec §5.2 to §5.4); of `zstd`, which has no such thing, what the attribute's planes take when
they are compressed by themselves, scaled to the payload. Reads every chunk, and loads Numba for coded ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from igs.format.codecs import encode_zstd
from igs.format.fields import Codec
from igs.format.header import ATTRIBUTES
from igs.format.quantize import Codes, split_columns
from igs.format.reader import FileReader

F64 = NDArray[np.float64]


def bits_by_attribute(file: FileReader) -> dict[str, float]:
    """Bits of the whole file by what they are spent on; the values sum to 8 times its length.

    position, scale, rotation, feature: all Gaussians' codes; the cells' decisions count as position, since they tell
    where means lie. coder: states, padding and what rounds up in payloads. head: header and index. sections: metadata
    in the tail. Of a partial file, what it has. Raises InvalidFile for a damaged chunk.
    """
    head = file.head
    last = file.level_range(file.available_levels - 1)[1]
    file.load_index()
    spent = np.zeros(len(ATTRIBUTES))
    payloads = 0.0
    for chunk in range(last):
        payload = file.payload(chunk)
        payloads += 8.0 * len(payload)
        spent += _of_chunk(file, chunk, payload)
    found = dict(zip(ATTRIBUTES, spent.tolist(), strict=True))
    found["coder"] = payloads - float(spent.sum())
    found["head"] = 8.0 * head.payload_offset
    found["sections"] = 8.0 * sum(e.bytes for name, e in file.sections.entries.items() if name not in head.inline)
    return found


def _of_chunk(file: FileReader, chunk: int, payload: bytes) -> F64:
    """Bits of the four attributes in a chunk."""
    header, codec = file.parts[file.chunk_part(chunk)].header, Codec(int(file.entries[chunk]["codec"]))
    codes = file.codes(chunk)
    if codec == Codec.CELLS:
        from igs.format import cells

        assert header.lattice is not None
        box = cells.clip_box(np.array(file.chunk_box(chunk)), header.width, header.height)
        bits, decisions = cells.cost(codes, header.lattice, box, payload)
        position, minor, ratio, rotation = bits[:4].tolist()
        return np.array([position + decisions, minor + ratio, rotation, float(bits[4:].sum())])
    parts = split_columns([q.code_columns for q in header.quantizers])
    if codec == Codec.COLUMNS:
        from igs.format import columns

        each = columns.cost(codes, header.code_bits)
        return np.array([float(each[part].sum()) for part in parts])
    widths = [header.code_bits[part] for part in parts]
    if codec == Codec.ZSTD:
        alone = np.array([_zstd_bits(codes[:, part], bits) for part, bits in zip(parts, widths, strict=True)])
        return np.asarray(alone * (8.0 * len(payload) / alone.sum()))
    return np.array([float(len(codes) * sum(bits)) for bits in widths])


def _zstd_bits(codes: Codes, bits: tuple[int, ...] | list[int]) -> float:
    return 8.0 * len(encode_zstd(np.ascontiguousarray(codes), bits))
