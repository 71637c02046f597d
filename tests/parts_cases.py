"""Small files of one part, and of several: groups of a texture stack with Gaussians of their own (spec §3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from files import payload_ranges

from igs.format import (
    Alpha,
    Codec,
    Colour,
    Group,
    Header,
    Quantizer,
    Transfer,
    feature_columns,
    join,
    open_file,
    quantize,
    write,
)
from igs.format.fields import Primitive
from igs.format.lattice import Lattice, ValueModel

WIDTH, HEIGHT = 33, 21
GROUPS = (
    Group(channels=4, colour=Colour.RGB, alpha=Alpha.PREMULTIPLIED, name="albedo"),
    Group(channels=3, colour=Colour.NORMAL, transfer=Transfer.LINEAR, bit_depth=16, name="normal"),
    Group(channels=1, colour=Colour.GREY, transfer=Transfer.LINEAR, name="ao"),
    Group(channels=1, colour=Colour.GREY, transfer=Transfer.LINEAR, bit_depth=32, gamma=2.0, name="height"),
)
ORDER = ((0, 2), (1,), (3,))  # the parts of ``stack``: albedo with ao between which normal stands, and two alone
SECTIONS = {"soft": b"parts", "json": b'{"title": "' + b"x" * 300 + b'"}'}
PLAIN = (Codec.RAW, Codec.ZSTD, Codec.COLUMNS)


class Stack(NamedTuple):
    """A file of several parts, and the files that it was joined from."""

    data: bytes
    files: list[bytes]
    order: Sequence[Sequence[int]]


def make_header(groups: Sequence[Group], seed: int = 0, lattice: bool = False, **fields: Any) -> Header:
    """Quantisers whose parameters, and background whose values, depend on the seed; their form does not."""
    rng = np.random.default_rng(seed)
    channels = sum(group.channels for group in groups)
    features = feature_columns(fields.get("primitive", Primitive.CONSTANT), channels)
    width, height = fields.get("width", WIDTH), fields.get("height", HEIGHT)
    shift = rng.uniform(0, 0.25)
    quantizers: dict[str, Any] = {
        "position": Quantizer.uniform([-shift, 0], [width, height + shift], 12),
        "scale": Quantizer.uniform([-1 - shift, -1], [2, 2 + shift], 8),
        "rotation": Quantizer.uniform(0, 1 - 2**-8, 8),
        "feature": Quantizer.uniform([-shift] * features, [1 + shift] * features, 8),
    }
    if lattice:
        broad, step = ValueModel(2, 0, 0, 208), int(rng.integers(24, 34))
        record = Lattice(
            28, 36, 28, 28, (step,) * features, bool(seed % 2), broad, 208, (ValueModel(2, 0, 0, 255),) * features,
            (7,) * 16,
        )  # fmt: skip
        columns = dict(zip(quantizers, (2, 2, 1, features), strict=True))
        quantizers = {name: Quantizer.lattice(n) for name, n in columns.items()} | {"lattice": record}
    known = {"width": WIDTH, "height": HEIGHT, "channels": channels, "groups": tuple(groups)}
    background = tuple(rng.uniform(0, 1, channels).tolist())
    return Header(**(known | {"background": background, "top_k": 6} | quantizers | fields))


def make_codes(header: Header, n: int, seed: int = 0) -> np.ndarray:
    """Gaussians all over the picture, [n, code_columns]."""
    rng = np.random.default_rng(seed)
    position = rng.random((n, 2)) * [header.width, header.height]
    scale, turn = rng.uniform(0.5, 2, (n, 2)), rng.random((n, 1))
    return quantize(header, position, scale, turn, rng.random((n, header.features)))


def make_file(
    groups: Sequence[Group], seed: int = 0, n: int = 60, codec: Codec = Codec.RAW, chunk_size: int | None = 20,
    sections: dict[str, bytes] | None = None, **fields: Any,
) -> bytes:  # fmt: skip
    """A file of one part: n Gaussians in several chunks."""
    header = make_header(groups, seed, **fields)
    return write(header, [make_codes(header, n, seed)], codec=codec, chunk_size=chunk_size, sections=sections)


def stack(sections: dict[str, bytes] | None = None, n: int = 60, **options: Any) -> Stack:
    """``GROUPS`` in the parts of ``ORDER``, of n, n + 10 and n + 20 Gaussians."""
    files = [make_file([GROUPS[i] for i in part], seed, n + 10 * seed, **options) for seed, part in enumerate(ORDER)]
    return Stack(join(files, ORDER, sections), files, ORDER)


def two_stage_stack() -> Stack:
    """4316 chunks of one Gaussian: of the index' blocks of 256 one is shared by two parts, and one begins a part."""
    files = []
    for seed, (part, n) in enumerate(zip(ORDER, (2100, 716, 1500), strict=True)):
        header = make_header(
            [GROUPS[i] for i in part], seed, width=160, height=104, scale=Quantizer.uniform([-1, -1], [1, 1], 8)
        )
        codes = make_codes(header, n, seed)
        cells = np.minimum(codes[:, :2].astype(np.int64) >> 9, 7)
        codes = codes[np.lexsort((cells[:, 0], cells[:, 1]))]  # neighbours, as an index wants them
        files.append(write(header, [list(codes[:, None, :])], codec=Codec.RAW))
    return Stack(join(files, ORDER), files, ORDER)


def payload_bytes(data: bytes, part: int) -> range:
    """Where the payloads of a part are in the file."""
    with open_file(data) as file:
        first, last = file.parts[part].first_chunk, file.parts[part].last_chunk - 1
    payloads = payload_ranges(data)
    return range(payloads[first][0], sum(payloads[last]))
