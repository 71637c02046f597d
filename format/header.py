"""The header (spec §3): the picture's size, model, quantisers, background and groups; parsed, checked, and built.

``FIXED`` is the fixed part as ``construct`` sees it; arrays are NumPy's. Levels, sections and index: see index.py,
sections.py and head.py. Field names are the specification's.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from types import SimpleNamespace
from typing import Any, NamedTuple

import construct
import numpy as np
from numpy.typing import NDArray

from igs.format.binary import Cursor, Faults, enumerated, round_f16, round_f32
from igs.format.error_codes import invalid
from igs.format.errors import UsageError
from igs.format.fields import (
    HEADER_BYTES,
    MAX_LEVELS,
    SIDE_MAX,
    Blend,
    LevelMode,
    Primitive,
    QuantizerKind,
    ScaleMap,
    Shape,
)
from igs.format.groups import Group, parse_groups, rgb_groups
from igs.format.lattice import Lattice
from igs.format.limits import Limits
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
        yield from _field_problems(self)
        kinds = {q.kind for q in self.quantizers}
        if QuantizerKind.LATTICE in kinds:
            if self.lattice is None:
                yield Problem("E_QUANTIZER", "position", "a lattice record with kind lattice", "none")
            yield from _kind_problems(self, [q.kind for q in self.quantizers])
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


def _field_problems(h: Any) -> Iterator[Problem]:
    """Those of fixed fields. h: has them as a Header has."""
    topk, q2 = h.blend == Blend.TOPK, h.relative_reach2
    checks: list[tuple[str, bool, str]] = [
        ("box_shift", h.box_shift is None or 0 <= h.box_shift <= 15, "0 to 15"),
        ("width", 1 <= h.width <= SIDE_MAX, "1 to 65536"),
        ("height", 1 <= h.height <= SIDE_MAX, "1 to 65536"),
        ("channels", 1 <= h.channels <= 64, "1 to 64"),
        ("top_k", 1 <= h.top_k <= 32 if topk else h.top_k == 0, "1 to 32 for topk, 0 for sum"),
        (
            "scale_map",
            h.shape == Shape.SCALE_ROTATION or h.scale_map == ScaleMap.RAW,
            "raw unless shape is scale_rotation",
        ),
        ("reach2", 0 < h.reach2 <= 1024, "above 0, up to 1024"),
        ("relative_reach2", q2 >= 0 and (topk or q2 == math.inf), "0 or more for topk, infinity for sum"),
        ("lowpass", 0 <= h.lowpass <= 2.0**20, "0 to 2^20"),
    ]
    for name, ok, expected in checks:
        if not ok:
            yield Problem("E_FIELD", name, expected, str(getattr(h, name)))


def _kind_problems(h: Any, kinds: Sequence[QuantizerKind]) -> Iterator[Problem]:
    """What does not go with lattice quantisers, where there are any. kinds: of the first attributes."""
    lattice = [kind == QuantizerKind.LATTICE for kind in kinds]
    if lattice[0] and (h.shape != Shape.SCALE_ROTATION or h.scale_map != ScaleMap.LOG2 or h.lowpass):
        expected = "scale_rotation, log2 and no lowpass with lattice quantisers"
        yield Problem("E_FIELD", ATTRIBUTES[0], expected, f"{h.shape.name.lower()}, {h.scale_map.name.lower()}")
    for name, same in zip(ATTRIBUTES, lattice, strict=False):
        if same != lattice[0]:
            yield Problem("E_QUANTIZER", name, "kind lattice for all attributes or none", str(list(map(int, kinds))))


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


def parse_header(fields: Mapping[str, Any], cursor: Cursor, limits: Limits) -> tuple[Header, Layout | None]:
    """The header from the fields of ``FIXED`` and the bytes behind it, and the parts, if there are several.

    Moves the cursor behind the groups. Goes from front to back and tells what is wrong first (spec §13): what follows a
    field that decides lengths is not looked at once that field is wrong.
    Raises InvalidFile: E_RESERVED, E_UNKNOWN, E_FIELD, E_PART, E_QUANTIZER, E_GROUP, E_HEAD_BYTES, E_LIMIT_….
    """
    known = _check_fixed(fields, limits)
    flags, channels, num_groups = fields["flags"], fields["channels"], fields["num_groups"]
    layout = parse_layout(cursor, num_groups, channels) if flags & PARTS else None
    attributes = [
        _parse_attributes(fields, feature_columns(known["primitive"], own), cursor)
        for own in ([channels] if layout is None else layout.channels)
    ]
    background_at = cursor.position
    background = np.frombuffer(cursor.take(2 * channels, "background"), "<f2").astype(np.float64)
    if not np.isfinite(background).all():
        expected, found = f"{channels} numbers within ±65504", str(background.tolist())
        raise invalid("E_FIELD", expected, found, background_at, where="background")
    groups = parse_groups(cursor, num_groups, channels, *(() if layout is None else (layout.members, layout.channels)))
    header = Header(groups=groups, background=tuple(background.tolist()), **known, **attributes[0])
    if layout is None:
        return header, None
    parts = [
        dataclasses.replace(part_header(header, layout, number), **({"lattice": None} | own))
        for number, own in enumerate(attributes)
    ]
    return header, dataclasses.replace(layout, headers=tuple(parts))


_ENUMERATED: tuple[tuple[str, type[IntEnum]], ...] = (
    ("level_mode", LevelMode),
    ("blend", Blend),
    ("primitive", Primitive),
    ("shape", Shape),
    ("scale_map", ScaleMap),
)


def _check_fixed(fields: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """What a Header has of the fixed header, apart from quantisers. Raises what is wrong first.

    Where an enumerated field is unknown, what depends on it stands behind it, and is not told.
    """
    faults, flags = Faults(), fields["flags"]
    same = ("channels", "top_k", "box_shift", "reach2", "relative_reach2", "lowpass")
    known: dict[str, Any] = {name: fields[name] for name in same}
    known |= {"width": fields["width"] + 1, "height": fields["height"] + 1}
    for name, kind in _ENUMERATED:
        known[name] = kind(0)
        with faults.noting():
            known[name] = enumerated(kind, fields[name], name, OFFSETS[name])
    if flags & ~(TWO_STAGE | PARTS):
        with faults.noting():
            raise invalid("E_RESERVED", "zero in bits 2–7 of flags", hex(flags), OFFSETS["flags"])
    for name, low, high in (("num_gaussians", 1, 2**32 - 1), ("num_groups", 1, 64), ("num_levels", 1, MAX_LEVELS)):
        if not low <= fields[name] <= high:
            with faults.noting():
                raise invalid("E_FIELD", f"{name} of {low} to {high}", str(fields[name]), OFFSETS[name])
    if flags & PARTS and (fields["num_levels"], known["level_mode"]) != (1, LevelMode.UNION):
        with faults.noting():
            at = OFFSETS["num_levels" if fields["num_levels"] != 1 else "level_mode"]
            found = f"{fields['num_levels']} of mode {known['level_mode'].name.lower()}"
            raise invalid("E_PART", "one level of mode union with parts", found, at)
    h = SimpleNamespace(**known)
    _note(faults, _field_problems(h))
    for name, value, field in (
        ("pixels", known["width"] * known["height"], "height"),
        ("side", max(known["width"], known["height"]), "height"),
        ("gaussians", fields["num_gaussians"], "num_gaussians"),
        ("channels", fields["channels"], "channels"),
    ):
        with faults.noting():
            limits.check(name, value, OFFSETS[field])
    kinds: list[QuantizerKind] = []
    with faults.noting():
        for name in ATTRIBUTES:
            kinds.append(_parse_record(name, fields[name])[0])
    if kinds:
        _note(faults, _kind_problems(h, kinds))
    faults.raise_first()
    return known


def _note(faults: Faults, problems: Iterator[Problem]) -> None:
    for problem in problems:
        with faults.noting():
            at = OFFSETS[problem.field]
            raise invalid(problem.code, problem.expected, problem.found, at, where=problem.field)


def _parse_attributes(fields: Mapping[str, Any], features: int, cursor: Cursor) -> dict[str, Any]:
    """The quantisers, and the record of a lattice, of one part."""
    found: dict[str, Any] = {}
    for name, count in zip(ATTRIBUTES, (2, 2, 1, features), strict=True):
        found[name] = _parse_quantizer(name, fields[name], count, cursor)
    if found[ATTRIBUTES[0]].kind == QuantizerKind.LATTICE:
        start = cursor.position
        record = cursor.take(Lattice.size(features), "the lattice record")
        if record[4 + features] > 1:
            raise invalid("E_QUANTIZER", "ycbcr of 0 or 1", str(record[4 + features]), start + 4 + features)
        found["lattice"] = Lattice.from_bytes(record, features)
        for expected, wrong in found["lattice"].problems():
            raise invalid("E_QUANTIZER", expected, wrong, start, where=ATTRIBUTES[0])
    return found


def _floats(cursor: Cursor, count: int, what: str) -> NDArray[np.float32]:
    start = cursor.position
    values = np.frombuffer(cursor.take(4 * count, what), "<f4")
    if count and not np.isfinite(values).all():
        raise invalid("E_QUANTIZER", f"finite {what}", "NaN or infinity", start)
    return values


def _parse_record(name: str, record: Record) -> tuple[QuantizerKind, bool, int]:
    """Kind, whether shared, and stages of a quantiser record."""
    offset = OFFSETS[name]
    kind = enumerated(QuantizerKind, record.form & KIND, f"{name}.kind", offset)
    shared, stages = bool(record.form & SHARED), record.form >> STAGES
    pair = kind in (QuantizerKind.UNIFORM, QuantizerKind.AFFINE)
    codebook = kind == QuantizerKind.CODEBOOK
    low, high = BITS[kind]
    if shared and not pair:
        raise invalid("E_QUANTIZER", f"{name} not shared", "shared", offset)
    if not (1 <= stages <= 8 if codebook else stages == 0):
        raise invalid("E_QUANTIZER", f"{name}.stages of {'1 to 8' if codebook else '0'}", str(stages), offset)
    if not low <= record.bits <= high:
        raise invalid("E_QUANTIZER", f"{name}.bits from {low} to {high}", str(record.bits), offset + 1)
    return kind, shared, stages


def _parse_quantizer(name: str, record: Record, columns: int, cursor: Cursor) -> Quantizer:
    kind, shared, stages = _parse_record(name, record)
    if kind == QuantizerKind.LATTICE:  # whose parameters stand together behind those of all
        return Quantizer.lattice(columns)
    count, start = parameter_count(kind, record.bits, columns, stages, shared), cursor.position
    parameters = _floats(cursor, count, f"{name} parameters")
    quantizer = quantizer_from_parameters(kind, record.bits, columns, stages, shared, parameters)
    for expected, found in quantizer.problems():
        raise invalid("E_QUANTIZER", expected, found, start, where=name)
    return quantizer


assert FIXED.sizeof() == HEADER_BYTES
