"""The values of the enumerated fields (spec §3, §5) and the constants that several parts share.

Names are the specification's. A value that is missing here is one of the future: readers refuse it (``E_UNKNOWN``).
"""

from __future__ import annotations

from enum import IntEnum

SIGNATURE = b"\x89IGS\r\n\x1a\n"
MAGIC = SIGNATURE[:4]  # by which a file is known, damaged or not
VERSION = 0
DRAFT = 2

HEADER_BYTES = 58  # the fixed header, §3.1
ENTRY_BYTES = 18  # one chunk in the index, §4
NODE_BYTES = 28  # one block of entries in a two-stage index, §4
BLOCK_ENTRIES = 256  # entries per block
MAX_SINGLE_STAGE = 4096  # chunks up to which the head holds the entries themselves
SECTION_ENTRY_BYTES = 16  # §10
MAX_LEVELS = 16  # of quality, §3.1
MAX_COUNT = 65535  # Gaussians in a chunk: a u16
MAX_PAYLOAD = 2**24 - 1  # bytes of a chunk: 24 bits of its extent

SIDE_MAX = 65536  # pixels: as far as means and sample points reach, §6.1, §7
UNIT = 1 << 14  # units per pixel, §6.1, §7
MEAN_UNIT = 2.0**-14  # pixel: one unit
BOUND = 1 << 30  # units: means and sample points are in [−BOUND, BOUND − 1], §6.1, §7
SIGMA_MIN, SIGMA_MAX, SIGMA_RATIO = 2.0**-6, 2.0**15, 2.0**-12  # §6.2
MIN_ALPHA = 2.0**-9  # below it a premultiplied colour says nothing, §8.3
FEATURE_MAX = 2.0**32  # features are clamped to ±this, §6
REACH_MARGIN = 1 + 2.0**-9  # R⁺ / R, §4


class Blend(IntEnum):
    """How the Gaussians at a point combine, §7."""

    TOPK = 0
    SUM = 1


class Primitive(IntEnum):
    """What a Gaussian carries besides its shape, §3.1."""

    CONSTANT = 0
    GRADIENT = 1


class Shape(IntEnum):
    """What the scale and rotation columns mean, §6.2."""

    SCALE_ROTATION = 0
    CHOLESKY = 1
    COVARIANCE = 2


class ScaleMap(IntEnum):
    """How a scale column becomes σ in pixels, §6.2."""

    RAW = 0
    INVERSE = 1
    LOG2 = 2


class QuantizerKind(IntEnum):
    """How codes become numbers, §6."""

    UNIFORM = 0
    AFFINE = 1
    FLOAT16 = 2
    FLOAT32 = 3
    CODEBOOK = 4
    LATTICE = 5


class LevelMode(IntEnum):
    """How levels of quality combine, §9."""

    UNION = 0
    REPLACEMENT = 1
    RESIDUAL = 2


class Alpha(IntEnum):
    """Whether a group's last channel is alpha, §3.4."""

    NONE = 0
    STRAIGHT = 1
    PREMULTIPLIED = 2


class Transfer(IntEnum):
    """Transfer of a group's picture values, §3.4. Those of PQ and LOG are linear light, stored by that curve, §8.3."""

    SRGB = 0
    LINEAR = 1
    PQ = 2
    LOG = 3


class Colour(IntEnum):
    """What a group's channels are, §3.4."""

    UNSPECIFIED = 0
    GREY = 1
    RGB = 2
    CMYK = 3
    NORMAL = 4

    @property
    def channels(self) -> int | None:
        """Channels besides alpha that this colour needs; None: any."""
        return {1: 1, 2: 3, 3: 4, 4: 3}.get(int(self))


class Codec(IntEnum):
    """How a chunk's codes are stored, §5."""

    RAW = 0
    ZSTD = 1
    CELLS = 2
    COLUMNS = 3
