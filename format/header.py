"""The header (spec §3): the picture's size, model, quantisers, background and groups; parsed, checked, and built.

``FIXED`` is the fixed part as ``construct`` sees it; arrays are NumPy's. Levels, sections and index: see index.py,
sections.py and head.py. Field names are the specification's.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import construct
import numpy as np
from numpy.typing import NDArray

from igs.format.binary import Cursor, enumerated, round_f16, round_f32
from igs.format.error_codes import invalid
from igs.format.errors import UsageError
from igs.format.fields import (
    HEADER_BYTES,
    SIDE_MAX,
    Blend,
    LevelMode,
    Primitive,
    QuantizerKind,
    ScaleMap,
    Shape,
)
from igs.format.groups import Group, parse_group, rgb_groups
from igs.format.lattice import Lattice
from igs.format.parts import Layout, parse_layout, part_header
from igs.format.quantize import BITS, Quantizer, parameter_count, quantizer_from_parameters

LATTICE_BITS = 26  # what a Gaussian takes in a lattice besides its features, about
ATTRIBUTES = ("position", "scale", "rotation", "feature")
_RECORD = construct.Struct("form" / construct.Int8ul, "bits" / construct.Int8ul)
FIXED = construct.Struct(
    "signature" / construct.Bytes(8),
    "version" / construct.Int8ul,
    "draft" / construct.Int8ul,
    "flags" / construct.Int8ul,
    "box_shift" / construct.Int8ul,
    "head_bytes" / construct.Int32ul,
    "file_bytes" / construct.Int64ul,
    "width" / construct.Int16ul,  # less one
    "height" / construct.Int16ul,
    "num_gaussians" / construct.Int32ul,
    "channels" / construct.Int8ul,
    "num_groups" / construct.Int8ul,
    "num_levels" / construct.Int8ul,
    "level_mode" / construct.Int8ul,
    "num_sections" / construct.Int8ul,
    "blend" / construct.Int8ul,
    "top_k" / construct.Int8ul,
    "primitive" / construct.Int8ul,
    "shape" / construct.Int8ul,
    "scale_map" / construct.Int8ul,
    "reach2" / construct.Float16l,
    "relative_reach2" / construct.Float16l,
    "lowpass" / construct.Float32l,
    "position" / _RECORD,
    "scale" / _RECORD,
    "rotation" / _RECORD,
    "feature" / _RECORD,
)
_SIZES = {name: FIXED._subcons[name].sizeof() for name in FIXED._subcons}
OFFSETS = dict(zip(_SIZES, np.concatenate([[0], np.cumsum(list(_SIZES.values()))[:-1]]).tolist(), strict=True))
TWO_STAGE, PARTS = 1, 2  # bits of flags
KIND, SHARED, STAGES = 0b111, 0b1000, 4  # of a quantiser record's form: mask, flag, shift
BACKGROUND_MAX = float(np.finfo(np.float16).max)


def _codes(layout: construct.Struct) -> str:
    """A layout in the language of ``struct``."""
    each = (sub.subcon for sub in layout.subcons)
    return "".join(
        _codes(sub) if isinstance(sub, construct.Struct) else getattr(sub, "fmtstr", f"<{sub.sizeof()}s")[1:]
        for sub in each
    )


_FIXED = struct.Struct("<" + _codes(FIXED))


class Record(NamedTuple):
    """A quantiser record."""

    form: int
    bits: int


def parse_fixed(data: bytes) -> dict[str, Any]:
    """What ``FIXED.parse`` finds in the first bytes of a file, in a twentieth of its time."""
    values = _FIXED.unpack(data)
    plain = len(FIXED.subcons) - len(ATTRIBUTES)
    fields: dict[str, Any] = dict(zip(OFFSETS, values[:plain], strict=False))
    for i, name in enumerate(ATTRIBUTES):
        fields[name] = Record(*values[plain + 2 * i : plain + 2 * i + 2])
    return fields


class Problem(NamedTuple):
    """A field out of range: the code it gives in a file, the field, what was expected, what was found."""

    code: str
    field: str
    expected: str
    found: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    """All that a decoder needs to know besides the Gaussians. Floats are rounded at once, as a file stores them.

    Of a file of several parts (parts.py) each has its own; quantisers of the whole picture's are those of the first.

    width, height: pixels. background: stored value per channel where nothing counts. reach2, relative_reach2: R², Q².
    lowpass: pixels². position, scale, rotation, feature: quantisers of 2, 2, 1, F columns. box_shift: None lets the
    writer choose. lattice: the record of all four quantisers where these are of kind lattice, otherwise None.
    """

    width: int
    height: int
    channels: int
    groups: tuple[Group, ...]
    background: tuple[float, ...]
    position: Quantizer
    scale: Quantizer
    rotation: Quantizer
    feature: Quantizer
    blend: Blend = Blend.TOPK
    top_k: int = 10
    primitive: Primitive = Primitive.CONSTANT
    shape: Shape = Shape.SCALE_ROTATION
    scale_map: ScaleMap = ScaleMap.LOG2
    reach2: float = 25.0
    relative_reach2: float = 9.0
    lowpass: float = 0.0
    level_mode: LevelMode = LevelMode.UNION
    box_shift: int | None = None
    lattice: Lattice | None = None

    def __post_init__(self) -> None:
        for name in ("reach2", "relative_reach2"):
            object.__setattr__(self, name, round_f16(getattr(self, name)))
        object.__setattr__(self, "lowpass", round_f32(self.lowpass))
        object.__setattr__(self, "background", tuple(round_f16(v) for v in self.background))
        object.__setattr__(self, "groups", tuple(self.groups))

    @property
    def features(self) -> int:
        """F: feature columns that a Gaussian of this primitive carries."""
        return feature_columns(self.primitive, self.channels)

    @property
    def quantizers(self) -> tuple[Quantizer, Quantizer, Quantizer, Quantizer]:
        """Position, scale, rotation, feature: the order of the code columns."""
        return (self.position, self.scale, self.rotation, self.feature)

    @property
    def code_columns(self) -> int:
        """Columns of a codes table."""
        return sum(q.code_columns for q in self.quantizers)

    @property
    def code_bits(self) -> tuple[int, ...]:
        """Bits of each code column."""
        return sum((q.code_bits for q in self.quantizers), ())

    @property
    def bits_per_gaussian(self) -> int:
        """Bits of one Gaussian under the raw codec; with lattice quantisers about what the cells codec makes of it."""
        return LATTICE_BITS + 4 * self.features if self.lattice else sum(self.code_bits)

    @property
    def rgb_groups(self) -> list[int]:
        """First channels of the groups whose colour is RGB."""
        return rgb_groups(self.groups)

    def validate(self) -> None:
        """Raise UsageError for the first field that is out of range."""
        for problem in self.problems():
            raise UsageError(f"header: {problem.field}: expected {problem.expected}, found {problem.found}")

    def problems(self) -> Iterator[Problem]:
        """Every field that is out of range or contradicts another one (spec §3)."""
        topk = self.blend == Blend.TOPK
        rotated = self.shape == Shape.SCALE_ROTATION
        q2 = self.relative_reach2
        checks: list[tuple[str, bool, str]] = [
            ("width", 1 <= self.width <= SIDE_MAX, "1 to 65536"),
            ("height", 1 <= self.height <= SIDE_MAX, "1 to 65536"),
            ("channels", 1 <= self.channels <= 64, "1 to 64"),
            ("box_shift", self.box_shift is None or 0 <= self.box_shift <= 15, "0 to 15"),
            ("top_k", 1 <= self.top_k <= 32 if topk else self.top_k == 0, "1 to 32 for topk, 0 for sum"),
            ("scale_map", rotated or self.scale_map == ScaleMap.RAW, "raw unless shape is scale_rotation"),
            ("reach2", 0 < self.reach2 <= 1024, "above 0, up to 1024"),
            ("relative_reach2", q2 >= 0 and (topk or q2 == math.inf), "0 or more for topk, infinity for sum"),
            ("lowpass", 0 <= self.lowpass <= 2.0**20, "0 to 2^20"),
        ]
        for name, ok, expected in checks:
            if not ok:
                yield Problem("E_FIELD", name, expected, str(getattr(self, name)))
        kinds = {q.kind for q in self.quantizers}
        if QuantizerKind.LATTICE in kinds:
            if kinds != {QuantizerKind.LATTICE} or self.lattice is None:
                yield Problem("E_QUANTIZER", "position", "kind lattice for all attributes or none", str(sorted(kinds)))
            if not rotated or self.scale_map != ScaleMap.LOG2 or self.lowpass:
                expected = "scale_rotation, log2 and no lowpass with lattice quantisers"
                yield Problem("E_FIELD", "shape", expected, f"{self.shape.name.lower()}, {self.scale_map.name.lower()}")
        elif self.lattice is not None:
            yield Problem("E_QUANTIZER", "position", "kind lattice with a lattice record", str(sorted(kinds)))
        if self.lattice is not None:
            if len(self.lattice.feature) != self.features:
                yield Problem("E_QUANTIZER", "feature", f"{self.features} steps", str(len(self.lattice.feature)))
            for expected, found in self.lattice.problems():
                yield Problem("E_QUANTIZER", "position", expected, found)
        if len(self.background) != self.channels or not all(abs(v) <= BACKGROUND_MAX for v in self.background):
            yield Problem("E_FIELD", "background", f"{self.channels} numbers within ±65504", str(self.background))
        for name, columns in zip(ATTRIBUTES, (2, 2, 1, self.features), strict=True):
            quantizer: Quantizer = getattr(self, name)
            for expected, found in quantizer.problems():
                yield Problem("E_QUANTIZER", name, expected, found)
            if quantizer.columns != columns:
                yield Problem("E_QUANTIZER", name, f"{columns} columns", str(quantizer.columns))
        yield from self.group_problems()

    def group_problems(self) -> Iterator[Problem]:
        """Those of the groups."""
        if not 1 <= len(self.groups) <= 64 or sum(g.channels for g in self.groups) != self.channels:
            yield Problem(
                "E_GROUP", "groups", f"1 to 64 groups of {self.channels} channels together", _sum(self.groups)
            )
        if len({g.name for g in self.groups}) != len(self.groups):
            yield Problem("E_GROUP", "groups", "different names", str([g.name for g in self.groups]))
        for group in self.groups:
            for expected, found in group.problems():
                yield Problem("E_GROUP", "groups", expected, found)


def feature_columns(primitive: Primitive, channels: int) -> int:
    """F, the number of feature columns (spec §3.1, ``primitive``)."""
    return channels + 2 * (primitive == Primitive.GRADIENT)


def _sum(groups: Sequence[Group]) -> str:
    return f"{len(groups)} groups of {sum(g.channels for g in groups)}"


def build_header(header: Header, layout: Layout | None = None, **file_fields: Any) -> bytes:
    """Fixed header, parts, parameters, background and groups.

    layout: of a file of several parts. file_fields: those of spec §3.1 that Header doesn't have.
    """
    values: dict[str, Any] = {name: getattr(header, name) for name in OFFSETS if hasattr(header, name)}
    for name in ATTRIBUTES:
        q: Quantizer = getattr(header, name)
        values[name] = {"form": q.kind | SHARED * q.shared | q.stages << STAGES, "bits": q.bits}
    values |= {"width": header.width - 1, "height": header.height - 1, "num_groups": len(header.groups)} | file_fields
    fixed: bytes = FIXED.build(values)
    table = b"" if layout is None else layout.to_bytes()
    parameters = b"".join(map(_parameters, [header] if layout is None else layout.headers))
    background = np.array(header.background, "<f2").tobytes()
    return fixed + table + parameters + background + b"".join(g.to_bytes() for g in header.groups)


def _parameters(header: Header) -> bytes:
    record = b"" if header.lattice is None else header.lattice.to_bytes()
    return b"".join(q.parameters.astype("<f4").tobytes() for q in header.quantizers) + record


def parse_header(fields: Mapping[str, Any], cursor: Cursor) -> tuple[Header, Layout | None]:
    """The header from the fields of ``FIXED`` and the bytes behind it, and the parts, if there are several.

    Moves the cursor behind the groups.
    Raises InvalidFile: E_RESERVED, E_UNKNOWN, E_FIELD, E_PART, E_QUANTIZER, E_GROUP, E_HEAD_BYTES.
    """
    flags, channels, num_groups = fields["flags"], fields["channels"], fields["num_groups"]
    if flags & ~(TWO_STAGE | PARTS):
        raise invalid("E_RESERVED", "zero in bits 2–7 of flags", hex(flags), OFFSETS["flags"])
    known: dict[str, Any] = {
        name: enumerated(kind, fields[name], name, OFFSETS[name])
        for name, kind in (
            ("level_mode", LevelMode),
            ("blend", Blend),
            ("primitive", Primitive),
            ("shape", Shape),
            ("scale_map", ScaleMap),
        )
    }
    if not 1 <= channels <= 64:
        raise invalid("E_FIELD", "channels of 1 to 64", str(channels), OFFSETS["channels"])
    if not 1 <= num_groups <= 64:
        raise invalid("E_FIELD", "num_groups of 1 to 64", str(num_groups), OFFSETS["num_groups"])
    layout_at = cursor.position
    layout = parse_layout(cursor, num_groups, channels) if flags & PARTS else None
    attributes = [
        _parse_attributes(fields, feature_columns(known["primitive"], own), cursor)
        for own in ([channels] if layout is None else layout.channels)
    ]
    background_at = cursor.position
    background = np.frombuffer(cursor.take(2 * channels, "background"), "<f2").astype(np.float64)
    groups = tuple(parse_group(cursor) for _ in range(num_groups))
    same = ("channels", "top_k", "box_shift", "reach2", "relative_reach2", "lowpass")
    known |= {"width": fields["width"] + 1, "height": fields["height"] + 1} | {name: fields[name] for name in same}
    header = Header(groups=groups, background=tuple(background.tolist()), **known, **attributes[0])
    places = OFFSETS | {"background": background_at, "groups": background_at + 2 * channels}
    if layout is None:
        _check(header.problems(), places)
        return header, None
    _check(header.group_problems(), places)
    for problem in layout.problems(groups, fields["num_levels"], header.level_mode):
        raise invalid("E_PART", *problem, layout_at)
    parts = []
    for number, own in enumerate(attributes):
        part = dataclasses.replace(part_header(header, layout, number), **({"lattice": None} | own))
        _check(part.problems(), places, f"part {number}, ")
        parts.append(part)
    return header, dataclasses.replace(layout, headers=tuple(parts))


def _check(problems: Iterator[Problem], places: Mapping[str, int], where: str = "") -> None:
    for problem in problems:
        at = places[problem.field]
        raise invalid(problem.code, problem.expected, problem.found, at, where=where + problem.field)


def _parse_attributes(fields: Mapping[str, Any], features: int, cursor: Cursor) -> dict[str, Any]:
    """The quantisers, and the record of a lattice, of one part."""
    found: dict[str, Any] = {}
    for name, count in zip(ATTRIBUTES, (2, 2, 1, features), strict=True):
        found[name] = _parse_quantizer(name, fields[name], count, cursor)
    if any(found[name].kind == QuantizerKind.LATTICE for name in ATTRIBUTES):
        record = cursor.take(Lattice.size(features), "the lattice record")
        if record[4 + features] > 1:
            raise invalid("E_QUANTIZER", "ycbcr of 0 or 1", str(record[4 + features]), OFFSETS["position"])
        found["lattice"] = Lattice.from_bytes(record, features)
    return found


def _floats(cursor: Cursor, count: int, what: str) -> NDArray[np.float32]:
    start = cursor.position
    values = np.frombuffer(cursor.take(4 * count, what), "<f4")
    if count and not np.isfinite(values).all():
        raise invalid("E_QUANTIZER", f"finite {what}", "NaN or infinity", start)
    return values


def _parse_quantizer(name: str, record: Record, columns: int, cursor: Cursor) -> Quantizer:
    offset = OFFSETS[name]
    kind = enumerated(QuantizerKind, record.form & KIND, f"{name}.kind", offset)
    shared, stages = bool(record.form & SHARED), record.form >> STAGES
    pair = kind in (QuantizerKind.UNIFORM, QuantizerKind.AFFINE)
    codebook = kind == QuantizerKind.CODEBOOK
    low, high = BITS[kind]
    if not low <= record.bits <= high:
        raise invalid("E_QUANTIZER", f"{name}.bits from {low} to {high}", str(record.bits), offset + 1)
    if shared and not pair:
        raise invalid("E_QUANTIZER", f"{name} not shared", "shared", offset)
    if not (1 <= stages <= 8 if codebook else stages == 0):
        raise invalid("E_QUANTIZER", f"{name}.stages of {'1 to 8' if codebook else '0'}", str(stages), offset)
    count = parameter_count(kind, record.bits, columns, stages, shared)
    parameters = _floats(cursor, count, f"{name} parameters")
    return quantizer_from_parameters(kind, record.bits, columns, stages, shared, parameters)


assert FIXED.sizeof() == HEADER_BYTES
